"""What notebook 10 shows: is it the spectrum that helps, and is the robust accuracy real?

Collected results are what `collected.collect` gives: {label: {seed: result}}; `found` is what
`frlib.run.soundness.soundness` gives.
"""

from __future__ import annotations

import numpy as np

from frlib.publish import comparison
from frlib.publish.claims import NOT_RUN, difference, find, in_points, paper
from frlib.publish.markup import NONE, html_table, percent, points
from frlib.publish.notebook_views import AUTOATTACK_GAP, short
from frlib.publish.statistics import LEVEL, interval, paired_interval, sign_flip
from frlib.run.config import Config, load
from frlib.run.files import flags_of
from frlib.run.labels import split

ATTACKS = ("pgd20", "cw", "aa")  # by rising strength
CHECKED = {  # parts of the checks of soundness, and what their tables show, in percent
    "scale": "Accuracy under PGD-20 on the cross-entropy of the logits times a factor.",
    "stronger": "Accuracy under attacks with more steps and restarts.",
    "transfer": "Accuracy of each network (column) on the adversarial images of each (row)."}


def titles() -> dict[str, str]:
    """{attack: its name on the page}."""
    return {attack: paper()["table2"]["column_titles"][attack] for attack in ATTACKS}


# ---- the difference under a transform

def ratios_table(ratios: dict[str, dict[str, float]], preset: str) -> str:
    """{kind of difference: {transform: loss over that without a transform}} as a table."""
    columns = list(dict.fromkeys(name for row in ratios.values() for name in row))
    return html_table(preset, ["difference", *columns], [
        [kind, *(f"{row[name]:.2f}" if name in row else NONE for name in columns)]
        for kind, row in ratios.items()], caption=(
        "The regulariser of each transform over the plain L1 sum of the same difference."))


# ---- beside AT

def differences(results: dict, labels, base: str, metrics=None) -> dict:
    """{run: {attack: (difference, low, high, p)}}, its gain over `base` in points, as
    `plots.differences` takes it; metrics: as `comparison.columns` has them.

    Where AutoAttack had fewer images, its head says how many. A run without any is left out.
    """
    shown = {label: results[label] for label in (base, *labels) if label in results}
    heads = comparison.columns(shown, metrics)
    found = {short(label): {
        head: in_points(change) for head, (metric, view) in heads.items()
        if not head.count(", same ") and (change := difference(view, label, base, metric))}
        for label in shown if label != base}
    return {name: row for name, row in found.items() if row}


# ---- controls

def controls(config: Config, name: str, results: dict) -> list[str]:
    """AT, AT-FR, and AT-FR under every other transform, at its own λ or another one: as far as the
    preset `name`, which may be the config's own, lists them or has results of them."""
    return ["at", "at-fr", *(label for label, changed in _readings(config, name, results).items()
                             if "fr_transform" in changed and "fr_start_epoch" not in changed)]


def late_controls(config: Config, name: str, results: dict) -> list[str]:
    """AT, AT-FR by equation 2 from a later epoch on, and AT-FR under every other transform from
    that epoch on; AT alone where no such run is listed or there."""
    late = {label: changed for label, changed in _readings(config, name, results).items()
            if "fr_start_epoch" in changed}
    first = next((label for label, changed in late.items() if changed == {"fr_start_epoch"}), None)
    if first is None:
        return ["at"]
    start, = split(first)[1]
    return ["at", first, *(label for label, changed in late.items()
                           if "fr_transform" in changed and start in split(label)[1])]


def _readings(config: Config, name: str, results: dict) -> dict[str, set]:
    """{label: the settings that it changes} of AT-FR with changes in its regulariser alone."""
    preset = config if name == config.preset_name else load(name)
    found = {}
    for label in dict.fromkeys([*preset.runs, *preset.ablations, *results]):
        method, changes = split(label)
        changed = {change.partition("=")[0] for change in changes}
        if method == "at-fr" and changed <= {"fr_transform", "fr_lambda", "fr_start_epoch"}:
            found[label] = changed
    return found


# ---- the front of clean and robust accuracy

