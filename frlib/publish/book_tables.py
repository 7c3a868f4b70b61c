"""Collected results in, the book's tables out; those of the claims are in claims_tables.

Nothing is typed in: a figure of the paper comes from book/claims.yml, one of ours from a result
file; what is missing is "not run". Where a label has several seeds, a table shows their mean, with
the interval of one set of test images, the sample standard deviation over the seeds and their
number.
"""

from __future__ import annotations

import numpy as np

from frlib.publish import comparison
from frlib.publish.claims import (
    NOT_RUN,
    REGULARISED_ROWS,
    TABLE1_METHOD,
    effect,
    find,
    in_points,
    paper,
)
from frlib.publish.markup import NONE, html_table, myst_table, points
from frlib.publish.sources import runs
from frlib.run.config import load as load_preset
from frlib.run.evaluate_run import siblings
from frlib.run.labels import split
from frlib.run.presets import shipped
from frlib.schedule import drop_epochs, epoch_at

READINGS = ("at", "at-fr", "at-fr@fr_transform=batch-class",
            "at-swa", "at-fr-swa", "at-fr-swa@fr_transform=batch-class")
FOLLOW_UP = {  # the presets of the second paper's methods, and their data
    "cifar100-subset": "a subset of CIFAR-100, 100 training and 20 test images a class",
    "tiny-imagenet-40": "40 classes of Tiny ImageNet, 500 training images each",
}
MEAN = "mean ± standard deviation of seeds"
INPUTS = {"clean": "clean", "pgd20": "PGD-20"}
EFFECTS = ("clean", "pgd20", "cw", "aa")  # the metrics in which `ablations` measures


def _cell(results, label, *path) -> str:
    return comparison.cell(comparison.mean(find(results, label, *path)))


def setting_of(preset: str, results: dict) -> str:
    """What our figures in a table come from: preset, model, data, how many images, seeds."""
    plain = _plain(results)

    def stored(*path):
        values = {v for label in plain for v in find(results, label, *path).values()}
        return "/".join(f"{v:,}" if isinstance(v, int) else v for v in sorted(values)) or "no"

    if not plain:
        return f"Ours: preset {preset}, {NOT_RUN}."
    seeds = sorted(set().union(*plain.values()))
    fewer = any(len(found) < len(seeds) for found in results.values())
    return (f"Ours: preset {preset}, {stored('config', 'model')} on "
            f"{stored('config', 'dataset')}, the first {stored('scores', 'clean', 'total')} test "
            f"images, {stored('scores', 'aa', 'total')} of them for AutoAttack, "
            f"{'seed' if len(seeds) == 1 else MEAN} {', '.join(map(str, seeds))}"
            f"{', or of as many as a row has' * fewer}.")


def _plain(results: dict) -> dict:
    """The results of methods as the preset has them: of no figures, with no setting changed."""
    return {label: seeds for label, seeds in results.items()
            if not split(label)[1] and find(results, label, "config")}


def paper_table1() -> str:
    """Table 1 of the paper, in percent."""
    table = paper()["table1"]
    rows = [[row["model"], INPUTS[row["input"]], *_theirs(row["accuracy"], table["columns"])]
            for row in table["rows"]]
    return myst_table(
        None, "paper-table1", "Table 1 of the paper: ResNet-18, CIFAR-10; accuracy in % by "
        "bandwidth of the low-pass filter (32: no filter).",
        ["Model", "Input", *table["columns"]], rows)


def paper_table2() -> str:
    """Table 2 of the paper, in percent."""
    table = paper()["table2"]
    rows = [[table["row_titles"][method], *_theirs(row, table["columns"])]
            for method, row in table["rows"].items()]
    return myst_table(
        None, "paper-table2", "Table 2 of the paper: WRN-34-10, CIFAR-10; accuracy in %.",
        ["Method", *table["column_titles"].values()], rows)


def _theirs(accuracies: dict, columns) -> list[str]:
    return [f"{accuracies[c]:.2f}" if c in accuracies else NONE for c in columns]


def with_larger(preset: str, results: dict, larger: dict | None, *needed: str) -> dict:
    """{preset: results}, largest scale first: of `larger` those with all `needed` labels, then this
    one."""
    return {name: found for name, found in (larger or {}).items()
            if all(label in found for label in needed)} | {preset: results}


