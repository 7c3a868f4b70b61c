"""What the notebooks show: which results, as lines for `plots` and as small tables.

"Collected" results are what `collected.collect` gives: {label: {seed: result}}.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from contextlib import suppress

import numpy as np
import torch

from frlib import methods, spectral
from frlib.data import Split
from frlib.publish import book_tables, claims, comparable, comparison, sources
from frlib.publish.claims import NOT_RUN, radius
from frlib.publish.collected import PUBLISHED, collect
from frlib.publish.comparison import short
from frlib.publish.markup import NONE, SMOKE_MARK, chance, html_table, percent
from frlib.publish.result_format import KINDS
from frlib.publish.statistics import LEVEL, interval, rank_test, sign_flip
from frlib.run.config import Config, load
from frlib.run.figures import examples
from frlib.run.figures import spectra as mean_spectra
from frlib.run.files import flags_of
from frlib.run.folder import open_run, refuse_another
from frlib.run.labels import parse_label, run_label, split
from frlib.run.places import project_root, resolve
from frlib.run.presets import shipped
from frlib.run.provenance import NUMERICS
from frlib.run.settings import READ_FROM

SERIES = {  # columns of a run's history that are accuracies, and their names on a figure
    "val_clean": "clean, validation", "test_clean": "clean, test", "val_pgd": "PGD, validation",
    "test_pgd": "PGD, test", "swa_test_pgd": "averaged, PGD, test",
    "loss_ce": "cross-entropy", "loss_fr": "FR term", "loss_trades": "TRADES", "loss_mart": "MART"}
CHECKS = {  # of `masking`, and their columns
    "autoattack": "AutoAttack breaks, PGD-20 does not", "fgsm": "FGSM breaks, PGD-20 does not",
    "square": "only Square breaks", "zero_gradient": "no input gradient"}
# the share of images from which a check is suspicious, if it exceeds it beyond chance
AUTOATTACK_GAP = 0.10  # the paper's own rows lose 3 to 7.5 points from PGD-20 to AutoAttack
SQUARE_GAIN = 0.002  # from here on the AutoAttack package warns of its own result
NO_GRADIENT = 0.01  # a network that gradients have trained has one nearly everywhere


def mark(preset: str) -> str | None:
    """The warning that figures of the smoke preset carry."""
    return SMOKE_MARK if preset == "smoke" else None


def shown(config: Config, show: str = "", needed=("at", "at-fr"), *,
          before=()) -> tuple[str, dict]:
    """The preset whose numbers a page shows, and its collected results.

    `show` if given; else the config's own preset, but where this is only smoke, with no knob
    turned, the first of the presets `before` and of PUBLISHED with committed results of all
    `needed` labels, in which a * stands for any text. This machine's results stand before
    committed ones.
    Raises ValueError for results that were made with other settings than the preset has.
    """
    committed = project_root() / "results"
    name = show or config.preset_name
    if not show and name == "smoke" and not turned(config):
        there = (preset for preset in (*before, *PUBLISHED)
                 if all(any(committed.glob(f"{preset}/{label}/seed*.json")) for label in needed))
        name = next(there, name)
    found = collect(name, resolve(config.runs_dir) / "results", committed)
    if show and not found and show not in shipped():
        raise ValueError(f"show = {show!r}: there are no results of such a preset; the book's are "
                         f"{', '.join(shipped())}")
    if name == config.preset_name or name in shipped():
        comparable.of_one_experiment(found, load(config.preset if name == config.preset_name
                                                 else name))
    return name, found


def turned(config: Config) -> bool:
    """Whether a knob was turned: what the preset, or its seeds, would not give by itself."""
    return not config.is_preset or config.seed not in config.seeds


def labels(config: Config, name: str, wanted=None) -> dict[str, str]:
    """{label: the one that stands for it on a page about preset `name`}, of these; None: of all
    methods, and of the readings of AT-FR that the preset lists.

    On one about the config's own preset, the reader's: with fr_lambda turned to 0.5 "at-fr" is
    "at-fr@fr_lambda=0.5", and "at", which has no lambda, is "at". Of methods that have no such
    run, since they have no official recipe, there is none.
    """
    found = {}
    for label in [*READ_FROM, *book_tables.listed_readings(name)] if wanted is None else wanted:
        ours = name == config.preset_name and split(label)[0] in READ_FROM
        with suppress(ValueError):
            found[label] = config.sibling(label).result_label if ours else label
    return found


def badge(config: Config, wanted=(), show: str = "", needed=("at", "at-fr"), *,
          before=()) -> str:
    """One line of HTML on a notebook's page: what made the results that it shows, and their files.

    Of what `shown` gives for `needed` and `before`, those that stand for the labels `wanted`, by
    default all.
    """
    name, collected = shown(config, show, needed, before=before)
    wanted = labels(config, name, wanted).values() if wanted else collected
    return sources.badge(name, {label: collected[label] for label in wanted
                               if label in collected}, up="../..", ran=config.preset_name)


def shown_file(what: str, config: Config, show: str = "") -> tuple[str, dict]:
    """The preset and the "figures" of notebook 05 or "lens" of 08; its own where `show` has none.

    FileNotFoundError when it has none either.
    """
    for candidate in (show, config.preset_name):
        name, collected = shown(config, candidate, [what])
        if what in collected:
            return name, first(collected[what], config.seed)
    raise FileNotFoundError(f"no {what} of preset {name!r}: run notebooks 01 to 03 first")


def of_seed(collected: dict, seed: int) -> dict[str, dict]:
    """{label: result} of one seed; where a label lacks it, its first, and the label says so."""
    found = {}
    for label, by_seed in collected.items():
        if label not in KINDS:
            result = first(by_seed, seed)
            found[label if seed in by_seed else f"{short(label)}, seed {min(by_seed)}"] = result
    return found


def first(by_seed: dict, seed: int = 0) -> dict:
    """The result of `seed` if it is there, else of the lowest seed."""
    return by_seed.get(seed, by_seed[min(by_seed)])


def histories(collected: dict, labels) -> dict[str, list[dict]]:
    """{label: history}, for those labels that have a result."""
    return {label: rows for label in labels if label in collected
            if (rows := first(collected[label]).get("history"))}


def progress(config: Config, name: str, collected: dict, wanted) -> dict[str, list[dict]]:
    """{label: history} of those of these labels that were run, for a page about preset `name`.

    If that is the config's own preset: of this machine's finished runs, else of results, all of
    the config's seed. RuntimeError for a run of other settings in the folder of one of them.
    """
    if name != config.preset_name:
        return histories(collected, wanted)
    found = {}
    for label, shown in labels(config, name, wanted).items():
        run = open_run(config.sibling(label))
        if run.finished:
            refuse_another(run, {"numerics": NUMERICS["train"]})
            found[run.config.label] = run.history
        elif rows := collected.get(shown, {}).get(config.seed, {}).get("history"):
            found[shown] = rows
    return found


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
    method = READ_FROM.get(split(label)[0], ("at",))[0]
    key = prefix + methods.METHODS[method].criterion
    return max((row for row in rows if key in row), key=lambda row: row[key])


def best(history: dict[str, list[dict]], key: str) -> dict[str, int]:
    """The epoch that validation chooses, for each line `key`, as `plots.curves` rings it."""
    return {f"{short(label)}: {SERIES[key]}": best_epoch(label, rows)["epoch"]
            for label, rows in history.items() if any(key in row for row in rows)}


def source(*functions) -> str:
    """The code of functions as it runs, in Markdown, without their docstrings."""
    found = []
    for function in functions:
        text = textwrap.dedent(inspect.getsource(function))
        found.append(re.sub(r'^    r?""".*?"""\n', "", text, count=1, flags=re.M | re.S))
    return "```python\n" + "\n\n".join(found) + "```"


def grid(rows: dict[str, dict[str, float]], preset: str) -> str:
    """{row: {column: accuracy in [0, 1]}} as a table in percent."""
    columns = list(next(iter(rows.values()), {}))
    return html_table(preset, ["Weights", *columns], [
        [name, *(f"{100 * row[c]:.1f} %" for c in columns)] for name, row in rows.items()])


def history_table(history: dict[str, list[dict]], preset: str) -> str:
    """The chosen and the last epoch of every run."""
    rows = []
    for label, epochs in history.items():
        for what, row in (("best on validation", best_epoch(label, epochs)), ("last", epochs[-1])):
            loss = next(value for key, value in row.items() if key.startswith("loss"))
            rows.append([label, f"{row['epoch']}, {what}", f"{loss:.3f}",
                         *(f"{100 * row[k]:.1f}" for k in
                           ("val_clean", "val_pgd", "test_clean", "test_pgd")),
                         f"{row['seconds']:.0f} s"])
    return html_table(preset, ["run", "epoch", "loss", "val. clean %",
                                      "val. PGD %", "test clean %", "test PGD %", "time"], rows)


def curve_points(history: dict[str, list[dict]], preset: str, averaged: bool = False,
                 wanted=()) -> str:
    """The points of the curves that count: the epoch that validation chooses and the last one.

    With `averaged` also the average at the last epoch; of the labels `wanted`, those without a
    curve as not run. Test accuracies in percent, as an HTML table.
    """
    caption, rows = "The curves in numbers: accuracy on test images, in %.", []
    if history and preset in shipped():  # one of the book's, whose file is at hand
        drawn = load(preset, **parse_label(next(iter(history))))
        images = f"the first {drawn.curve_images:,}" if drawn.curve_images else "all"
        caption += f" {images.capitalize()} images, under PGD-{drawn.curve_steps}; the results " \
                   "above have more images, or stronger attacks."
    for label, epochs in history.items():
        last = epochs[-1]
        points = {"chosen on validation": (best_epoch(label, epochs), ""), "last": (last, "")}
        if averaged and "swa_test_pgd" in last:
            count = book_tables.averaged_epochs(epochs, last["epoch"])
            points[f"average of {count}"] = last, "swa_"
        for what, (row, prefix) in points.items():
            accuracies = [row[f"{prefix}test_clean"], row[f"{prefix}test_pgd"]]
            rows.append([label, f"{row['epoch']}, {what}", *(f"{100 * a:.1f}" for a in accuracies)])
    there = set(map(run_label, history))
    rows += [[label, NOT_RUN, NONE, NONE] for label in wanted if run_label(label) not in there]
    return html_table(preset, ["Run", "Epoch", "Clean", "PGD"], rows or [[NOT_RUN] + [NONE] * 3],
                      caption=caption)


def low_pass_lines(figures: dict) -> dict:
    """Table 1 as `plots.low_pass_accuracy` takes it."""
    rows = {**figures["table1"]}
    if figures["full_scale"]:
        rows["natural, shipped ResNet-18"] = figures["full_scale"]
    found = {}
    for model, inputs in rows.items():
        for name, scores in inputs.items():
            ends = [interval(s["correct"], s["total"]) for s in scores.values()]
            found[f"{model}, {name}"] = (
                [int(b) for b in scores], [s["correct"] / s["total"] for s in scores.values()],
                [low for low, _ in ends], [high for _, high in ends])
    return found


def roughness_table(figures: dict, preset: str) -> str:
    """Mean roughness of every model's filters, and how they differ from those of natural training
    and of AT, as HTML."""
    found = {short(label): claims.of_filters(kernels)
             for label, kernels in figures["roughness"].items()}
    bases = [base for base in ("natural", "at") if base in found]

    def against(model, base):
        if model == base:
            return NONE
        order, p = rank_test(found[model], found[base])
        word = "alike" if p >= LEVEL else "rougher" if order > 0 else "smoother"
        return f"{word} ({chance(p)})"

    rows = [[model, f"{np.mean(values):.2f}", *(against(model, base) for base in bases)]
            for model, values in found.items()]
    return html_table(preset, ["Network", "mean roughness",
                               *(f"against {base}'s" for base in bases)], rows, caption=(
        "Filter by filter, the mean of its kernels, of one network of each kind; p of the "
        "Mann–Whitney rank test."))


def flat_radial(figures: dict) -> np.ndarray:
    """White noise's energy by radius, on the rings of the stored ones: of square images, 1-D."""
    rings = max(map(len, figures["radial"].values()), default=1)
    side = 2 * round((rings - 1) / 2 ** 0.5)  # the last ring is the corner's, at side / 2 * sqrt(2)
    impulse = torch.zeros(1, 1, side or 1, side or 1)
    impulse[..., 0, 0] = 1.0
    return spectral.radial_energy(impulse).numpy()


