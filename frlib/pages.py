"""What the notebooks show: which results, as lines for `plots` and as small tables.

"Collected" results are what `report.collect` gives: {label: {seed: result}}.
"""

from __future__ import annotations

import numpy as np

from frlib import report
from frlib.config import Config, project_root, resolve
from frlib.train import criterion
from frlib.verdict import interval, paper

PUBLISHED = "mini"  # the preset of the committed results that stand in for smoke
SERIES = {  # columns of a run's history that are accuracies, and their names on a figure
    "val_clean": "clean, validation", "test_clean": "clean, test", "val_pgd": "PGD, validation",
    "test_pgd": "PGD, test", "swa_test_pgd": "averaged, PGD, test",
    "loss_ce": "cross-entropy", "loss_fr": "FR term"}


def mark(preset: str) -> str | None:
    """The warning that figures of the smoke preset carry."""
    return report.SMOKE_MARK if preset == "smoke" else None


def shown(config: Config, show: str = "") -> tuple[str, dict]:
    """The preset whose numbers a page shows, and its collected results.

    `show` if given; else the config's own preset, but the committed "mini" results where the
    config's is only smoke. This machine's results stand before committed ones.
    """
    committed = project_root() / "results"
    name = show or config.preset_name
    if not show and name == "smoke" and any(committed.glob(f"{PUBLISHED}/*/seed*.json")):
        name = PUBLISHED
    return name, report.collect(name, resolve(config.runs_dir) / "results", committed)


def shown_figures(config: Config, show: str = "") -> tuple[str, dict]:
    """The preset and what notebook 05 wrote for it; the config's own where `show` has none."""
    for candidate in (show, config.preset_name):
        name, collected = shown(config, candidate)
        if "figures" in collected:
            return name, first(collected["figures"], config.seed)
    raise FileNotFoundError(f"no figures of preset {name!r}: run notebooks 01 to 03 first")


def first(by_seed: dict, seed: int = 0) -> dict:
    """The result of `seed` if it is there, else of the lowest seed."""
    return by_seed.get(seed, by_seed[min(by_seed)])


def histories(collected: dict, labels) -> dict[str, list[dict]]:
    """{label: history}, for those labels that have a result."""
    return {label: first(collected[label])["history"] for label in labels if label in collected}


def short(label: str) -> str:
    """A label for a legend: "at-fr@fr_transform=batch-class" -> "at-fr, batch-class"."""
    return label.replace("@", ", ").replace("fr_transform=", "")


def lines(history: dict[str, list[dict]], keys) -> list[dict]:
    """Lines for `plots.curves` and `plots.losses`: a colour per label, a dash per key."""
    return [{"label": f"{short(label)}: {SERIES[key]}", "group": label, "style": key,
             "epochs": [row["epoch"] for row in rows], "values": [row.get(key) for row in rows]}
            for label, rows in history.items() for key in keys if any(key in row for row in rows)]


def drops(history: dict[str, list[dict]]) -> list[float]:
    """Where the learning rate falls to less than half, between two epochs."""
    return sorted({(before["epoch"] + after["epoch"]) / 2 for rows in history.values()
                   for before, after in zip(rows, rows[1:], strict=False)
                   if after["lr"] < before["lr"] / 2})


def best_epoch(label: str, rows: list[dict], prefix: str = "") -> dict:
    """The epoch that validation chooses, of equals the first; prefix "swa_": of the average."""
    key = prefix + criterion(label.partition("@")[0])
    return max((row for row in rows if key in row), key=lambda row: row[key])


def best(history: dict[str, list[dict]], key: str) -> dict[str, int]:
    """The epoch that validation chooses, for each line `key`, as `plots.curves` rings it."""
    return {f"{short(label)}: {SERIES[key]}": best_epoch(label, rows)["epoch"]
            for label, rows in history.items() if any(key in row for row in rows)}


def grid(rows: dict[str, dict[str, float]], preset: str) -> str:
    """{row: {column: accuracy in [0, 1]}} as a table in percent."""
    columns = list(next(iter(rows.values())))
    return report.html_table(preset, ["", *columns], [
        [name, *(f"{100 * row[c]:.1f} %" for c in columns)] for name, row in rows.items()])


