"""What benchmarks/ measured, as tables of the book."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from frlib.publish.claims import NOT_RUN
from frlib.publish.markup import NONE, escaped, myst_table
from frlib.run.files import read_json

LOOPS = {"published": "published", "channels-last": "channels-last", "tensors": "image tensors",
         "ours": "ours"}  # of benchmarks/speed.py
BOTH = ("float32", "bfloat16")
FIRST = {"all": "all", "none": "none", "clean": "the clean images'", "first step": "and step 1",
         "two steps": "and step 2"}  # of TRADES' attack, the passes in float32

FIGURE = """```{figure} generated/precision.svg
:name: precision-ascent
:alt: Cross-entropy by the steps of the attack, for each network a line in float32 and in bfloat16.
:width: 100%

The cross-entropy that the attacks of {numref}`precision-attacks` reach, step by step, on the
network of {numref}`precision-inner`, judged in float32. Where both precisions reach the same, one
line hides the other.
```
"""


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
    return "\n".join(tables) or myst_table(
        None, "speed", "Our loop and AutoAttack against those as published.",
        ["Model", "Seconds", "Times as fast"], [[NOT_RUN, NONE, NONE]])


def load(folder: str | Path) -> str:
    """The table of `folder`/load.json, which benchmarks/load.py writes; "not run" without it.

    ValueError naming the file for damaged JSON or a file that it did not write.
    """
    path = Path(folder) / "load.json"
    head = ["Runs", "At a time", "All, min", "One alone, s", "Peak, GiB", "Load before"]
    rows, preset, machine = [[NOT_RUN, *[NONE] * 5]], "smoke", ""
    if path.is_file():
        found = read_json(path)
        try:
            rows = [[found["runs"], found["slots"], f"{found['seconds'] / 60:.1f}",
                     f"{found['alone_seconds']:.0f}", f"{found['peak_bytes'] / 2**30:.1f}",
                     f"{found['load_before']:.1f}"]]
            preset, machine = found["preset"], _machine(found, threads=False)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not of benchmarks/load.py ({error!r}); measure again") \
                from error
    return myst_table(
        None, "load", f"Runs of the preset {preset}, each a training and its judgement: time "
        "for all; for one of them by itself; the most memory that all processes held, what they "
        "share counted for each; how many other processes wanted a core when it began. "
        + machine, head, rows)


def precision(folder: str | Path) -> str:
    """The tables of `folder`/precision.json, which benchmarks/precision.py writes, or "not run";
    then those of precision-cuda.json, of a GPU, as far as it was measured there.

    ValueError naming the file for damaged JSON or a file that it did not write.
    """
    here, gpu = (Path(folder) / name for name in ("precision.json", "precision-cuda.json"))
    return "\n".join([*_precision_of(here), *(_precision_of(gpu, "-gpu") if gpu.is_file() else [])])


def _precision_of(path: Path, name: str = "") -> list[str]:
    """The tables of one file; their names end in `name`. On the CPU, a part that is missing says
    so."""
    content = read_json(path) if path.is_file() else {}
    made = {"attacks": _attacks, "inner": _inner, "training": _trainings}
    try:
        tables = {part: make(content.get(part), name) for part, make in made.items()
                  if part in content or not name}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not of benchmarks/precision.py ({error!r}); measure again") \
            from error
    if "attacks" in content and not name:
        tables["attacks"] += f"\n{FIGURE}"
    return list(tables.values())


def ascent(folder: str | Path) -> list[dict]:
    """Lines for `plots.ascent`: the cross-entropy after each step, by method and precision.

    Of the network that the other parts of the file train, the others are in the table alone.
    """
    path, lines = Path(folder) / "precision.json", []
    part = read_json(path).get("attacks") if path.is_file() else None
    for key, entry in _found(part).items():
        network, method = key.split(", ")
        if network == part["setting"]["model"]:
            lines += [{"label": f"{method}, {name}", "group": method, "style": name,
                       "epochs": range(len(values)), "values": values}
                      for name, values in entry["cross_entropy"].items()]
    return lines


def _found(part: dict | None) -> dict:
    return part["found"] if part else {}


def _attacks(part: dict | None, name: str) -> str:
    rows = [[key, entry["clean"], *(entry["standing"][half] for half in BOTH),
             entry["differing"], *(f"{entry['cross_entropy'][half][-1]:.4f}" for half in BOTH),
             f"{100 * entry['pixels']:.1f} %"]
            for key, entry in _found(part).items()]
    return myst_table(
        None, f"precision-attacks{name}", "The same networks, attacked in both precisions from "
        "the same starts and judged in float32: images that are right clean, and under the attack; "
        "images whose verdict differs; the cross-entropy that the attack reaches; pixels that "
        "differ. " + _measured(part), ["Network", "Clean", "float32", "bfloat16", "Differ",
                                       "Loss, float32", "Loss, bfloat16", "Pixels"],
        rows or [[NOT_RUN, *[NONE] * 7]])


def _inner(part: dict | None, name: str) -> str:
    rows = [[steps, FIRST[key], f"{value:.5f}", f"{100 * (value / reached['all'] - 1):+.2f} %"]
            for steps, reached in _found(part).items()
            for key, value in reached.items()]
    return myst_table(
        None, f"precision-inner{name}", "The divergence (KL) that the attack of TRADES reaches in "
        "float32 and in bfloat16 against a network of its own, by the number of its steps and the "
        "passes that stay in float32; judged in float32. " + _measured(part, "the attack"),
        ["Steps", "In float32", "KL", "Beside float32"],
        rows or [[NOT_RUN, *[NONE] * 3]])


def _trainings(part: dict | None, name: str) -> str:
    rows = [[seed, *(entry[half][key] for key in ("clean", "standing") for half in BOTH),
             entry["bfloat16"]["standing"] - entry["float32"]["standing"]]
            for seed, entry in _found(part).items()]
    if len(rows) > 1:
        columns = list(zip(*rows, strict=True))[1:]
        rows.append(["mean", *(f"{np.mean(column):.1f}" for column in columns[:-1]),
                     f"{np.mean(columns[-1]):+.1f} ± {np.std(columns[-1], ddof=1):.1f}"])
    return myst_table(
        None, f"precision-training{name}", "The same adversarial training in both precisions, "
        "seed by seed, judged in float32: images that are right clean and under the attack; the "
        "last column is bfloat16 less float32, its mean with the standard deviation of the seeds. "
        + _measured(part), ["Seed", "Clean, float32", "bfloat16", "Attacked, float32",
                               "bfloat16", "Difference"], rows or [[NOT_RUN, *[NONE] * 5]])


def _measured(part: dict | None, attack: str = "") -> str:
    if not part:
        return "Not measured."
    setting = part["setting"]
    networks = ", ".join(part.get("networks", [setting["model"]]))
    return (f"{networks}, trained on {setting['train_size']:,} images of "
            f"{setting['dataset']} for {setting['epochs']} epochs with PGD-{setting['steps']}; "
            f"{attack or 'PGD-{}'.format(setting['attack_steps'])} on {setting['images']:,} test "
            f"images; bfloat16 {part['bfloat16']}. {_machine(part)}")


def ratios(above, below) -> list[float]:
    """above / below, round by round. ValueError for lists of different lengths."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values) -> tuple[float, float, float]:
    """(median, lowest, highest) of the rounds."""
    return float(np.median(values)), min(values), max(values)