def radial_table(figures: dict, preset: str) -> str:
    """Within which distance from the zero frequency half of each attack's energy lies, as HTML."""
    rows = []
    for name, energy in {**{short(label): energy for label, energy in figures["radial"].items()},
                         "white noise": flat_radial(figures)}.items():
        share = np.cumsum(energy) / (np.sum(energy) or 1.0)
        rows.append([name, int(np.argmax(share >= 0.5))])
    return html_table(preset, ["Network", "half of the energy within"], rows,
                      caption="Distance from the zero frequency in cycles per image.")


def low_pass_table(figures: dict, preset: str) -> str:
    """Table 1 as HTML, in percent with 95 % intervals."""
    found = low_pass_lines(figures)
    if not found:
        return NOT_RUN
    head = ["Model, images", *(str(b) for b in next(iter(found.values()))[0])]
    rows = [[label, *(percent(*ends) for ends in zip(*numbers, strict=True))]
            for label, (_, *numbers) in found.items()]
    return html_table(preset, head, rows)


def benchmark_table(results: dict[str, dict], preset: str) -> str:
    """{label: result} as a table: one row per method, an attack per column."""
    collected = {label: {0: result} for label, result in results.items()}
    heads, rows = comparison.columns(collected), []
    for label, row in book_tables.bars(collected).items():
        rows.append([label, *(percent(*row[head]) if head in row else NOT_RUN for head in heads)])
        theirs = results[label].get("published") or {}
        if theirs.get("clean") is not None:
            other = "" if theirs["eps"] == radius(results[label]) else f", eps = {theirs['eps']:g}"
            rows.append([f"as published{other}", *(
                NONE if theirs.get(attack) is None else f"{theirs[attack]:.2f}"
                for attack, _ in heads.values())])
    return html_table(preset, ["Method", *heads], rows)


