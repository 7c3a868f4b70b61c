"""Result files in, the book's generated tables out.

Nothing is typed in: a figure of the paper comes from book/claims.yml, one of ours from a result
file, `<folder>/<preset>/<label>/seed<k>.json`; what is missing is "not run". Where a label has
several seeds, a table shows their mean, with the interval of one set of test images, the sample
standard deviation over the seeds and their number.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np

from frlib.publish import comparable, comparison, plots
from frlib.publish.claims import (
    NOT_RUN,
    TABLE1_METHOD,
    apart,
    deciding,
    effect,
    evidence,
    find,
    paper,
    reasoned,
    released,
)
from frlib.publish.curves_tables import curves
from frlib.publish.first_page import FOREST, headline, picture, verdicts
from frlib.publish.markup import NONE, chance, html_table, myst_table, points
from frlib.publish.result_format import KINDS, SHAPE, misfit, other_images
from frlib.publish.sources import badge, copy_files, costs, preset_costs, provenance, runs
from frlib.publish.speed_tables import ascent, load, precision, speed
from frlib.run.config import load as load_preset
from frlib.run.evaluate_run import siblings
from frlib.run.files import atomic, read_json
from frlib.run.labels import split
from frlib.run.places import project_root
from frlib.run.presets import shipped
from frlib.run.settings import SHOWN
from frlib.schedule import drop_epochs, epoch_at

log = logging.getLogger("frlib")
READINGS = ("at", "at-fr", "at-fr@fr_transform=batch-class",
            "at-swa", "at-fr-swa", "at-fr-swa@fr_transform=batch-class")
PUBLISHED = ("mini", "small")  # presets whose committed results stand in for smoke, best first
FOLLOW_UP = "cifar100-subset"  # the preset of the second paper's methods
MEAN = "mean ± standard deviation of seeds"
INPUTS = {"clean": "clean", "pgd20": "PGD-20"}
EFFECTS = ("clean", "pgd20", "aa")  # the metrics in which `ablations` measures


def collect(preset: str, *folders: str | Path) -> dict[str, dict[int, dict]]:
    """{label: {seed: result}} of a preset; of two files for one label and seed the first folder's.

    The labels of `result_format.KINDS` hold the numbers of a chapter. Each result gains its
    "file". Raises ValueError naming the file for damaged JSON, a file that is no result (see
    SHAPE), an odd file name, or one that lies where the result of another preset, label or seed
    belongs; and for two files that differ in more settings than their labels say. Numbers of a
    chapter that are of other weights than a result beside them are left out, with a warning.
    """
    files = {}
    for folder in folders:
        for path in sorted((Path(folder) / preset).glob("*/seed*.json")):
            if not re.fullmatch(r"seed(0|[1-9][0-9]*)\.json", path.name):
                raise ValueError(f"{path}: result files are named seed<number>.json")
            if not re.fullmatch(r"[\w.,=+@-]+", path.parent.name, re.ASCII):
                raise ValueError(f"{str(path.parent)!r}: its name is no label of a run")
            files.setdefault((path.parent.name, int(path.stem[4:])), path)
    found: dict[str, dict[int, dict]] = {}
    for (label, seed), path in sorted(files.items()):
        result = read_json(path)
        shape, key = KINDS.get(label, (SHAPE, "scores"))
        wrong = misfit(result, shape) or ("" if key in result else f"no {key!r}")
        if wrong := wrong or (other_images(result) if shape is SHAPE else ""):
            raise ValueError(f"{path}: not a result file ({wrong}); delete it to compute again")
        says = [f"{key} {SHOWN.repr(result[key])}" for key, place in
                (("preset", preset), ("label", label), ("seed", seed))
                if result.get(key, place) != place]
        if says:
            raise ValueError(f"{path}: says {', '.join(says)}, but lies at {preset}/{label}/seed"
                             f"{seed}.json: a result is known by its place; move it, or delete it")
        root = project_root()
        name = path.resolve()
        name = name.relative_to(root) if name.is_relative_to(root) else name
        found.setdefault(label, {})[seed] = {**result, "file": str(name)}
    comparable.of_one_experiment(found)
    _leave_out_other_weights(found)
    return found


def _leave_out_other_weights(found: dict[str, dict[int, dict]]) -> None:
    """Drop a chapter's numbers whose networks are no longer those of the results."""
    for kind in KINDS.keys() & found.keys():
        for seed, numbers in list(found[kind].items()):
            other = [label for label, checksum in numbers.get("checkpoint_sha256", {}).items()
                     if found.get(label, {}).get(seed, {}).get("checkpoint_sha256", checksum)
                     != checksum]
            if other:
                log.warning("%s is left out: it is of other weights than the result of %s; "
                            "`python -m frlib %s --redo` measures it again", numbers["file"],
                            ", ".join(other), kind)
                del found[kind][seed]
        if not found[kind]:
            del found[kind]


