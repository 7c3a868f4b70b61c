"""Result files in, the book's generated tables out.

Nothing is typed in: a figure of the paper comes from book/claims.yml, one of ours from a result
file, `<folder>/<preset>/<label>/seed<k>.json`; what is missing is "not run". Where a label has
several seeds, a table shows their mean, with the interval of one set of test images.
"""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from frlib import cost, judge, train
from frlib.config import project_root
from frlib.results import atomic, read_json
from frlib.verdict import NOT_RUN, TABLE1_METHOD, VERDICTS, evidence, find, interval, paper, verdict

PAGES = ("paper_table1", "paper_table2", "headline", "claims", "table1", "table2", "readings",
         "provenance", "follow_up", "speed")
NONE = "—"  # there is no such figure
SMOKE_MARK = "smoke preset: not comparable with the paper"
SMOKE = f'<div class="smoke-mark">{SMOKE_MARK}</div>\n\n'
READINGS = {"at": "AT", "at-fr": "AT-FR, class",
            "at-fr@fr_transform=batch-class": "AT-FR, batch-class", "at-swa": "AT-SWA",
            "at-fr-swa": "AT-FR-SWA, class",
            "at-fr-swa@fr_transform=batch-class": "AT-FR-SWA, batch-class"}
FOLLOW_UP = "cifar100-subset"  # the preset of the second paper's methods
INPUTS = {"clean": "clean", "pgd20": "PGD-20"}
LOOPS = {"published": "published", "channels-last": "channels-last", "tensors": "image tensors",
         "ours": "ours"}  # of benchmarks/speed.py


def collect(preset: str, *folders: str | Path) -> dict[str, dict[int, dict]]:
    """{label: {seed: result}} of a preset; of two files for one label and seed the first folder's.

    The label "figures" holds what notebook 05 wrote. Each result gains its "file". Raises
    ValueError naming the file for damaged JSON, a file that is no result, or an odd file name.
    """
    files = {}
    for folder in folders:
        for path in sorted((Path(folder) / preset).glob("*/seed*.json")):
            if not path.stem[4:].isdigit():
                raise ValueError(f"{path}: result files are named seed<number>.json")
            files.setdefault((path.parent.name, int(path.stem[4:])), path)
    found: dict[str, dict[int, dict]] = {}
    for (label, seed), path in sorted(files.items()):
        result = read_json(path)
        key = "table1" if label == "figures" else "scores"
        if not isinstance(result, dict) or not isinstance(result.get(key), dict):
            raise ValueError(f"{path}: not a result file (no {key!r}); delete it to compute again")
        root = project_root()
        name = path.resolve().relative_to(root) if path.resolve().is_relative_to(root) else path
        found.setdefault(label, {})[seed] = {**result, "file": str(name)}
    return found


# ---- cells and tables

def _accuracy(scores: dict) -> tuple[float, float, float]:
    """Mean accuracy over seeds and its interval, fractions; the images count once."""
    share = sum(s["correct"] for s in scores.values()) / sum(s["total"] for s in scores.values())
    total = min(s["total"] for s in scores.values())
    return share, *interval(share * total, total)


def _cell(results, label, *path) -> str:
    scores = find(results, label, *path)
    if not scores:
        return NOT_RUN
    return percent(*_accuracy(scores))


def percent(share: float, low: float, high: float) -> str:
    """An accuracy and its interval, fractions, as "48.8 [45.7, 51.9]" in percent."""
    return f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _table(preset, name, caption, head, rows, classes="numbers", widths=None) -> str:
    """A captioned list-table, below the mark if the preset is smoke."""
    options = [f":name: {name}", f":class: {classes}", ":header-rows: 1"]
    options += [f":widths: {widths}"] if widths else []
    lines = [f"{'  -' if i else '* -'} {cell}" for row in [head, *rows] for i, cell in
             enumerate(row)]
    mark = SMOKE if preset == "smoke" else ""
    return mark + "\n".join([f"```{{list-table}} {caption}", *options, "", *lines, "```", ""])


