"""Any set of labels side by side: accuracies, paired differences to one of them, a CSV.

Results are collected as `book_tables.collect` gives them: {label: {seed: result}}.
"""

from __future__ import annotations

import csv
import io

import numpy as np

from frlib import evaluate
from frlib.publish.claims import NOT_RUN, difference, find, paper
from frlib.publish.markup import NONE, chance, html_table, percent, points
from frlib.publish.statistics import interval

METRICS = ("clean", "fgsm", "pgd20", "cw", "aa")


def accuracy(results: dict, label: str, metric: str) -> dict | None:
    """{"share", "low", "high", "spread", "seeds", "images"} of a label under an attack.

    The share is the mean over the seeds, the interval that of one set of images, the spread the
    sample standard deviation over the seeds (None for one); fractions. None where it was not run.
    """
    scores = list(find(results, label, "scores", metric).values())
    if not scores:
        return None
    shares = [s["correct"] / s["total"] for s in scores]
    images = min(s["total"] for s in scores)
    share = float(np.mean(shares))
    low, high = interval(share * images, images)
    return {"share": share, "low": low, "high": high, "seeds": len(shares), "images": images,
            "spread": float(np.std(shares, ddof=1)) if len(shares) > 1 else None}


def heads(results: dict) -> dict[str, str]:
    """{attack: the head of its column}: METRICS, then a reader's own where a result has them."""
    own = {name for seeds in results.values() for result in seeds.values()
           for name in result.get("scores", {})} - set(METRICS)
    titles = paper()["table2"]["column_titles"]
    return {**{metric: titles[metric] for metric in METRICS},
            **{name: evaluate.TITLES.get(name, name) for name in sorted(own)}}


def compared(results: dict, labels, base: str) -> dict:
    """{label: {metric: {"accuracy", "difference"}}}, each as `accuracy` and `claims.difference`
    give it, None where it was not run. ValueError for a base that is not among the labels."""
    if base not in labels:
        raise ValueError(f"base = {base!r}: must be one of the labels, {', '.join(labels)}")
    return {label: {metric: {
        "accuracy": accuracy(results, label, metric),
        "difference": difference(results, label, base, metric) if label != base else None}
        for metric in heads(results)} for label in labels}


def table(results: dict, labels, base: str, preset: str = "", metrics=None) -> str:
    """Two HTML rows a label: accuracies in %, and below them the differences to the base."""
    titles, rows = heads(results), []
    metrics = metrics or tuple(titles)
    for label, row in compared(results, labels, base).items():
        rows.append([label, *(_cell(row[metric]["accuracy"]) for metric in metrics)])
        if label != base:
            rows.append([f"minus {base}", *(_change(row[metric]["difference"])
                                            for metric in metrics)])
    return html_table(preset, ["", *(titles[metric] for metric in metrics)], rows, caption=(
        "Accuracy in % with the 95 % interval over images; differences in points, paired image by "
        "image, with their 95 % interval and p."))


def _cell(found: dict | None) -> str:
    if found is None:
        return NOT_RUN
    spread = "" if found["spread"] is None else \
        f" ± {100 * found['spread']:.1f} ({found['seeds']} seeds)"
    return percent(found["share"], found["low"], found["high"]) + spread


def _change(found: dict | None) -> str:
    return NONE if found is None else \
        f"{points(found['left'] - found['right'], *found['interval'])}, {chance(found['p'])}"


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
                     "images", "base", "difference", "difference_low", "difference_high", "p"])
    for label, row in compared(results, labels, base).items():
        for metric, found in row.items():
            ours, change = found["accuracy"] or {}, found["difference"]
            paired = [base, change["left"] - change["right"], *change["interval"], change["p"]] \
                if change else [""] * 5
            writer.writerow([label, metric, *(ours.get(key, "") for key in (
                "share", "low", "high", "spread", "seeds", "images")), *paired])
    return out.getvalue()


def trade_off(results: dict, labels, metric: str = "aa") -> dict:
    """{label: (clean, robust)} as `plots.frontier` takes it: each as `accuracy` gives it."""
    found = {label: (accuracy(results, label, "clean"), accuracy(results, label, metric))
             for label in labels}
    return {label: pair for label, pair in found.items() if None not in pair}