# ---- cells and tables

def _cell(results, label, *path) -> str:
    return comparison.cell(comparison.mean(find(results, label, *path)))


def _setting(preset: str, results: dict) -> str:
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


def _with_larger(preset: str, results: dict, larger: dict | None, *needed: str) -> dict:
    """{preset: results}, largest scale first: of `larger` those with all `needed` labels, then this
    one."""
    return {name: found for name, found in (larger or {}).items()
            if all(label in found for label in needed)} | {preset: results}


def table1(preset: str, results: dict, larger: dict | None = None) -> str:
    """Table 1 in percent: the paper's, ours at the largest scale there is, and ours of a natural
    network at full scale."""
    needed = ("figures", *TABLE1_METHOD.values())
    preset, results = next(iter(_with_larger(preset, results, larger, *needed).items()))
    table, rows = paper()["table1"], []
    for row in table["rows"]:
        sources = {"ours": ("table1", TABLE1_METHOD[row["model"]])}
        if row["model"] == "natural":
            sources["ResNet-18"] = ("full_scale",)
        rows.append([f"{row['model']}, {INPUTS[row['input']]}", "paper",
                     *_theirs(row["accuracy"], table["columns"])])
        rows += [["", source, *(_cell(results, "figures", *path, row["input"], str(b))
                                for b in table["columns"])] for source, path in sources.items()]
    count = "; ".join(sorted({f"the first {images:,}" for images in
                              find(results, "figures", "images").values()})) or NOT_RUN
    full = find(results, "figures", "full_scale", "clean", "32").values()
    note = "; ".join(sorted({f"the first {score['total']:,} test images of CIFAR-10"
                             for score in full})) or NOT_RUN
    return myst_table(
        preset, "our-table1", "Table 1, rerun: accuracy in % by bandwidth, ours with 95 % "
        f"intervals. {_setting(preset, results)} Behind the filter: {count}. “ResNet-18” is the "
        f"network that pyautoattack ships: {note}.",
        ["Model, input", "Source", *table["columns"]], rows)


def _read_as(results: dict, labels: dict | None) -> dict:
    """The results of `labels`, {method: label}, under the names of the methods; without: all."""
    return {method: results[label] for method, label in labels.items() if label in results} \
        if labels else results


def listed_readings(preset: str) -> list[str]:
    """The results of AT-FR under other settings that a preset of the book lists among its runs."""
    listed = load_preset(preset).runs if preset in shipped() else ()
    found = [label for run in listed for label in siblings(run)]
    return [label for label in found if split(label)[0] in ("at-fr", "at-fr-swa")
            and split(label)[1]]


def _table2(preset: str, results: dict, labels: dict | None = None) -> tuple[list, list]:
    table, rows, labels = paper()["table2"], [], labels or {}
    methods, readings = [*table["rows"], "natural"], listed_readings(preset)
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


def table2(preset: str, results: dict, larger: dict | None = None) -> str:
    """Table 2 in percent: the paper's, and ours with 95 % intervals; a table for each scale that
    has AT and AT-FR, the largest first."""
    tables = []
    for name, found in _with_larger(preset, results, larger, "at", "at-fr").items():
        caption = "Table 2, rerun: accuracy in %, ours with 95 % intervals. " \
                  + _setting(name, found) + _averages(found)
        tables.append(myst_table(name, f"our-table2-{name}" if tables else "our-table2", caption,
                                 *_table2(name, found)))
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
    results = _read_as(results, labels)
    caption = f"Accuracy in %, ours with 95 % intervals. {_setting(preset, results)}"
    return html_table(preset, *_table2(preset, results, labels), caption=caption)


CLAIMS = ["Claim", "Paper", "Ours", "Verdict"]


def claims(preset: str, results: dict, larger: dict | None = None) -> str:
    """Every statement of claims.yml with the paper's figures, ours and the verdict.

    larger: as in `first_page.headline`; what it decides says so.
    """
    rows, used = [], {}
    for statement in paper()["statements"]:
        name, found = deciding(statement, preset, results, larger or {})
        row, = _claims([statement], found, "**{}**")
        if name != preset:
            used[name] = found
            row[2] = f"preset {name}: {row[2]}"
        rows.append(row)
        if other := released(statement, preset, results, larger or {}):
            rows.append(_as_released(statement, *other, preset, "**{}**"))
    setting = " ".join(_setting(name, found) for name, found in {**used, preset: results}.items())
    return myst_table(
        preset, "claims", "The paper's claims: both sides of each comparison, accuracies and "
        "shares in %, and their difference in points with its 95 % interval (roughness: in its own "
        f"unit). {setting}", CLAIMS, rows, "claims", "34 14 34 18")