def table1(preset: str, results: dict, larger: dict | None = None,
           wider: dict | None = None) -> str:
    """Table 1 in percent: the paper's, ours at the largest scale there is, and a natural network
    from elsewhere.

    wider: {preset: results} of a network that has rows of its own, where its "figures" are there.
    """
    needed = ("figures", *TABLE1_METHOD.values())
    preset, results = next(iter(with_larger(preset, results, larger, *needed).items()))
    ours = {"ours": results} | {f"ours, {name}": found for name, found in (wider or {}).items()
                                if "figures" in found and name != preset}
    table, rows = paper()["table1"], []
    for row in table["rows"]:
        rows.append([f"{row['model']}, {INPUTS[row['input']]}", "paper",
                     *_theirs(row["accuracy"], table["columns"])])
        model = ("table1", TABLE1_METHOD[row["model"]])
        sources = {source: (found, model) for source, found in ours.items()}
        if row["model"] == "natural":
            sources["shipped ResNet-18"] = results, ("full_scale",)
        rows += [["", source, *(_cell(found, "figures", *path, row["input"], str(b))
                                for b in table["columns"])]
                 for source, (found, path) in sources.items()]
    full = find(results, "figures", "full_scale", "clean", "32").values()
    note = "; ".join(sorted({f"the first {score['total']:,} test images of CIFAR-10"
                             for score in full})) or NOT_RUN
    others = [f"“{source}” is of that preset: {_filtered(found)}."
              for source, found in ours.items() if source != "ours"]
    return myst_table(
        preset, "our-table1", "Table 1, rerun: accuracy in % by bandwidth, ours with 95 % "
        f"intervals. {setting_of(preset, results)} Behind the filter: {_filtered(results)}. "
        + " ".join([*others, f"“shipped ResNet-18” is the network in pyautoattack: {note}."]),
        ["Model, input", "Source", *table["columns"]], rows)


def _filtered(results: dict) -> str:
    """The images and seeds that the rows of Table 1 are of: "the first 1,000, seed 0"."""
    return "; ".join(f"the first {images:,}, seed {seed}" for seed, images in
                     find(results, "figures", "images").items()) or NOT_RUN


def read_as(results: dict, labels: dict | None) -> dict:
    """The results of `labels`, {method: label}, under the names of the methods; without: all."""
    return {method: results[label] for method, label in labels.items() if label in results} \
        if labels else results


def listed_readings(preset: str) -> list[str]:
    """The results of AT-FR with another regulariser that a preset of the book lists."""
    listed = load_preset(preset) if preset in shipped() else None
    runs = [*listed.runs, *listed.ablations] if listed else ()
    found = [label for run in runs for label in siblings(run)]
    return [label for label in found if split(label)[0] in REGULARISED_ROWS and split(label)[1]]


def _table2(preset: str, results: dict, labels: dict | None = None) -> tuple[list, list]:
    table, rows, labels = paper()["table2"], [], labels or {}
    methods = [*table["rows"], "natural"]
    readings = [label for label in listed_readings(preset) if label in results]
    heads = comparison.columns({label: results.get(label, {}) for label in methods + readings})
    for method in methods:
        rows.append([table["row_titles"].get(method, method.capitalize()), "paper",
                     *_theirs(table["rows"].get(method, {}), table["columns"]),
                     *[NONE] * (len(heads) - len(table["columns"]))])
        for label in [method, *(label for label in readings if split(label)[0] == method)]:
            told = labels.get(label, label)
            if told == label and method in ("at-fr", "at-fr-swa"):
                told = comparison.reading_of(label)
            rows.append(["", "ours" if told == method else f"ours: {told}",
                         *(_cell(view, label, "scores", c) for c, view in heads.values())])
    return ["Method", "Source", *heads], rows


def table2(preset: str, results: dict, larger: dict | None = None, name: str = "our-table2") -> str:
    """Table 2 in percent: the paper's, and ours with 95 % intervals; a table for each scale that
    has AT and AT-FR, the largest first."""
    tables = []
    for scale, found in with_larger(preset, results, larger, "at", "at-fr").items():
        caption = "Table 2, rerun: accuracy in %, ours with 95 % intervals. " \
                  + setting_of(scale, found) + _averages(found)
        tables.append(myst_table(scale, f"{name}-{scale}" if tables else name, caption,
                                 *_table2(scale, found)))
    return "\n".join(tables)


def averaged_epochs(rows: list[dict], epoch: int) -> int:
    """Over how many epochs of a history the average goes that was taken after `epoch`."""
    return sum("swa_val_pgd" in row and row["epoch"] <= epoch for row in rows)


