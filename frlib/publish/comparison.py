"""Any set of labels side by side: accuracies, paired differences to one of them, a CSV.

Results are collected as `collected.collect` gives them: {label: {seed: result}}.
"""

from __future__ import annotations

import base64
import csv
import io

import numpy as np

from frlib import evaluate
from frlib.publish.claims import NOT_RUN, best_and_last, difference, find, paper
from frlib.publish.markup import NONE, chance, html_table, percent, points
from frlib.publish.statistics import interval
from frlib.run.files import of_first
from frlib.run.labels import split
from frlib.run.settings import READ_FROM, REGULARISED, decides

METRICS = ("clean", "fgsm", "pgd20", "cw", "aa")
STRENGTHS = {"fr_lambda": "λ", "beta": "β", "awp_gamma": "γ"}  # a regulariser's weight, its symbol
TRANSFORMS = {"class": "equation 2", "batch-class": "released transform", "none": "logit pairing"}
COMPARED = ("Accuracy in % with the 95 % interval over images; differences in points, paired image "
            "by image, with their 95 % interval and p.")  # what `table_rows` holds
PAPER = "hollow: paper, WRN-34-10"
REGULARISER = {*STRENGTHS, "fr_transform", "fr_start_epoch", "awp_start_epoch"}


def reading(transform: str = "class", start=0, strength=None) -> str:
    """Which regulariser AT-FR has, in the words of the book: "equation 2, λ 0.005".

    `transform` goes by its name in TRANSFORMS, or its own. It acts from the epoch `start` on; the
    released code's from a later one is "as released". The weight is told where `strength` has it.
    """
    late = int(start) > 0
    words = ["as released" if late and transform == "batch-class"
             else TRANSFORMS.get(transform, transform)]
    words += [f"λ {strength}"] if strength is not None else []
    words += [f"from epoch {start}"] if late else []
    return ", ".join(words)


def reading_of(label: str) -> str:
    """`reading` of a run: "at-fr@fr_lambda=0.005" -> "equation 2, λ 0.005"."""
    changes = dict(change.split("=", 1) for change in split(label)[1])
    return reading(changes.get("fr_transform", "class"), changes.get("fr_start_epoch", 0),
                   changes.get("fr_lambda"))


def short(label: str) -> str:
    """A run in a legend or a table: "at-fr@fr_lambda=0.005" -> "at-fr, equation 2, λ 0.005".

    One that has another regulariser, or differs in more than that, keeps the settings of its label.
    """
    method, changes = split(label)
    changed = {change.partition("=")[0] for change in changes}
    regularised = method in READ_FROM and READ_FROM[method][0] in REGULARISED
    if regularised and changed and changed <= {"fr_transform", "fr_start_epoch", "fr_lambda"}:
        return f"{method}, {reading_of(label)}"
    return label.replace("@", ", ")


def beside_averages(labels) -> list[str]:
    """The labels, AT first, each average after the run that it averages."""
    def place(label: str) -> tuple:
        method, changes = split(label)
        return method not in ("at", "at-swa"), changes, method
    return sorted(labels, key=place)


def common_images(results: dict, metric: str) -> int:
    """How many first test images every one of these results has under an attack, the least of them;
    0 where none has it."""
    return min((s["total"] for label in results
                for s in find(results, label, "scores", metric).values()), default=0)


def first_images(results: dict, count: int) -> dict:
    """The same results with their scores on the first `count` test images alone."""
    cut = {label: {} for label in results}
    for label, seeds in results.items():
        for seed, result in seeds.items():
            scores = {attack: of_first(stored, count) if "flags" in stored else stored
                      for attack, stored in result.get("scores", {}).items()}
            cut[label][seed] = {**result, "scores": scores}
    return cut


