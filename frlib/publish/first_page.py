"""The first page: what holds, what does not, at which scale, and one picture; all from verdicts."""

from __future__ import annotations

import html
from collections import Counter

from frlib.publish import plots
from frlib.publish.claims import (
    CONTRADICTED,
    NOT_RUN,
    REPRODUCED,
    SMALLER,
    UNDECIDED,
    VERDICTS,
    deciding,
    evidence,
    find,
    paper,
    reasoned,
    released,
)
from frlib.publish.markup import SMOKE, SMOKE_MARK
from frlib.run.labels import split

FOREST = "forest.svg"  # beside headline.md
FIGURE = """```{{figure}} generated/{file}
:name: fig-forest
:alt: {alt}
:width: 100%
:figclass: forest

{shown} of the {claims} claims, as differences; of several rivals, the one against which ours comes
out worst.
```
"""
NUMERALS = "Zero One Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve".split()


def headline(preset: str, results: dict, larger: dict | None = None) -> str:
    """The verdicts counted, a line on what was trained, and the forest plot.

    larger: {preset: results} of larger scale, best first; a claim whose runs are all in one of them
    is judged there (`claims.deciding`), and named after it.
    """
    rows = forest(preset, results, larger)
    shown = NUMERALS[len(rows)] if len(rows) < len(NUMERALS) else len(rows)
    figure = FIGURE.format(file=FOREST, alt=in_words(rows), shown=shown,
                           claims=len(paper()["statements"]))
    return (f"{_mark(preset)}{counted(preset, results, larger)}\n\n"
            f"{scales(preset, results, larger)}\n\n{figure}\n")


def verdicts(preset: str, results: dict, larger: dict | None = None) -> str:
    """Three sentences on the verdicts, and the line on what was trained."""
    told = sentences(preset, results, larger)
    return f"{_mark(preset)}{told}\n\n{scales(preset, results, larger)}\n"


def counted(preset: str, results: dict, larger: dict | None = None) -> str:
    """How many claims have which verdict, and which ones are contradicted."""
    statements = paper()["statements"]
    found = [reasoned(s, deciding(s, preset, results, larger or {})[1]) for s in statements]
    counts = Counter(verdict for verdict, _ in found)
    against = "; ".join(s.get("headline", _lower(s["text"]))
                        for s, (verdict, _) in zip(statements, found, strict=True)
                        if verdict == CONTRADICTED)
    holds = "is" if counts[REPRODUCED] < 2 else "are"
    smaller = f" and {counts[SMALLER]} smaller than published" * bool(counts[SMALLER])
    told = [f"Of {len(found)} claims {counts[REPRODUCED] or 'none'} {holds} reproduced"
            + smaller]
    if against:
        told.append(f"{_are(counts[CONTRADICTED])} contradicted: {against}")
    if counts[UNDECIDED]:
        told.append(f"{counts[UNDECIDED]} cannot be decided at this scale")
    if counts[NOT_RUN]:
        told.append(f"{_are(counts[NOT_RUN])} not run")
    again = [verdict for _, verdict in _released(preset, results, larger)]
    if again:
        against = again.count(CONTRADICTED) or "none"
        told.append("Where a claim is about the regulariser, it is judged by equation 2, as the "
                    "paper prints it; as its code was released, "
                    f"{again.count(REPRODUCED) or 'none'} of the {len(again)} claims about it are "
                    f"reproduced, {against} contradicted")
    return ". ".join(told) + "."


def _released(preset: str, results: dict, larger: dict | None) -> list[tuple[dict, str]]:
    """The statements about the regulariser that were run with it as released, and the verdicts."""
    found = [(s, released(s, preset, results, larger or {})) for s in paper()["statements"]]
    return [(s, reasoned(s, other[1])[0]) for s, other in found if other]


def as_released(preset: str, results: dict, larger: dict | None = None) -> str:
    """What becomes of the claims about the regulariser if it is as released; "" if not run so."""
    found = _released(preset, results, larger)
    if not found:
        return ""

    def those(verdict):
        chosen = [s for s, told in found if told == verdict]
        named = [s["headline"] for s in chosen if "headline" in s]
        count = len(chosen) if verdict == UNDECIDED else _are(len(chosen))  # "4 cannot be ..."
        some = "among them: " * (len(named) < len(chosen))
        return f"{count} {verdict}" + f" ({some}{'; '.join(named)})" * bool(named)

    verdicts = dict.fromkeys(told for _, told in sorted(
        found, key=lambda pair: VERDICTS.index(pair[1])))
    return (f"With the regulariser as its code was released, which is not equation 2, of "
            f"{len(found)} claims about it {', '.join(map(those, verdicts))}")


def sentences(preset: str, results: dict, larger: dict | None = None) -> str:
    """What holds, what does not, and what cannot be told here, with the reasons."""
    statements = paper()["statements"]
    found = {s["id"]: reasoned(s, deciding(s, preset, results, larger or {})[1])
             for s in statements}

    def those(verdict, what, some=", among them"):
        """"3 are <what>, among them: <those with a headline>", "" for none."""
        chosen = [s for s in statements if found[s["id"]][0] == verdict]
        named = "; ".join(s["headline"] if "headline" in s else _lower(s["text"])
                          for s in chosen if "headline" in s or verdict in (CONTRADICTED, SMALLER))
        return f"{_are(len(chosen))} {what}{f'{some}: {named}' * bool(named)}." if chosen else ""

    undecided = sum(verdict == UNDECIDED for verdict, _ in found.values())
    return "\n\n".join(filter(None, [
        f"**What holds.** Of {len(found)} claims "
        + (those(REPRODUCED, "reproduced") or "none is reproduced."),
        " ".join(filter(None, ["**What does not.**",
                               those(CONTRADICTED, "contradicted", "") or "None is contradicted.",
                               those(SMALLER, "smaller than published", "")])),
        f"**What cannot be decided at this scale.** {_are(undecided)} open: "
        f"{_reasons(found.values())}." if undecided else "",
        those(NOT_RUN, "not run"),
        f"**As released.** {again}." if (again := as_released(preset, results, larger)) else ""]))