def _spread(values, form: str) -> str:
    middle, low, high = (format(value, form) for value in spread(values))
    return f"{middle} [{low}, {high}]"


def named(variant: str, entry: dict) -> str:
    """A variant of the training step in words; a file may be older than "default"."""
    if variant == "ours" and "default" in entry["seconds"]:
        return "ours, float32"
    if variant != "default":
        return LOOPS.get(variant, variant)
    computed = _precision(entry["setting"])
    return f"ours, default: {computed}{' here' if computed == 'float32' else ''}"


def _precision(setting: dict) -> str:
    """"float32", "bfloat16", or "bfloat16 attack" where the update is in float32."""
    attack, update = setting["attack_precision"], setting.get("update_precision", "float32")
    return attack if attack == update else f"{attack} attack"


def _speed_train(stem: str, part: dict) -> str:
    models = part["models"]
    memory = any("peak_mib" in entry for entry in models.values())
    rows = []
    for name, entry in models.items():
        reference = entry["seconds"]["published"]
        attacks, setting = entry.get("attack_seconds", {}), entry["setting"]
        for variant, seconds in entry["seconds"].items():
            half = variant == "default" and _precision(setting) == "bfloat16"
            product = entry["product_bfloat16" if half else "product_gflops"]
            rows.append(["" if variant != "published" else name, named(variant, entry),
                         _spread(seconds, ".3g"), _spread(ratios(reference, seconds), ".2f"),
                         *_rates(entry["flops_per_step"], seconds, product)])
            if memory:
                rows[-1].append(f"{entry['peak_mib'][variant]:.0f}")
            if variant in attacks:
                rows.append(["", "its attack", _spread(attacks[variant], ".3g"), NONE,
                             *_rates(entry["flops_of_attack"], attacks[variant], product)])
                rows[-1] += [NONE] if memory else []
        for dtype, key in (("float32", "product_gflops"), ("bfloat16", "product_bfloat16")):
            if entry.get(key):
                rows.append(["", f"matrix product, {dtype}", NONE, NONE,
                             f"{np.median(entry[key]):.3g}", "100"])
                rows[-1] += [NONE] if memory else []
    first = next(iter(models.values()))
    setting, rounds = first["setting"], len(first["product_gflops"])
    needed = ", ".join(f"{float(format(entry['flops_per_step'] / 1e9, '.3g')):,g} GFLOP ({name})"
                       for name, entry in models.items())
    table = myst_table(None, f"speed-train-{stem}",
                       f"One training step with PGD-{setting['steps']}, {setting['batch_size']} "
                       f"images of {setting['dataset']}, {_arithmetic(setting)}: median and range "
                       f"of {_count(rounds, 'round')} of "
                       f"{_count(setting['timed_steps'], 'step')}. A step "
                       f"needs {needed}. The product is that of the loop's own precision. "
                       f"{_machine(part)}",
                       ["Model", "Loop", "Seconds a step", "Times as fast", "GFLOP/s",
                        "Share of product rate, %", *(["Peak, MiB"] if memory else [])], rows)
    return table + _speed_parts(stem, models)