def at_checkpoint(results: dict, which: str) -> dict:
    """The same results with the scores of each run's "best" or "last" checkpoint, as far as judged.

    "best" is the one that validation likes best. ValueError for another word.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which = {which!r}: choose 'best' or 'last'")
    found = {}
    for label, seeds in results.items():
        best, last = best_and_last(results, label)
        where = best if which == "best" else last
        found[label] = {seed: {**result, "scores": result.get(where, {})}
                        for seed, result in seeds.items()}
    return found


def columns(results: dict, metrics=None) -> dict[str, tuple[str, dict]]:
    """{head: (attack, results to read it from)}: a head says on which images its column is.

    metrics: by default METRICS and every other attack that a result has.

    Where AutoAttack had fewer images than the others, its head says how many, and PGD-20 and C&W
    stand a second time behind it, on the same images.
    """
    titles = heads(results)
    metrics = metrics or tuple(titles)
    found = {titles[metric]: (metric, results) for metric in metrics}
    count = common_images(results, "aa") if "aa" in metrics else 0
    if not 0 < count < common_images(results, "clean"):
        return found
    del found[titles["aa"]]
    same = first_images(results, count)
    return {**found, f"{titles['aa']} (first {count:,})": ("aa", same), **{
        f"{titles[metric]}, same {count:,}": (metric, same) for metric in ("pgd20", "cw")
        if metric in metrics}}


def accuracy(results: dict, label: str, metric: str) -> dict | None:
    """The `mean` of a label under an attack; None where it was not run."""
    return mean(find(results, label, "scores", metric))


def mean(scores: dict[int, dict]) -> dict | None:
    """{"share", "low", "high", "spread", "seeds", "images"} of the scores {seed: score}.

    The share is the mean over the seeds, the interval that of one set of images, the spread the
    sample standard deviation over the seeds (None for one); fractions. None for no scores.
    """
    if not scores:
        return None
    shares = [s["correct"] / s["total"] for s in scores.values()]
    images = min(s["total"] for s in scores.values())
    share = float(np.mean(shares))
    low, high = interval(share * images, images)
    return {"share": share, "low": low, "high": high, "seeds": len(shares), "images": images,
            "spread": float(np.std(shares, ddof=1)) if len(shares) > 1 else None}


def heads(results: dict) -> dict[str, str]:
    """{attack: the head of its column}: METRICS, then a reader's own where a result has them."""
    own = {name for seeds in results.values() for result in seeds.values()
           for name, score in result.get("scores", {}).items()
           if "correct" in score} - set(METRICS)  # those of the lens are by network
    titles = paper()["table2"]["column_titles"]
    return {**{metric: titles[metric] for metric in METRICS},
            **{name: evaluate.TITLES.get(name, name) for name in sorted(own)}}


def compared(results: dict, labels, base: str) -> dict:
    """{label: {metric: {"accuracy", "difference"}}}, each as `accuracy` and `claims.difference`
    give it, None where it was not run. ValueError for a base that is not among the labels."""
    if base not in labels:
        raise ValueError(f"base = {base!r}: must be one of the labels, {', '.join(labels)}")
    rows = {label: {} for label in labels}
    for label in labels:
        for metric in heads(results):
            change = difference(results, label, base, metric) if label != base else None
            rows[label][metric] = {"accuracy": accuracy(results, label, metric),
                                   "difference": change}
    return rows


def table(results: dict, labels, base: str, preset: str = "", metrics=None) -> str:
    """`table_rows` in HTML, and a link that holds the same as CSV. ValueError for a base that is
    not among the labels."""
    caption = f"Preset {preset}. " * bool(preset) + COMPARED
    return html_table(preset, *table_rows(results, labels, base, metrics), caption=caption) \
        + _download(as_csv(results, labels, base))


def table_rows(results: dict, labels, base: str, metrics=None) -> tuple[list, list]:
    """The head, and two rows a label: accuracies in %, and below them the differences to the base,
    where it was run."""
    shown = {label: results[label] for label in labels if label in results}
    head, rows = columns(shown, metrics), []
    for label in labels:
        rows.append([short(label), *(cell(accuracy(view, label, metric))
                                     for metric, view in head.values())])
        found = [difference(view, label, base, metric) for metric, view in head.values()]
        most = max(len(results.get(name, {})) for name in (label, base))
        if label != base and any(found):
            rows.append([f"minus {short(base)}", *(_change(change, most) for change in found)])
    return ["Run", *head], rows


def cell(found: dict | None) -> str:
    """A `mean` in percent, with its interval and its spread over seeds."""
    if found is None:
        return NOT_RUN
    spread = "" if found["spread"] is None else \
        f" ± {100 * found['spread']:.1f} ({found['seeds']} seeds)"
    return percent(found["share"], found["low"], found["high"]) + spread


def _download(text: str) -> str:
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="compared.csv" href="data:text/csv;base64,{data}">the same as CSV</a>'