def _averages(results: dict) -> str:
    """Over how many epochs the averages of Table 2 go."""
    titles, parts = paper()["table2"]["row_titles"], []
    for label in ("at-swa", "at-fr-swa"):
        counts = {averaged_epochs(result["history"], result["epoch"])
                  for result in results.get(label, {}).values() if "epoch" in result}
        parts += [f"{titles[label]} {'/'.join(map(str, sorted(counts)))}"] if counts else []
    return f" Epochs in the averages: {', '.join(parts)}." if parts else ""


def table2_html(preset: str, results: dict, labels: dict | None = None) -> str:
    """`table2` as plain HTML, for display in a notebook.

    `labels`, as `notebook_views.labels` gives them: which results stand for the methods and for
    their listed readings, by default those of the preset.
    """
    results = read_as(results, labels)
    caption = f"Accuracy in %, ours with 95 % intervals. {setting_of(preset, results)}"
    return html_table(preset, *_table2(preset, results, labels), caption=caption)


def title_of(metric: str) -> str:
    return paper()["table2"]["column_titles"][metric]


def readings(preset: str, results: dict) -> str:
    """The two readings of the transform beside plain AT: accuracy in %, and the loss term."""
    heads = comparison.columns({label: results.get(label, {}) for label in READINGS}, EFFECTS)
    rows = []
    for label in READINGS:
        last = [history[-1] for history in find(results, label, "history").values() if history]
        terms = [epoch["loss_fr"] for epoch in last if "loss_fr" in epoch]
        title = paper()["table2"]["row_titles"][split(label)[0]]
        title += f", {comparison.reading_of(label)}" * (label not in ("at", "at-swa"))
        rows.append([title, *(_cell(view, label, "scores", c) for c, view in heads.values()),
                     f"{np.mean(terms):.3g}" if terms else NONE if last else NOT_RUN])
    return myst_table(
        preset, "readings", "The two readings of the transform: accuracy in %, and the mean of the "
        "FR term (before λ) over the last epoch of training, on another scale in each reading. "
        + setting_of(preset, results),
        ["Method, reading", *heads, "FR term"], rows)


def needed(results: dict) -> dict:
    """Those of the results that `readings` and `ablations` show."""
    entries = [entry for entry in paper()["open_details"] if entry.get("run") in results]
    shown = {*READINGS, *(entry[side] for entry in entries for side in ("run", "base"))}
    return {label: seeds for label, seeds in results.items() if label in shown}


def ablations(preset: str, results: dict, beside: dict | None = None) -> str:
    """The open details that a setting changes, and what the other reading does, in points.

    beside: other presets, {preset: results}. A detail has a row for each preset that tried it, or
    one that says "not run".
    """
    rows, collected = [], {preset: results, **(beside or {})}
    for entry in [entry for entry in paper()["open_details"] if "run" in entry]:
        run = f"`{entry['run']}`" + ", last checkpoint" * (entry.get("scores") == "last")
        told = [entry["detail"], entry["ours"], f"{entry['other']} ({run})"]
        found = {name: [effect(entry, there, metric) for metric in EFFECTS]
                 for name, there in collected.items()}
        tried = {name: changes for name, changes in found.items() if any(changes)}
        for name, changes in tried.items() or [(NONE, [None] * len(EFFECTS))]:
            rows.append([*told, name, *(points(*in_points(c)[:3]) if c else NOT_RUN
                                          for c in changes)])
            told = ["", "", ""]
    settings = " ".join(setting_of(*each) for each in collected.items())
    return myst_table(
        preset, "ablations", "Open details that a setting changes: what the other "
        "reading does against ours, in points of accuracy, with the 95 % interval of the paired "
        f"difference. {settings}",
        ["Detail", "Ours", "Other reading (run)", "Preset", *map(title_of, EFFECTS)], rows,
        "ledger", "14 14 22 8 11 11 10 10")


def effects(results: dict, *own: str) -> dict[str, dict[str, tuple]]:
    """{run: {attack: (difference, low, high, p)}} in points, of the open details that were run.

    And of the labels `own`, as "at-fr@fr_lambda=0.5", beside the preset's run of the same method.
    """
    found, entries = {}, [entry for entry in paper()["open_details"] if entry.get("run") not in own]
    entries += [{"detail": label, "run": label, "base": split(label)[0]} for label in own
                if split(label)[1]]
    for entry in entries:
        row = {title_of(metric): in_points(change) for metric in EFFECTS
               if (change := effect(entry, results, metric))}
        if row:
            last = ", last checkpoint" if entry.get("scores") == "last" else ""
            found[entry["run"] + last] = row
    return found