def panels(results: dict) -> dict:
    """{attack and its number of images: groups} as `plots.frontier` takes it.

    The lines of equation 2 begin at AT, and at AT-SWA: they are it at a weight of 0.
    """
    found = {f"{title}, first {comparison.common_images(results, attack):,} test images":
             comparison.frontier(results, attack) for attack, title in titles().items()
             if comparison.common_images(results, attack)}
    titled, law = paper()["table2"]["row_titles"], comparison.TRANSFORMS["class"]
    for groups in found.values():
        for plain, regularised in (("at", "at-fr"), ("at-swa", "at-fr-swa")):
            base = groups.get(titled[plain], {}).get("")
            name = f"{titled[regularised]}, {law}"
            if base and groups.get(name, {}).keys() - {comparison.PAPER}:
                groups[name] = {"λ 0": base} | groups[name]
    return found


def unbeaten(pairs: dict) -> list:
    """The names of {name: (clean, robust)} that no other one beats on both sides."""
    return [name for name, mine in pairs.items() if not any(
        other[0] > mine[0] and other[1] > mine[1] for other in pairs.values())]


def unbeaten_table(results: dict, preset: str) -> str:
    """Which results no other beats on both axes, under each attack; and in the paper's table."""
    labels = [label for group in comparison.grouped(results).values() for label in group]
    table2, rows = paper()["table2"], []
    for attack, title in titles().items():
        ours = {short(label): (clean[0], robust[0]) for label, (clean, robust) in
                comparison.trade_off(results, labels, attack).items()}
        theirs = {table2["row_titles"][method]: (row["clean"], row[attack])
                  for method, row in table2["rows"].items()}
        rows.append([title, "; ".join(unbeaten(ours)) or NOT_RUN, "; ".join(unbeaten(theirs))])
    return html_table(preset, ["Under", "ours", "the paper's"], rows,
                      caption="Not beaten on both axes.")


# ---- what the strongest attack leaves of a gain

def gap(results: dict, label: str) -> tuple[float, float, float] | None:
    """PGD-20 minus AutoAttack of a label in points, with its 95 % interval: on the images of
    AutoAttack, image by image, the mean over the seeds. None where it was not run."""
    flags = [[flags_of(scores[attack]) for attack in ("pgd20", "aa")]
             for scores in find(results, label, "scores").values()
             if {"pgd20", "aa"} <= scores.keys()]
    count = min((len(aa) for _, aa in flags), default=0)
    if not count:
        return None
    lost = np.mean([pgd20[:count] - aa[:count] for pgd20, aa in flags], axis=0)
    return 100 * float(lost.mean()), *(100 * end for end in paired_interval(lost))


def gap_table(results: dict, labels, preset: str) -> str:
    """PGD-20, C&W and AutoAttack on AutoAttack's images, what the last takes, and the paper's."""
    rows, theirs = [], paper()["table2"]["rows"]
    count = comparison.common_images({label: results.get(label, {}) for label in labels}, "aa")
    same = comparison.first_images(results, count)
    for label in labels:
        cells = [comparison.accuracy(same, label, attack) for attack in ATTACKS]
        lost, row = gap(same, label), theirs.get(label)
        rows.append([short(label), *(percent(c["share"], c["low"], c["high"]) if c else NOT_RUN
                                     for c in cells), points(*lost) if lost else NOT_RUN,
                     f"{row['pgd20'] - row['aa']:+.2f}" if row else NONE])
    head = ["Run", *titles().values(), "PGD-20 minus AutoAttack", "in the paper"]
    return html_table(preset, head, rows, caption=(
        f"All on {_first(count)}: accuracy in %, differences in points, with 95 % intervals."))


def gains_table(results: dict, labels, base: str, preset: str) -> str:
    """What each label gains over `base` under each attack, ours and in the paper."""
    rows, theirs = [], paper()["table2"]["rows"]
    count = comparison.common_images({label: results.get(label, {}) for label in labels}, "aa")
    same = comparison.first_images(results, count)
    for label in labels:
        if label == base:
            continue
        cells = []
        for attack in ATTACKS:
            c = difference(same, label, base, attack)
            cells += [points(c["left"] - c["right"], *c["interval"]) if c else NOT_RUN,
                      f"{theirs[label][attack] - theirs['at'][attack]:+.2f}"
                      if label in theirs and split(base)[0] == "at" else NONE]
        rows.append([short(label), *cells])
    heads = [head for title in titles().values() for head in (title, "in the paper")]
    return html_table(preset, [f"minus {short(base)}", *heads], rows, caption=(
        f"Gain over {short(base)} in points, ours on {_first(count)}, with 95 % intervals of the "
        "paired difference."))