def _change(found: dict | None, seeds: int) -> str:
    """A difference in points; of fewer seeds than one of its sides has, it says of how many."""
    if found is None:
        return NONE
    text = f"{points(found['left'] - found['right'], *found['interval'])}, {chance(found['p'])}"
    shared = found["seeds"]
    return text if shared == seeds else f"{text}, of {shared} shared seed{'s' * (shared > 1)}"


def as_text(results: dict, labels, base: str) -> str:
    """Accuracies in %, a line a label, for a terminal."""
    wide = max(map(len, labels))
    lines = [" " * wide + "".join(f"{metric:>18}" for metric in heads(results))]
    for label, row in compared(results, labels, base).items():
        cells = (found["accuracy"] for found in row.values())
        texts = (NOT_RUN if c is None else f"{100 * c['share']:.1f}" + (
            "" if c["spread"] is None else f" ± {100 * c['spread']:.1f}") for c in cells)
        lines.append(f"{label:<{wide}}" + "".join(f"{text:>18}" for text in texts))
    return "\n".join(lines)


def as_csv(results: dict, labels, base: str) -> str:
    """One line for each label and attack; shares in [0, 1], differences in points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["label", "attack", "accuracy", "low", "high", "sd_over_seeds", "seeds",
                     "images", "base", "difference", "difference_low", "difference_high", "p",
                     "shared_seeds"])
    for label, row in compared(results, labels, base).items():
        for metric, found in row.items():
            ours, change = found["accuracy"] or {}, found["difference"]
            paired = [base, change["left"] - change["right"], *change["interval"], change["p"],
                      change["seeds"]] if change else [""] * 6
            writer.writerow([label, metric, *(ours.get(key, "") for key in (
                "share", "low", "high", "spread", "seeds", "images")), *paired])
    return out.getvalue()


def trade_off(results: dict, labels, metric: str = "aa") -> dict:
    """{label: (clean, robust)}, each (share, low, high), of the labels that were run: where they
    stand in `plots.frontier`. Both sides are on the images of the attack."""
    same = first_images(results, common_images(results, metric))
    found = {label: [accuracy(same, label, name) for name in ("clean", metric)]
             for label in labels}
    return {label: tuple((side["share"], side["low"], side["high"]) for side in sides)
            for label, sides in found.items() if None not in sides}


def grouped(results: dict) -> dict[str, dict[str, str]]:
    """{group: {label: its strength}} of the attacked methods: one regulariser at all its weights.

    In a group, as "AT-FR, equation 2", from the weakest to the strongest, "λ 0.005" to "λ 0.1".
    Without natural training, and without labels that change more than the regulariser.
    """
    found: dict[str, dict] = {}
    for label in results:
        method, changes = split(label)
        changed = dict(change.split("=", 1) for change in changes)
        config = next(iter(find(results, label, "config").values()), {})
        if method not in READ_FROM or method == "natural" or not config \
                or not changed.keys() <= REGULARISER:
            continue
        name = [paper()["table2"]["row_titles"].get(method, method.upper())]
        if READ_FROM[method][0] in REGULARISED:
            name.append(reading(config.get("fr_transform", "class"),
                                changed.get("fr_start_epoch", 0)))
        if "awp_start_epoch" in changed:
            name.append(f"from epoch {changed['awp_start_epoch']}")
        strength = {key: config[key] for key in STRENGTHS if key in config and decides(key, method)}
        found.setdefault(", ".join(name), {})[label] = strength
    return {name: {label: ", ".join(f"{STRENGTHS[key]} {value:g}" for key, value in s.items())
                   for label, s in sorted(group.items(), key=lambda item: [*item[1].values()])}
            for name, group in found.items()}


def frontier(results: dict, metric: str = "aa") -> dict:
    """{group: {strength: (clean, robust)}} as `plots.frontier` takes it.

    The paper's row of a method stands in its group, as PAPER and without an interval; for FR, in
    that of equation 2.
    """
    pairs, found, table2 = trade_off(results, results, metric), {}, paper()["table2"]
    for name, group in grouped(results).items():
        found[name] = {text: pairs[label] for label, text in group.items() if label in pairs}
    for method, row in table2["rows"].items():
        name = table2["row_titles"][method] + ", equation 2" * (READ_FROM[method][0] in REGULARISED)
        found.setdefault(name, {})[PAPER] = tuple((row[side] / 100, None, None)
                                                  for side in ("clean", metric))
    return {name: group for name, group in sorted(found.items()) if group}