def history_table(history: dict[str, list[dict]], preset: str) -> str:
    """The chosen and the last epoch of every run."""
    rows = []
    for label, epochs in history.items():
        for what, row in (("best on validation", best_epoch(label, epochs)), ("last", epochs[-1])):
            rows.append([label, what, row["epoch"], f"{row['loss_ce']:.3f}",
                         *(f"{100 * row[k]:.1f}" for k in
                           ("val_clean", "val_pgd", "test_clean", "test_pgd")),
                         f"{row['seconds']:.0f} s"])
    return report.html_table(preset, ["run", "epoch", "", "cross-entropy", "val. clean %", "val. PGD %",
                                      "test clean %", "test PGD %", "time"], rows)


def seen(history: dict[str, list[dict]], preset: str, averaged: bool = False) -> str:
    """What the curves say, in sentences made from their numbers."""
    if not history:
        return f"No results of preset `{preset}`: not run."
    sentences = []
    for label, rows in history.items():
        row, last = best_epoch(label, rows), rows[-1]
        sentences.append(
            f"**{label}** ({preset}): validation chooses epoch {row['epoch']} of {len(rows)}, with "
            f"{100 * row['test_clean']:.1f} % clean and {100 * row['test_pgd']:.1f} % PGD accuracy "
            f"on the test images of the curves; the last has {100 * last['test_clean']:.1f} % "
            f"and {100 * last['test_pgd']:.1f} %.")
        if averaged and "swa_val_pgd" in last:
            row = best_epoch(label, rows, "swa_")
            sentences.append(f"Its averaged weights: {100 * row['swa_test_clean']:.1f} % and "
                             f"{100 * row['swa_test_pgd']:.1f} % at epoch {row['epoch']}.")
    return "\n\n".join(sentences)


def low_pass_lines(figures: dict) -> dict:
    """Table 1 as `plots.low_pass_accuracy` takes it."""
    rows = {**figures["table1"]}
    if figures["full_scale"]:
        rows["natural, ResNet-18"] = figures["full_scale"]
    found = {}
    for model, inputs in rows.items():
        for name, scores in inputs.items():
            ends = [interval(s["correct"], s["total"]) for s in scores.values()]
            found[f"{model}, {name}"] = (
                [int(b) for b in scores], [s["correct"] / s["total"] for s in scores.values()],
                [low for low, _ in ends], [high for _, high in ends])
    return found


def low_pass_table(figures: dict, preset: str) -> str:
    """Table 1 as HTML, in percent with 95 % intervals."""
    found = low_pass_lines(figures)
    head = ["", *(str(b) for b in next(iter(found.values()))[0])]
    rows = [[label, *(report.percent(*ends) for ends in zip(*numbers, strict=True))]
            for label, (_, *numbers) in found.items()]
    return report.html_table(preset, head, rows)


def benchmark_table(results: dict[str, dict], preset: str) -> str:
    """{label: result} as a table: one row per method, an attack per column."""
    found = report.bars({label: {result["seed"]: result} for label, result in results.items()})
    titles = paper()["table2"]["column_titles"].values()
    rows = [[label, *(report.percent(*row[title]) for title in titles)]
            for label, row in found.items()]
    return report.html_table(preset, ["", *titles], rows)


def arrays(lists: dict) -> dict[str, np.ndarray]:
    """{label: nested lists} as {label: array}."""
    return {short(label): np.asarray(values, dtype=float) for label, values in lists.items()}


def spectrum_rows(figures: dict) -> list[dict]:
    """Figure 2 as `plots.spectra` takes it, with the model and the example of each row."""
    return [{"title": f"{model}\n{example}", "model": model, "example": example,
             "clean_spectrum": np.asarray(spectra["clean"]),
             "adv_spectrum": np.asarray(spectra["adv"]),
             "difference": np.asarray(spectra["difference"])}
            for model, examples in figures["spectra"].items()
            for example, spectra in examples.items()]