def _as_released(statement: dict, name: str, found: dict, preset: str, form: str) -> list[str]:
    """The row of a statement again, with the regulariser as released."""
    (_, theirs, ours, told), = _claims([statement], found, form)
    return [f"{statement['id']}, the regulariser as its code was released", theirs,
            f"preset {name}: " * (name != preset) + ours, told]


def claims_html(preset: str, results: dict, ids, labels: dict | None = None) -> str:
    """Some statements, as ["C6", "C7"], as plain HTML, for the end of a notebook.

    `labels`, {method: label}: which results a statement about the methods is judged by; the
    caption names those that are not the preset's own.
    """
    titles, results = paper()["table2"]["row_titles"], _read_as(results, labels)
    statements = [s for s in paper()["statements"] if s["id"] in ids]
    named = [m for s in statements for m in (s["test"].get("greater"), *s["test"].get("than", []))]
    other = [f"{titles.get(m, m)} is {labels[m]}" for m in dict.fromkeys(named)
             if labels and labels.get(m, m) != m]
    told = f" In these verdicts {', '.join(other)}." if other else ""
    rows = []
    for statement in statements:
        rows += _claims([statement], results)
        if again := released(statement, preset, results, {}):
            rows.append(_as_released(statement, *again, preset, "{}"))
    return html_table(preset, CLAIMS, rows, classes="claims",
                      caption=f"Accuracies in %. {_setting(preset, results)}{told}")


def _claims(statements: list[dict], results: dict, form: str = "{}") -> list[list[str]]:
    rows = []
    for statement in statements:
        found, (verdict, reason) = evidence(statement, results), reasoned(statement, results)
        theirs = statement["paper"]
        about = "about " * bool(statement.get("read_off"))
        sides = _sides(statement["test"])
        ours = "; ".join(_compared(c, *names) for c, names in zip(found, sides, strict=True)
                         if c) or NOT_RUN
        rows.append([f"{statement['id']}. {statement['text']} ({statement['where']})",
                     f"{about}{theirs[0]} > {theirs[1]} ({theirs[0] - theirs[1]:+.4g})"
                     if theirs else NONE,
                     ours, form.format(verdict) + (f": {reason}" if reason else "")])
    return rows


def _title(metric: str) -> str:
    return paper()["table2"]["column_titles"][metric]


def _sides(test: dict) -> list[tuple[str, str]]:
    """What the left and the right number of each comparison of a claim are of."""
    def title(method):
        return paper()["table2"]["row_titles"].get(method, method)

    if test["kind"] in ("methods", "bands"):
        left = title(test["greater"])
        return [(left, title(other)) for other in test["than"]] if "than" in test else [(left, "")]
    if test["kind"] == "bandwidths":
        return [tuple(f"bandwidth {test[side]}" if test[side] < 32 else "no filter"
                      for side in ("greater_at_bandwidth", "than_at_bandwidth"))]
    if test["kind"] == "change":
        return [(f"{test['greater']} moves", f"{test['than']} moves")]
    return [("by the filter", "then left")]


def _compared(c: dict, left_name: str, right_name: str) -> str:
    """"AT-FR: 33.9 < AT: 40.1, -6.1 [-7.5, -4.8] (p < 0.001; 5,000 images)"."""
    digits = 3 if "filters" in c["count"] else 1
    left, right = (f"{round(c[side], digits) + 0.0:.{digits}f}" for side in ("left", "right"))
    sign = "=><"[int(np.sign(c["left"] - c["right"]))]
    change = f", {points(c['left'] - c['right'], *c['interval'])}" if c["interval"] else ""
    right_name = f"{right_name}: " * bool(right_name)
    told = f"{left_name}: {left} {sign} {right_name}{right}{change}"
    return f"{told} ({chance(c['p'])}; {c['count']})"


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
        + _setting(preset, results),
        ["Method, reading", *heads, "FR term"], rows)