def _setting(preset: str, results: dict) -> str:
    """What our figures in a table come from: preset, model, data, how many images, seeds."""
    plain = {label: seeds for label, seeds in results.items()
             if label != "figures" and "@" not in label}

    def stored(*path):
        values = {v for label in plain for v in find(results, label, *path).values()}
        return "/".join(f"{v:,}" if isinstance(v, int) else v for v in sorted(values)) or "no"

    if not plain:
        return f"Ours: preset {preset}, {NOT_RUN}."
    seeds = sorted(set().union(*plain.values()))
    return (f"Ours: preset {preset}, {stored('config', 'model')} on "
            f"{stored('config', 'dataset')}, the first {stored('scores', 'clean', 'total')} test "
            f"images, {stored('scores', 'aa', 'total')} of them for AutoAttack, "
            f"{'seed' if len(seeds) == 1 else 'mean of seeds'} {', '.join(map(str, seeds))}.")


def paper_table1() -> str:
    """Table 1 of the paper, in percent."""
    table = paper()["table1"]
    rows = [[row["model"], INPUTS[row["input"]], *_theirs(row["accuracy"], table["columns"])]
            for row in table["rows"]]
    return _table(None, "paper-table1", "Table 1 of the paper: ResNet-18, CIFAR-10; accuracy in % "
                  "by bandwidth of the low-pass filter (32: no filter).",
                  ["Model", "Input", *table["columns"]], rows)


def paper_table2() -> str:
    """Table 2 of the paper, in percent."""
    table = paper()["table2"]
    rows = [[table["row_titles"][method], *_theirs(row, table["columns"])]
            for method, row in table["rows"].items()]
    return _table(None, "paper-table2", "Table 2 of the paper: WRN-34-10, CIFAR-10; accuracy in %.",
                  ["Method", *table["column_titles"].values()], rows)


def _theirs(accuracies: dict, columns) -> list[str]:
    return [f"{accuracies[c]:.2f}" if c in accuracies else NONE for c in columns]


def table1(preset: str, results: dict) -> str:
    """Table 1 in percent: the paper's, ours, and ours of a natural network at full scale."""
    table, rows = paper()["table1"], []
    for row in table["rows"]:
        sources = {"ours": ("table1", TABLE1_METHOD[row["model"]])}
        if row["model"] == "natural":
            sources["ResNet-18"] = ("full_scale",)
        rows.append([f"{row['model']}, {INPUTS[row['input']]}", "paper",
                     *_theirs(row["accuracy"], table["columns"])])
        rows += [["", source, *(_cell(results, "figures", *path, row["input"], str(b))
                                for b in table["columns"])] for source, path in sources.items()]
    full = find(results, "figures", "full_scale", "clean", "32").values()
    note = "; ".join(sorted({f"the first {score['total']:,} test images of CIFAR-10"
                             for score in full})) or NOT_RUN
    return _table(preset, "our-table1", "Table 1, rerun: accuracy in % by bandwidth, ours with "
                  f"95 % intervals. {_setting(preset, results)} “ResNet-18” is the network that "
                  f"pyautoattack ships: {note}.", ["Model, input", "", *table["columns"]], rows)


def _table2(results: dict) -> tuple[list, list]:
    table, rows = paper()["table2"], []
    for method in [*table["rows"], "natural"]:
        rows += [[table["row_titles"].get(method, method.capitalize()), "paper",
                  *_theirs(table["rows"].get(method, {}), table["columns"])],
                 ["", "ours", *(_cell(results, method, "scores", c) for c in table["columns"])]]
    return ["Method", "", *table["column_titles"].values()], rows


def table2(preset: str, results: dict) -> str:
    """Table 2 in percent: the paper's, and ours with 95 % intervals."""
    return _table(preset, "our-table2", "Table 2, rerun: accuracy in %, ours with 95 % intervals. "
                  + _setting(preset, results), *_table2(results))


def table2_html(preset: str, results: dict) -> str:
    """`table2` as plain HTML, for display in a notebook."""
    return html_table(preset, *_table2(results), caption="Accuracy in %, ours with 95 % intervals. "
                      + _setting(preset, results))


def html_table(preset, head, rows, *, caption="", classes="numbers") -> str:
    """A table as plain HTML, scrolling in itself, below the mark if the preset is smoke."""
    lines = ["<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"
             for tag, row in [("th", head), *(("td", row) for row in rows)]]
    return (f'{SMOKE if preset == "smoke" else ""}<div class="pst-scrollable-table-container">'
            f'<table class="table {classes}"><caption>{html.escape(caption)}'
            f'</caption><thead>{lines[0]}</thead><tbody>{"".join(lines[1:])}</tbody></table></div>')