def masking(result: dict) -> dict[str, dict | None]:
    """Four signs that gradients mislead the attacks, so that a network only seems robust.

    {check: {"count", "total", "suspicious"}} in images, None where a result lacks the numbers.
    "autoattack": PGD-20 leaves them standing, AutoAttack breaks them. "fgsm": FGSM breaks them,
    PGD-20 does not; suspicious if the reverse is rarer, beyond chance. "square": only AutoAttack's
    stage without gradients breaks them. "zero_gradient": the cross-entropy has none there.
    """
    scores, zero = result["scores"], result.get("zero_gradient")
    fgsm, pgd20, aa = (flags_of(scores[name]) if name in scores else None
                       for name in ("fgsm", "pgd20", "aa"))
    stages = scores.get("aa", {}).get("stages", {})
    before, after = list(stages.values())[-2:] if "square" in stages else (None, None)

    def check(count, total, threshold):
        beyond = interval(count, total)[0] > threshold
        return {"count": int(count), "total": total, "suspicious": beyond}

    return {
        "autoattack": check((pgd20[:len(aa)] > aa).sum(), len(aa), AUTOATTACK_GAP)
        if {"pgd20", "aa"} <= scores.keys() else None,
        "fgsm": {"count": int((pgd20 > fgsm).sum()), "total": len(fgsm), "suspicious":
                 bool(pgd20.sum() > fgsm.sum()) and sign_flip(pgd20 - fgsm) < LEVEL}
        if {"fgsm", "pgd20"} <= scores.keys() else None,
        "square": check(before - after, len(aa), SQUARE_GAIN) if "square" in stages else None,
        "zero_gradient": zero and check(zero["count"], zero["total"], NO_GRADIENT)}