def settings(preset: str, results: dict, larger: dict | None = None) -> str:
    """The paper's settings beside those that the results were made with, preset by preset."""
    said, table2 = paper()["settings"], paper()["table2"]["conditions"]
    sgd, attack, split = said["optimizer"], said["training_attack"], said["split"]
    presets = {name: [config for label in _plain(found)
                      for config in find(found, label, "config").values() if "epochs" in config]
               for name, found in with_larger(preset, results, larger, "at").items()}

    def ours(show) -> list[str]:
        return [" / ".join(dict.fromkeys(str(show(config)) for config in configs)) or NOT_RUN
                for configs in presets.values()]

    def images(key, whole="all"):
        return lambda c: f"{c[key]:,}" if c[key] else whole

    def of_255(key):
        return lambda c: f"{255 * c[key]:.3g}/255"

    rows = [
        ["Network", table2["architecture"], ours(lambda c: c["model"])],
        ["Data", said["dataset"], ours(lambda c: c["dataset"])],
        ["Training images", f"{split['train']:,}", ours(images("train_size", "the whole split"))],
        ["Validation images", f"{split['val']:,}", ours(images("curve_images"))],
        ["Test images", f"{split['test']:,}", ours(images("judge_images"))],
        ["of them for AutoAttack", "not said", ours(images("aa_images"))],
        ["Epochs", said["epochs"], ours(lambda c: c["epochs"])],
        ["Batch size", sgd["batch_size"], ours(lambda c: c["batch_size"])],
        ["Learning rate", sgd["learning_rate"], ours(lambda c: c["lr"])],
        ["It drops after epochs", ", ".join(map(str, said["learning_rate_drops"])),
         ours(lambda c: ", ".join(map(str, drop_epochs(c["milestones"], c["epochs"])))
              if c["schedule"] == "step" else c["schedule"])],
        ["Momentum", sgd["momentum"], ours(lambda c: c["momentum"])],
        ["Weight decay", sgd["weight_decay"], ours(lambda c: c["weight_decay"])],
        ["Radius ε", said["epsilon"], ours(of_255("eps"))],
        ["Attack in training", f"PGD-{attack['steps']}", ours(lambda c: f"PGD-{c['steps']}")],
        ["Its step α", said["step_size"], ours(of_255("step_size"))],
        ["λ", said["fr"]["lambda"], ours(lambda c: c["fr_lambda"])],
        ["Averaging starts after epoch", min(said["learning_rate_drops"]),
         ours(lambda c: epoch_at(c["swa_start"], c["epochs"]))],
    ]
    return myst_table(
        preset, "settings", f"Settings of the paper's Table 2 and of {' and '.join(presets)}.",
        ["Setting", "Paper", *presets], [[what, theirs, *cells] for what, theirs, cells in rows])


def follow_up(collected: dict[str, dict]) -> str:
    """The second paper's methods beside AT, in percent, and the run behind each, preset by preset;
    `collected` holds the results of those of FOLLOW_UP."""
    tables = []
    for preset, data in FOLLOW_UP.items():
        results = collected.get(preset, {})
        labels = comparison.beside_averages(results)
        head, rows = comparison.table_rows(results, labels, "at")
        setting = setting_of(preset, results).replace(" on folder,", ",")
        tables += [
            myst_table(preset, f"follow-up-{preset}", f"The second paper's methods on {data}. "
                       f"{comparison.COMPARED} {setting}", head,
                       rows or [[NOT_RUN] + [NONE] * (len(head) - 1)]),
            runs(preset, results, f"provenance-follow-up-{preset}")]
    return "\n".join(tables)


def bars(results: dict) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{label: {attack: (accuracy, low, high)}}, fractions, as `plots.attack_bars` takes it.

    Methods stand in the order of table 2, then the other labels; one without scores is left out.
    Attacks are those of `comparison.columns`, each on as many images as it says.
    """
    methods, heads = paper()["table2"]["rows"], comparison.columns(results)
    order = sorted(results, key=lambda label: [*methods, label].index(label))
    rows = {}
    for label in order:
        found = {title: comparison.accuracy(view, label, attack)
                 for title, (attack, view) in heads.items()}
        rows[label] = {title: (mean["share"], mean["low"], mean["high"])
                       for title, mean in found.items() if mean}
    return {label: row for label, row in rows.items() if row}