CLAIMS = ["", "Claim", "Paper", "Ours", "Verdict"]


def claims(preset: str, results: dict) -> str:
    """Every statement of claims.yml with the paper's figures, ours and the verdict."""
    rows = [[*row[:-1], f"**{row[-1]}**"] for row in _claims(results)]
    return _table(preset, "claims", "The paper's claims and their verdicts; accuracies in %, "
                  f"differences in points. {_setting(preset, results)}", CLAIMS, rows, "claims",
                  "5 38 16 27 14")


def claims_html(preset: str, results: dict, ids) -> str:
    """Some statements, as ["C6", "C7"], as plain HTML, for the end of a notebook."""
    rows = [row for row in _claims(results) if row[0] in ids]
    return html_table(preset, CLAIMS, rows, classes="claims",
                      caption=f"Accuracies in %. {_setting(preset, results)}")


def _claims(results: dict) -> list[list[str]]:
    titles, rows = paper()["table2"]["row_titles"], []
    for statement in paper()["statements"]:
        found = evidence(statement, results)
        theirs = " > ".join(map(str, statement["paper"] or [])) or NONE
        ours = "; ".join(f"{titles[c['than']] + ': ' if len(found) > 1 else ''}{_compared(c)}"
                         for c in found if c) or NOT_RUN
        rows.append([statement["id"], f"{statement['text']} ({statement['where']})",
                     ("about " if statement.get("read_off") else "") + theirs, ours,
                     verdict(statement, results)])
    return rows


def _compared(c: dict) -> str:
    digits = 3 if "kernels" in c["count"] else 1
    left, right = (f"{round(c[side], digits) + 0.0:.{digits}f}" for side in ("left", "right"))
    p = f"p = {c['p']:.2g}" if c["p"] >= 0.001 else "p < 0.001"
    return f"{left} {'=><'[c['order']]} {right} ({p}; {c['count']})"


def headline(preset: str, results: dict) -> str:
    """How many claims have which verdict, and which they are."""
    found = {s["id"]: verdict(s, results) for s in paper()["statements"]}
    rows = [[name, list(found.values()).count(name),
             ", ".join(i for i in found if found[i] == name) or NONE] for name in VERDICTS]
    return _table(preset, "headline", "Verdicts on the paper's claims. "
                  + _setting(preset, results), ["Verdict", "Claims", "Which"], rows, "verdicts")


def readings(preset: str, results: dict) -> str:
    """The two readings of the transform beside plain AT: accuracy in %, and the loss term."""
    columns, rows = {c: paper()["table2"]["column_titles"][c] for c in ("clean", "pgd20", "aa")}, []
    for label, title in READINGS.items():
        last = [history[-1] for history in find(results, label, "history").values() if history]
        terms = [epoch["loss_fr"] for epoch in last if "loss_fr" in epoch]
        rows.append([title, *(_cell(results, label, "scores", c) for c in columns),
                     f"{np.mean(terms):.3g}" if terms else NONE if last else NOT_RUN])
    return _table(preset, "readings", "The two readings of the transform: accuracy in %, and the "
                  "mean of the FR term (before λ) over the last epoch of training. "
                  + _setting(preset, results),
                  ["Method, reading", *columns.values(), "FR term"], rows)


def follow_up(results: dict) -> str:
    """The second paper's methods, in percent, and the run behind each."""
    titles = paper()["table2"]["column_titles"]
    rows = [[f"`{label}`", *(_cell(results, label, "scores", c) for c in titles)]
            for label in results]
    return _table(FOLLOW_UP, "follow-up", "The second paper's methods on a subset of CIFAR-100, "
                  "100 training and 20 test images a class: accuracy in %, with 95 % intervals. "
                  + _setting(FOLLOW_UP, results), ["Run", *titles.values()],
                  rows or [[NOT_RUN] + [NONE] * len(titles)]) \
        + "\n" + provenance(FOLLOW_UP, results, "provenance-follow-up")