def masking_table(results: dict[str, dict], preset: str) -> str:
    """{label: result} as a table: how many images speak for masking, and which checks do."""
    rows = []
    for label, result in results.items():
        found = masking(result)
        loud = [CHECKS[name] for name, check in found.items() if check and check["suspicious"]]
        rows.append([short(label), *(f"{check['count']} of {check['total']}" if check else NOT_RUN
                                     for check in found.values()), "; ".join(loud) or "none"])
    return html_table(preset, ["Method", *CHECKS.values(), "suspicious"], rows,
                      classes="numbers cards", caption=(
        f"Suspicious beyond chance: above {100 * AUTOATTACK_GAP:g} % in the first column, in the "
        "second if the reverse is rarer, "
        f"above {100 * SQUARE_GAIN:g} % and {100 * NO_GRADIENT:g} % in the others."))


def overfitting(result: dict) -> dict:
    """Robust overfitting in points, {} where a result has no last checkpoint or no curve.

    "gap": PGD-20 of the best checkpoint minus the last, "p": of the paired exact test on the same
    images; "peak": the highest PGD accuracy of the curve on test images minus its last.
    """
    found, (best, last) = {}, _best_and_last(result)
    if "pgd20" in best and "pgd20" in last:
        difference = flags_of(best["pgd20"]) - flags_of(last["pgd20"])
        found = {"gap": 100 * float(difference.mean()), "p": sign_flip(difference)}
    key = "swa_test_pgd" if result.get("checkpoint", "").startswith("swa") else "test_pgd"
    curve = [row[key] for row in result.get("history", []) if key in row]
    return found | ({"peak": 100 * (max(curve) - curve[-1])} if curve else {})