def _rates(flops: int, seconds: list, product: list) -> list[str]:
    """[GFLOP/s, the share of the product's rate in percent] of work that took these seconds."""
    rate = ratios([flops / 1e9] * len(seconds), seconds)
    return [f"{np.median(rate):.3g}", _spread([100 * r for r in ratios(rate, product)], ".0f")]


def _speed_parts(stem: str, models: dict) -> str:
    """Where a step of our loop by default spends its time; "" where that was not measured."""
    rows, kinds = [], []
    for name, entry in models.items():
        if "attack_shares" in entry:
            step, attack = (np.median(entry[key]["default"]) for key in
                            ("seconds", "attack_seconds"))
            kinds = list(entry["attack_shares"])
            inside = [share * attack / step for share in entry["attack_shares"].values()]
            rows.append([name, *(f"{100 * value:.0f}" for value in [*inside, 1 - attack / step])])
    if not rows:
        return ""
    return "\n" + myst_table(
        None, f"speed-parts-{stem}", "Where the time of a step of our loop by default goes, in "
        "percent: the operations of the attack, by a profile of its own, and all the rest, which "
        "is the update and the loading of the batch.",
        ["Model", *(f"Attack: {kind}" for kind in kinds), "Update"], rows)


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
    return myst_table(None, f"speed-autoattack-{stem}",
                      f"Standard AutoAttack on the first {setting['images']} test images of "
                      f"{setting['dataset']}: seconds, median and range of "
                      f"{_count(rounds, 'round')}; images left standing by pyautoattack / by ours, "
                      "in the last row as robust accuracy; images on which they disagree. "
                      f"{_machine(part)}",
                      ["Model", "Stage", "pyautoattack, s", "Ours, s", "Times as fast",
                       "Standing", "Disagree"], rows)


def _arithmetic(setting: dict) -> str:
    """What a table's loops compute in; with TF32, only the loops as published use it."""
    plain = "float32" + (" (TF32 as published)" if setting["tf32"] else "")
    ours = _precision(setting)
    return plain if ours == "float32" else f"{plain}, ours by default in {ours}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _machine(part: dict, *, threads: bool = True) -> str:
    made = part["provenance"]
    threads = f", threads: {made['threads']}" if threads else ""
    return (f"{escaped(made['device'])}{threads}, torch {made['versions']['torch']}, "
            f"{made['date']} UTC, commit {made['commit'][:7]}{'+dirty' if made['dirty'] else ''}.")