def provenance(preset: str, results: dict, name: str = "provenance") -> str:
    """One row per result file: what made it, when, and whether that code has changed since."""
    head = ["Result", "Seed", "Commit", "Device", "Threads", "torch", "Training", "Judging",
            "Date (UTC)", "Warnings", "Code", "File"]
    current = current_code() if results else {}
    rows = [_origin(label, seed, result, current)
            for label, seeds in results.items() for seed, result in seeds.items()]
    return _table(preset, name, f"The run behind each result of preset {preset}.", head,
                  rows or [[NOT_RUN] + [NONE] * (len(head) - 1)])


def current_code() -> dict[str, str]:
    """Fingerprints of the code that trains, judges and draws, as it is now."""
    return {"train": train.code(), "judge": judge.code(), "figures": judge.figures_code()}


def _origin(label, seed, result, current) -> list:
    made = [result[k] for k in ("train_provenance", "provenance") if result.get(k)]
    commits = dict.fromkeys(p["commit"][:7] + ("+dirty" if p["dirty"] else "") for p in made)
    last = made[-1] if made else {"versions": {}}
    code, seconds = result.get("code"), result.get("seconds")
    code = code if isinstance(code, dict) else {}
    seconds = seconds if isinstance(seconds, dict) else {"judge": seconds}
    changed = [name for name in current if code.get(name, current[name]) != current[name]]
    state = f"{', '.join(changed)} code since changed" if changed else "as now" if code else NONE
    return [f"`{label}`", seed, ", ".join(commits) or NONE, last.get("device", NONE),
            last.get("threads", NONE), last["versions"].get("torch", NONE),
            _duration(seconds.get("train")), _duration(seconds.get("judge")),
            last.get("date", NONE), len(result.get("warnings", [])), state, f"`{result['file']}`"]


def _duration(seconds: float | None) -> str:
    return NONE if seconds is None else cost.duration(seconds)