def overfitting_table(results: dict[str, dict], preset: str) -> str:
    """{label: result} as a table: best and last checkpoint side by side, and what is lost."""
    rows = []
    for label, result in results.items():
        scores = [where.get(attack) for attack in ("clean", "pgd20")
                  for where in _best_and_last(result)]
        found, gap = overfitting(result), NONE
        if "gap" in found:
            gap = f"{round(found['gap'], 1) + 0.0:.1f} ({chance(found['p'])})"
        rows.append([short(label), *(f"{100 * (s['correct'] / s['total']):.1f}" if s else NONE
                                     for s in scores), gap,  # rounded as `percent` does
                     f"{found['peak']:.1f}" if "peak" in found else NONE])
    return html_table(preset, ["Method", "clean %, best", "last", "PGD-20 %, best", "last",
                                      "best minus last, points", "curve: highest minus last"], rows,
                      classes="numbers cards", caption=(
                          "Best: of the epoch that validation chose; all on the same test images. "
                          "Curve: on the few images and under the weak attack that follow the "
                          "training; it cannot be negative and grows with noise."))


def _best_and_last(result: dict) -> tuple[dict, dict]:
    """The scores of a run's best and last checkpoint, {} where there are none."""
    best, last = claims.best_and_last({"": {0: result}}, "")
    return result.get(best, {}), result.get(last, {})


def arrays(lists: dict) -> dict[str, np.ndarray]:
    """{label: nested lists} as {label: array}."""
    return {short(label): np.asarray(values, dtype=float) for label, values in lists.items()}


def spectra_of(few: Split, attacked) -> dict[str, dict]:
    """What figure 2 shows of a network: two example images and the mean of all, attacked.

    {example: {"clean", "adv", "difference"}} as `frlib.run.figures.spectra` gives them, with the
    "images" of an example, clean and attacked, (H, W, C) each. attacked: like `few.x`.
    """
    x, mean = few.x, f"mean of {len(few)}"
    chosen = {name: slice(i, i + 1) for name, i in
              examples(few.labels, few.classes).items()}
    found = {name: mean_spectra(x[at], attacked[at])
             for name, at in {**chosen, mean: slice(None)}.items()}
    for name, at in chosen.items():
        found[name]["images"] = [images[at][0].permute(1, 2, 0).cpu().numpy()
                                 for images in (x, attacked)]
    return found


def spectrum_rows(spectra: dict) -> list[dict]:
    """{model: {example: spectra}} as figure 2, `plots.spectra`, takes it."""
    return [{"title": f"{model}\n{example}",
             **{f"{key}_spectrum": np.asarray(found[key]) for key in ("clean", "adv")},
             "difference": np.asarray(found["difference"]),
             **dict(zip(("clean_image", "adv_image"), found.get("images", ()), strict=False))}
            for model, examples in spectra.items() for example, found in examples.items()]