def stages_table(results: dict, labels, preset: str) -> str:
    """How many images AutoAttack leaves after each of its stages, of those it began with."""
    found = {label: [s["stages"] for s in find(results, label, "scores", "aa").values()
                     if s.get("stages")] for label in labels}
    columns = list(dict.fromkeys(name for rows in found.values() for s in rows for name in s))
    rows = [[short(label), *(" / ".join(str(s.get(name, NONE)) for s in each) or NOT_RUN
                             for name in columns or [""])] for label, each in found.items()]
    return html_table(preset, ["Run", *(columns or ["AutoAttack"])], rows, caption=(
        "Images that are still right after each stage, seed by seed; each stage attacks what the "
        "one before has left."))


# ---- soundness

def radius_lines(found: dict) -> dict:
    """{label: (radii in 1/255, accuracies, lows, highs)} as `plots.by_radius` takes it."""
    lines = {}
    for label, scores in found.get("radius", {}).items():
        ends = [interval(s["correct"], s["total"]) for s in scores.values()]
        lines[short(label)] = (list(map(float, scores)), [_share(s) for s in scores.values()],
                               *map(list, zip(*ends, strict=True)))
    return lines


def checks_table(found: dict, part: str, preset: str, head: str) -> str:
    """{label or source: {check: score}} of one part of the checks, in percent with intervals."""
    rows = found.get(part, {})
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    return html_table(preset, [head, *map(short, columns)], [
        [short(label), *(percent(_share(s), *interval(s["correct"], s["total"]))
                         for s in (row[name] for name in columns))]
        for label, row in rows.items()] or [[NOT_RUN]], caption=CHECKED[part])


def doubts(found: dict) -> dict[str, list[str]]:
    """{label: what speaks against its robust accuracy}, [] for nothing.

    Images left at the largest radius; beside PGD-20, a rescaled loss or another network's images
    that break more beyond chance, or a stronger attack that breaks as many more as `masking` calls
    suspicious.
    """
    told = {}
    for label, scores in found.get("scale", {}).items():
        plain, (largest, last) = scores["1"], list(found["radius"][label].items())[-1]
        told[label] = [f"{last['correct']} of {last['total']} images hold at {largest}/255"] \
            if last["correct"] else []
        others = {f"logits times {factor}": s for factor, s in scores.items()} | {
            f"the images of {short(source)}": row[label]
            for source, row in found["transfer"].items() if source != label and label in row}
        lost = {name: flags_of(plain) - flags_of(s) for name, s in others.items()}
        beyond = [name for name, d in lost.items() if d.sum() > 0 and sign_flip(d) < LEVEL]
        for name, s in found["stronger"][label].items():
            lost[name] = flags_of(plain) - flags_of(s)
            if interval(max(0, lost[name].sum()), len(lost[name]))[0] > AUTOATTACK_GAP:
                beyond.append(name)
        told[label] += [f"{name}: {lost[name].sum()} more broken" for name in beyond]
    return told


def doubts_table(found: dict, preset: str) -> str:
    """What speaks against each network's robust accuracy, as HTML."""
    told = doubts(found)
    rows = [[short(label), "no image holds" if not found["scale"][label]["1"]["correct"]
             else "; ".join(words) or "nothing"] for label, words in told.items()]
    caption = f"Checks on {found['images']} images." if told else ""
    return html_table(preset, ["Network", "what speaks against its robust accuracy"],
                      rows or [[NOT_RUN, NONE]], caption=caption)


def _first(count: int) -> str:
    return f"the first {count:,} test images" if count else "the same images"


def _share(score: dict) -> float:
    return score["correct"] / score["total"]