def bars(results: dict) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{label: {attack: (accuracy, low, high)}}, fractions, as `frlib.plots.attack_bars` takes it.

    Methods stand in the order of table 2, then the other labels; one without scores is left out.
    """
    table = paper()["table2"]
    order = [*(m for m in table["rows"] if m in results),
             *(label for label in results if label not in table["rows"] and label != "figures")]
    rows = {label: {title: _accuracy(scores) for attack, title in table["column_titles"].items()
                    if (scores := find(results, label, "scores", attack))} for label in order}
    return {label: row for label, row in rows.items() if row}


# ---- speed: what benchmarks/speed.py measured

def speed(folder: str | Path) -> str:
    """A table for each part of each file `folder`/*.json; every ratio is taken from raw seconds.

    ValueError naming the file for damaged JSON or a file that benchmarks/speed.py did not write.
    """
    tables = []
    for path in sorted(Path(folder).glob("*.json")):
        content = read_json(path)
        try:
            tables += [make(path.stem, content[part]) for part, make in
                       (("train", _speed_train), ("autoattack", _speed_autoattack))
                       if content.get(part, {}).get("models")]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a benchmark file ({error!r}); measure again") from error
    return "\n".join(tables) or _table(
        None, "speed", "Our loop and AutoAttack against those as published.",
        ["Model", "Seconds", "Times as fast"], [[NOT_RUN, NONE, NONE]])


def ratios(above, below) -> list[float]:
    """above / below, round by round. ValueError for lists of different lengths."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values) -> tuple[float, float, float]:
    """(median, lowest, highest) of the rounds."""
    return float(np.median(values)), min(values), max(values)


def _spread(values, form: str) -> str:
    middle, low, high = (format(value, form) for value in spread(values))
    return f"{middle} [{low}, {high}]"


def _speed_train(stem: str, part: dict) -> str:
    models = part["models"]
    memory = any("peak_mib" in entry for entry in models.values())
    rows = []
    for name, entry in models.items():
        work, product = entry["flops_per_step"] / 1e9, entry["product_gflops"]
        reference = entry["seconds"]["published"]
        for variant, seconds in entry["seconds"].items():
            rate = ratios([work] * len(seconds), seconds)
            share = [100 * r for r in ratios(rate, product)]
            rows.append(["" if variant != "published" else name, LOOPS.get(variant, variant),
                         _spread(seconds, ".3g"), _spread(ratios(reference, seconds), ".2f"),
                         f"{np.median(rate):.3g}", _spread(share, ".0f")])
            if memory:
                rows[-1].append(f"{entry['peak_mib'][variant]:.0f}")
        rows.append(["", "matrix product", NONE, NONE, f"{np.median(product):.3g}", "100"])
        rows[-1] += [NONE] if memory else []
    first = next(iter(models.values()))
    setting, rounds = first["setting"], len(first["product_gflops"])
    needed = ", ".join(f"{entry['flops_per_step'] / 1e9:.3g} GFLOP ({name})"
                       for name, entry in models.items())
    return _table(None, f"speed-train-{stem}",
                  f"One training step with PGD-{setting['steps']}, {setting['batch_size']} "
                  f"images of {setting['dataset']}, {_arithmetic(setting)}: median and range "
                  f"of {_rounds(rounds)} of {setting['timed_steps']} steps. A step "
                  f"needs {needed}. {_machine(part)}",
                  ["Model", "Loop", "Seconds a step", "Times as fast", "GFLOP/s",
                   "Of product, %", *(["Peak, MiB"] if memory else [])], rows)


def _speed_autoattack(stem: str, part: dict) -> str:
    rows, sides = [], ("published", "ours")
    for name, entry in part["models"].items():
        seconds, images = entry["seconds"], entry["setting"]["images"]
        total = {side: np.sum([stage[side] for stage in seconds.values()], axis=0)
                 for side in sides}
        rows.append([name, "clean", NONE, NONE, NONE, entry["clean"], NONE])
        for stage, both in [*seconds.items(), ("all", total)]:
            last = stage if stage in seconds else list(seconds)[-1]
            standing = [entry["standing"][last][side][-1] for side in sides]
            if stage == "all":
                standing = [f"{100 * count / images:.1f} %" for count in standing]
            differing = entry["differing"].get(stage, sum(entry["differing"].values(), []))
            timed = all(both["published"]) and all(both["ours"])  # no image left: nothing to time
            rows.append(["", stage, *(_spread(both[side], ".3g") if timed else NONE
                                      for side in sides),
                         _spread(ratios(*map(both.get, sides)), ".2f") if timed else NONE,
                         " / ".join(map(str, standing)), max(differing)])
    first = next(iter(part["models"].values()))
    setting, rounds = first["setting"], len(next(iter(first["differing"].values())))
    return _table(None, f"speed-autoattack-{stem}",
                  f"Standard AutoAttack on the first {setting['images']} test images of "
                  f"{setting['dataset']}: seconds, median and range of {_rounds(rounds)}; images "
                  "left standing by pyautoattack / by ours, in the last row as robust accuracy; "
                  f"images on which they disagree. {_machine(part)}",
                  ["Model", "Stage", "pyautoattack, s", "Ours, s", "Times as fast", "Standing",
                   "Disagree"], rows)


def _arithmetic(setting: dict) -> str:
    plain = "float32" + (" (TF32)" if setting["tf32"] else "")
    attack = setting["attack_precision"]
    return plain if attack == "float32" else f"{plain}, our attack in {attack}"


def _rounds(count: int) -> str:
    return f"{count} round{'s' if count != 1 else ''}"


def _machine(part: dict) -> str:
    made = part["provenance"]
    return (f"{made['device']}, threads: {made['threads']}, torch {made['versions']['torch']}, "
            f"{made['date']} UTC, commit {made['commit'][:7]}{'+dirty' if made['dirty'] else ''}.")


def write_pages(out: str | Path, preset: str, *folders: str | Path) -> None:
    """Write the tables of a preset, those of PAGES, as `out`/<name>.md, each atomically.

    The one of `speed` belongs to no preset: it is made of the root's benchmarks/*.json.
    """
    results = collect(preset, *folders)
    made = [paper_table1(), paper_table2(),
            *(make(preset, results)
              for make in (headline, claims, table1, table2, readings, provenance)),
            follow_up(collect(FOLLOW_UP, *folders)), speed(project_root() / "benchmarks")]
    for name, text in zip(PAGES, made, strict=True):
        with atomic(Path(out) / f"{name}.md") as temporary:
            temporary.write_text(text)