def _mark(preset: str) -> str:
    return SMOKE if preset == "smoke" else ""


def _reasons(found) -> str:
    """Why claims are undecided, and how many for that reason."""
    reasons = Counter(reason for verdict, reason in found if verdict == UNDECIDED)
    return "; ".join(f"{reason.partition(':')[0]} ({n})" for reason, n in reasons.most_common())


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:].removesuffix(".")


def scales(preset: str, results: dict, larger: dict | None = None) -> str:
    """The `scale` of every preset that decides a claim, in one line."""
    counts = Counter(deciding(s, preset, results, larger or {})[0] for s in paper()["statements"])
    others = [f"Trained for the {counts[name]} claims of preset {name}: {trained(found)}."
              for name, found in (larger or {}).items() if counts[name]]
    line = scale(preset, results, "For the others" if others else "Trained")
    return " ".join([*others, line])


def scale(preset: str, results: dict, what: str = "Trained") -> str:
    """One line: what was trained on how many images, and that the paper's network was not."""
    published, told = paper()["table2"]["conditions"]["architecture"], trained(results)
    if not told:
        return f"Nothing of preset {preset} was run; neither was {published.upper()}."
    line = f"{what}: {told}."
    return line if published in told else \
        f"{line} {published.upper()}, the network of the paper's Table 2, was not run."


def trained(results: dict) -> str:
    """Network, epochs, images and seeds of a preset, and what judged them; "" for no results."""
    configs = [config for label in results if not split(label)[1]
               for config in find(results, label, "config").values() if "epochs" in config]

    def all_of(show):
        return " / ".join(dict.fromkeys(str(show(config)) for config in configs))

    if not configs:
        return ""
    networks = all_of(lambda c: c["model"])
    images = all_of(lambda c: f"{c['train_size']:,}" if c["train_size"] else _all(c["dataset"]))
    counts = {len(seeds) for label in results if (seeds := find(results, label, "scores"))}
    fewest, most = min(counts), max(counts)
    seeds = f"{most} seed{'s' * (most > 1)}" if fewest == most else f"{fewest} to {most} seeds"
    tested = all_of(lambda c: f"{c['judge_images']:,}" if c["judge_images"] else "all")
    attacked = all_of(lambda c: f"{c['aa_images']:,}" if c["aa_images"] else "all")
    return (f"{networks}, {all_of(lambda c: c['epochs'])} epochs on {images} training images of "
            f"{all_of(lambda c: c['dataset'])}, {seeds}; judged on "
            f"{tested} test images, {attacked} for AutoAttack")


def _all(dataset: str) -> str:
    """"all", and how many, where claims.yml says it."""
    said = paper()["settings"]
    return f"all {said['split']['train']:,}" if dataset == said["dataset"] else "all"


def forest(preset: str, results: dict, larger: dict | None = None) -> list[dict]:
    """The claims with a headline as `plots.forest` takes them; of several comparisons the worst.

    A claim that another preset decides than most of them names it. "released": the same of the
    regulariser as released, ("ours", "verdict"), None where it was not run.
    """
    chosen = [(s, *deciding(s, preset, results, larger or {})) for s in paper()["statements"]
              if "headline" in s]
    usual = Counter(name for _, name, _ in chosen).most_common(1)[0][0]
    rows = []
    for statement, name, found in chosen:
        worst, verdict = _worst(statement, found)
        printed, again = statement["paper"], released(statement, preset, results, larger or {})
        size = worst["paper"] if worst else printed[0] - printed[1] if printed else None
        told = statement["headline"] + f" ({name})" * (name != usual)
        rows.append({"text": told, "paper": size, "verdict": verdict,
                     "ours": _difference(worst) if worst and verdict != NOT_RUN else None,
                     "released": None})
        if again:
            worst, verdict = _worst(statement, again[1])
            rows[-1]["released"] = {"ours": _difference(worst), "verdict": verdict}
    return rows


def _worst(statement: dict, results: dict) -> tuple[dict | None, str]:
    """The comparison of a statement that comes out worst, None for none; and the verdict."""
    found = [c for c in evidence(statement, results) if c]
    return min(found, key=lambda c: c["left"] - c["right"], default=None), \
        reasoned(statement, results)[0]


def _difference(comparison: dict) -> tuple[float, float, float]:
    return comparison["left"] - comparison["right"], *comparison["interval"]


def in_words(rows: list[dict]) -> str:
    """The alternative text of the forest plot: every row of it."""
    told = []
    for row in rows:
        theirs = "prints none" if row["paper"] is None else f"{row['paper']:+.1f}"
        ours = "{:+.1f}, from {:+.1f} to {:+.1f}".format(*row["ours"]) if row["ours"] else NOT_RUN
        told.append(f"{row['text']}: paper {theirs}, ours {ours}, {row['verdict']}")
        if row["released"]:
            told[-1] += ", as released {:+.1f}, from {:+.1f} to {:+.1f}, {}".format(
                *row["released"]["ours"], row["released"]["verdict"])
    return html.escape("Forest plot of differences in points. " + "; ".join(told) + ".",
                       quote=False)


def picture(preset: str, results: dict, larger: dict | None = None):
    """The forest plot as a matplotlib figure."""
    mark = SMOKE_MARK if preset == "smoke" else None
    return plots.forest(forest(preset, results, larger), mark=mark)