def ablations(preset: str, results: dict) -> str:
    """The open details that a setting changes, and what the other reading does, in points."""
    rows = []
    for entry in [entry for entry in paper()["open_details"] if "run" in entry]:
        run = f"`{entry['run']}`" + ", last checkpoint" * (entry.get("scores") == "last")
        found = [effect(entry, results, metric) for metric in EFFECTS]
        rows.append([entry["detail"], entry["ours"], f"{entry['other']} ({run})",
                     *(points(c["left"] - c["right"], *c["interval"]) if c else NOT_RUN
                       for c in found)])
    return myst_table(
        preset, "ablations", "Open details that a setting changes: what the other reading does "
        "against ours, in points of accuracy, with the 95 % interval of the paired difference. "
        + _setting(preset, results),
        ["Detail", "Ours", "Other reading (run)", *map(_title, EFFECTS)], rows, "ledger",
        "15 17 29 13 13 13")


def effects(results: dict, *own: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{run: {attack: (difference, low, high)}} in points, of the open details that were run.

    And of the labels `own`, as "at-fr@fr_lambda=0.5", beside the preset's run of the same method.
    """
    found, entries = {}, [entry for entry in paper()["open_details"] if entry.get("run") not in own]
    entries += [{"detail": label, "run": label, "base": split(label)[0]} for label in own
                if split(label)[1]]
    for entry in entries:
        row = {_title(metric): (c["left"] - c["right"], *c["interval"]) for metric in EFFECTS
               if (c := effect(entry, results, metric))}
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
               for name, found in _with_larger(preset, results, larger, "at").items()}

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


def follow_up(results: dict) -> str:
    """The second paper's methods, in percent, and the run behind each."""
    heads = comparison.columns(results)
    rows = [[f"`{label}`", *(_cell(view, label, "scores", c) for c, view in heads.values())]
            for label in sorted(results, key=lambda label: split(label)[1])]
    return myst_table(
        FOLLOW_UP, "follow-up", "The second paper's methods on a subset of CIFAR-100, 100 training "
        "and 20 test images a class: accuracy in %, with 95 % intervals. "
        + _setting(FOLLOW_UP, results).replace(" on folder,", ","), ["Run", *heads],
        rows or [[NOT_RUN] + [NONE] * len(heads)]) \
        + "\n" + runs(FOLLOW_UP, results, "provenance-follow-up")


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


PAPER = (paper_table1, paper_table2)  # pages that need no result
SCALED = (table1, table2)  # largest scale first
DECIDED = (headline, verdicts, claims, settings, provenance)  # and the presets that decide a claim
OURS = (badge, headline, verdicts, claims, table1, table2, readings, ablations, settings, costs,
        provenance)
PAGES = (*(make.__name__ for make in PAPER + OURS), "follow_up", "speed", "precision",
         "load", "curves", "preset_costs")


def _before(preset: str) -> tuple[str, ...]:
    """Those of PUBLISHED that are of larger scale than this one; none for another preset."""
    return PUBLISHED[:PUBLISHED.index(preset)] if preset in PUBLISHED else ()


def _apart(preset: str) -> tuple[str, ...]:
    """The presets that decide some claims beside one of PUBLISHED; none beside another."""
    return apart() if preset in PUBLISHED else ()


def write_pages(out: str | Path, preset: str, *folders: str | Path) -> None:
    """Write the tables of a preset, those of PAGES, as `out`/<name>.md, each atomically.

    Those of `speed`, `precision`, `load` and `curves` belong to no preset: they are made of the
    root's benchmarks/*.json, and so is a figure, precision.svg, where there is one to draw.
    Copies of the results themselves go to `out`/extra, which the book takes to its root.
    """
    measured = project_root() / "benchmarks"
    results, others = collect(preset, *folders), collect(FOLLOW_UP, *folders)
    larger = {name: collect(name, *folders) for name in _before(preset)}
    with_apart = larger | {name: collect(name, *folders) for name in _apart(preset)}

    def page(make) -> str:
        if make in SCALED:
            return make(preset, results, larger)
        return make(preset, results, with_apart) if make in DECIDED else make(preset, results)

    made = [*(make() for make in PAPER), *map(page, OURS),
            follow_up(others), speed(measured),
            precision(measured), load(measured), curves(measured),
            preset_costs({name: collect(name, *folders) for name in shipped()})]
    for name, text in zip(PAGES, made, strict=True):
        with atomic(Path(out) / f"{name}.md") as temporary:
            temporary.write_text(text)
    if lines := ascent(measured):
        with atomic(Path(out) / "precision.svg") as temporary:
            plots.ascent(lines).savefig(temporary, format="svg")
    with atomic(Path(out) / FOREST) as temporary:
        picture(preset, results, with_apart).savefig(temporary, format="svg")
    extra = Path(out) / "extra"
    extra.mkdir(exist_ok=True)
    for name, found in {**with_apart, preset: results}.items():
        copy_files(extra, name, found)
    copy_files(extra, FOLLOW_UP, others)
