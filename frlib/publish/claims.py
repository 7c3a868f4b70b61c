"""Claim by claim: intervals, paired tests on per-example flags, and the verdicts they give.

Results come as `collected.collect` gives them: {label: {seed: result}}. Where a label has
several seeds, a test sums what happened to each image over the seeds, so that an image counts once.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import yaml

from frlib.publish import comparable
from frlib.publish.statistics import LEVEL, paired_interval, rank_test, sign_flip
from frlib.run.files import flags_of
from frlib.run.labels import split

VERDICTS = ("reproduced", "contradicted", "smaller than published", "cannot be decided here",
            "not run")
REPRODUCED, CONTRADICTED, SMALLER, UNDECIDED, NOT_RUN = VERDICTS
REGULARISED_ROWS = ("at-fr", "at-fr-swa")  # of Table 2: equation 2, unless a label says another
TABLE1_METHOD = {"natural": "natural", "robust": "at"}
ENERGY = ("low", "middle", "high")  # the bands of a result's "shares", in their order


@functools.cache
def paper() -> dict:
    """book/claims.yml: the paper's tables (accuracies in percent) and its `statements`."""
    path = Path(__file__).resolve().parents[2] / "book" / "claims.yml"
    return yaml.safe_load(path.read_text())


def evidence(statement: dict, results: dict) -> list[dict | None]:
    """The comparisons that decide a statement of claims.yml, each None where a run is missing.

    {"than", "left", "right", "interval", "seeds", "count", "order", "p"}: the two sides in percent
    or points (roughness: its own unit, means), the 95 % interval of their difference (None for
    roughness), how many seeds both have, on what else they rest, the sign of left minus right, and
    the two-sided p.
    "paper": that difference in the paper, None where it prints none.
    Raises ValueError when the sides come from different images or settings.
    """
    return [found and {**found, "paper": size} for found, size in
            zip(_compared(statement, results), published(statement), strict=True)]


def _compared(statement: dict, results: dict) -> list[dict | None]:
    test = statement["test"]
    if test["kind"] == "methods":
        greater, metric, than = test["greater"], test["metric"], test.get("than", [])
        _alike(statement["id"], results, greater, *than)
        if metric == "roughness":
            return [_ranks(results, greater, other) for other in than]
        if metric in ENERGY:
            return [_energies(results, (greater, metric), (other, metric)) for other in than]
        left = _per_image(results, greater, metric)
        if "than_value" in test:
            if (metric, test["than_value"]) != ("overfitting_gap", 0):
                raise ValueError(f"{statement['id']}: only a gap has a fixed side, and that is 0")
            return [_paired(left, {seed: 0 * gaps for seed, gaps in left.items()})]
        return [_paired(left, _per_image(results, m, metric), than=m) for m in than]

    def flags(model, bandwidth):
        return _flags(results, "figures", "table1", TABLE1_METHOD[model], test["input"],
                      str(test[bandwidth]))

    if test["kind"] == "bands":
        return [_energies(results, (test["model"], test["greater"]), (test["model"], other))
                for other in test["than"]]
    if test["kind"] == "bandwidths":
        return [_paired(flags(test["model"], "greater_at_bandwidth"),
                        flags(test["model"], "than_at_bandwidth"))]
    if test["kind"] == "change":
        pairs = [[(test[side], "from_bandwidth"), (test[side], "to_bandwidth")]
                 for side in ("greater", "than")]
    else:  # explained: from the natural network to its filtered images, from there to the robust
        filtered = ("natural", "to_bandwidth")
        pairs = [[("natural", "from_bandwidth"), filtered],
                 [filtered, ("robust", "from_bandwidth")]]
    a, b = (_minus(*(flags(*side) for side in pair)) for pair in pairs)
    minus, plus = _paired(a, b), _paired(a, {seed: -b[seed] for seed in b})
    if minus is None:
        return [None]
    # |a| > |b| exactly when a - b and a + b have the same sign; both must be beyond chance
    left = {seed: int(np.sign(minus["left"])) * change for seed, change in a.items()}
    right = {seed: int(np.sign(minus["right"])) * change for seed, change in b.items()}
    return [{**_paired(left, right), "order": minus["order"] * plus["order"],
             "p": max(minus["p"], plus["p"])}]


def effect(entry: dict, results: dict, metric: str) -> dict | None:
    """What an entry of claims.yml's `open_details` changes, as in `evidence`; None if not run.

    Left is the run with the other reading (or its last checkpoint, `scores: last`), right its base,
    on the same images. Raises ValueError when they differ in more than their labels say.
    """
    if "run" not in entry:
        return None
    run, base = (comparable.changed(entry[side]) for side in ("run", "base"))
    _alike(entry["detail"], results, entry["run"], entry["base"], but=run ^ base)
    return _paired(_flags(results, entry["run"], entry.get("scores", "scores"), metric),
                   _flags(results, entry["base"], "scores", metric), than=entry["base"])


def difference(results: dict, label: str, base: str, metric: str) -> dict | None:
    """What a label has over another under an attack, image by image, as in `evidence`; None where
    one was not run, or on another data set. Raises ValueError when they have different test images
    without saying so."""
    ours, theirs = comparable.changed(label), comparable.changed(base)
    sets = [set(find(results, name, "config", "dataset").values()) for name in (label, base)]
    if all(sets) and sets[0] != sets[1]:
        return None
    _alike(f"{label} minus {base}", results, label, base, but=ours | theirs)
    return _paired(_flags(results, label, "scores", metric),
                   _flags(results, base, "scores", metric), than=base)


def in_points(found: dict) -> tuple[float, float, float, float]:
    """A `difference` or an `effect` as a figure takes it: (difference, low, high, p)."""
    return found["left"] - found["right"], *found["interval"], found["p"]


def verdict(statement: dict, results: dict) -> str:
    """One of VERDICTS; see `reasoned`."""
    return reasoned(statement, results)[0]


def reasoned(statement: dict, results: dict) -> tuple[str, str]:
    """A verdict and, where nothing can be decided, why; where it is reproduced, how its size is.

    "not run" if a run is missing. "cannot be decided here" if the statement `needs` another that
    is not reproduced. "reproduced" if every comparison has the paper's order with p < 0.05,
    "contradicted" if one has the opposite order with p < 0.05; but where a fall is claimed, a rise
    says that validation chose an early checkpoint, and counts as none. Of what is left, "smaller
    than published" if no undecided comparison's interval reaches the paper's size, else "cannot be
    decided here", since chance and the paper explain the numbers equally well. A statement that
    names a preset cannot be called smaller by the results of another.
    """
    found = evidence(statement, results)
    needs = [s for s in paper()["statements"] if s["id"] == statement.get("needs")]
    if not found or None in found or NOT_RUN in (verdict(s, results) for s in needs):
        return NOT_RUN, ""
    for other in needs:
        if verdict(other, results) != REPRODUCED:
            return UNDECIDED, other["absent"]
    orders = [c["order"] if c["p"] < LEVEL else 0 for c in found]
    rises = "than_value" in statement["test"] and min(orders) < 0
    if rises:
        orders = [max(0, order) for order in orders]  # a rise is no fall, and no more than that
    if min(orders) > 0:
        return REPRODUCED, _size(found)
    if min(orders) < 0:
        return CONTRADICTED, ""
    undecided = [c for c, order in zip(found, orders, strict=True) if not order]
    if None in [c["paper"] for c in undecided]:
        return UNDECIDED, "chance explains the difference, and the paper prints none"
    if all(c["interval"][1] < c["paper"] for c in undecided):
        if _elsewhere(statement, results):
            alone = f"its size is judged by preset {statement['preset']} alone"
            return UNDECIDED, statement.get("absent", alone)
        return SMALLER, "there is no fall at all" * rises
    return UNDECIDED, "too few images: the interval holds 0 and the paper's figure"


def _size(found: list[dict]) -> str:
    """Whether all comparisons of a reproduced claim are beyond chance larger, or smaller, than
    the paper's; "" if neither."""
    sized = [(*c["interval"], c["paper"]) for c in found
             if c["interval"] and c["paper"] is not None]
    if sized and all(low > paper for low, _, paper in sized):
        return "its size is larger than published"
    if sized and all(high < paper for _, high, paper in sized):
        return "its size is smaller than published"
    return ""


def _elsewhere(statement: dict, results: dict) -> bool:
    """Whether a statement names a preset, and the results are of another."""
    named = statement.get("preset")
    return named is not None and any(result.get("preset") != named
                                     for seeds in results.values() for result in seeds.values())


def deciding(statement: dict, preset: str, results: dict, larger: dict) -> tuple[str, dict]:
    """The preset and results that a statement is judged by: the first of `larger`, {preset:
    results}, best first, in which all its runs are, else these.

    A preset of `apart` comes first for the statements that name it, and is not asked for others.
    """
    named = statement.get("preset")
    order = [name for name in larger if name == named]
    order += [name for name in larger if name not in apart()]
    for name in order:
        if verdict(statement, larger[name]) != NOT_RUN:
            return name, larger[name]
    return preset, results


def names_regulariser(statement: dict) -> bool:
    """Whether a statement compares AT-FR or its average."""
    test = statement["test"]
    return bool({test.get("greater"), *test.get("than", [])} & set(REGULARISED_ROWS))


def as_released(results: dict) -> dict:
    """The results with AT-FR, and its average, as the released code has the regulariser: its
    transform, over batch and classes, from a later epoch on. Without either where it was not run.
    """
    found = {label: seeds for label, seeds in results.items() if label not in REGULARISED_ROWS}
    for label, seeds in results.items():
        method, changes = split(label)
        changed = dict(change.split("=", 1) for change in changes)
        if method in REGULARISED_ROWS and changed.keys() == {"fr_transform", "fr_start_epoch"} \
                and changed["fr_transform"] == "batch-class":
            found[method] = seeds
    return found


def released(statement: dict, preset: str, results: dict, larger: dict) -> tuple | None:
    """`deciding` with the regulariser as released: (preset, results) in which AT-FR is that one;
    None for a statement that is not about it, and where it was not run."""
    if not names_regulariser(statement):
        return None
    found = deciding(statement, preset, as_released(results),
                     {name: as_released(other) for name, other in larger.items()})
    return None if verdict(statement, found[1]) == NOT_RUN else found


def apart() -> tuple[str, ...]:
    """The presets that statements of claims.yml name: each decides those and nothing else."""
    return tuple({s["preset"]: None for s in paper()["statements"] if "preset" in s})


def published(statement: dict) -> list[float | None]:
    """The paper's difference for each comparison of `evidence`, in points; None: it prints none."""
    test, rows = statement["test"], paper()["table2"]["rows"]
    than = test.get("than", []) if test["kind"] in ("methods", "bands") else []
    sides = [test.get("greater"), *than]
    if than and statement["where"] == "Table 2":
        greater, *others = (in_table2(rows[method], test["metric"]) for method in sides)
        return [round(greater - other, 2) for other in others]
    printed = statement["paper"]
    return [round(printed[0] - printed[1], 2) if printed else None] * max(1, len(than))


def in_table2(row: dict, metric: str) -> float:
    """A metric of a row of the paper's Table 2."""
    return row["clean"] - row["pgd20"] if metric == "gap" else row[metric]


def find(results: dict, label: str, *path: str) -> dict:
    """{seed: what the results of a label hold at `path`}, without the seeds that lack it."""
    found = {}
    for seed, value in results.get(label, {}).items():
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[seed] = value
    return found


def radius(result: dict) -> float | None:
    """The radius, in [0, 1], of the attacks that judged a result."""
    config = result.get("config", {})
    return config.get("judge_eps", config.get("eps"))


def _alike(what: str, results: dict, *labels: str, but=()) -> None:
    """ValueError unless the results of these labels agree in every setting that decides both."""
    found = [(f"{label}, seed {seed}", comparable.settings(result))
             for label in labels for seed, result in results.get(label, {}).items()]
    comparable.agree([(name, {k: v for k, v in decided.items() if k not in but})
                      for name, decided in found], f"nothing follows for {what}")


def _flags(results, label, *path) -> dict[int, np.ndarray]:
    return {seed: flags_of(score) for seed, score in find(results, label, *path).items()}


def _minus(left: dict, right: dict) -> dict:
    """{seed: left - right} on the first images, which both have."""
    sizes = {seed: min(len(left[seed]), len(right[seed])) for seed in left if seed in right}
    return {seed: left[seed][:n] - right[seed][:n] for seed, n in sizes.items()}


def _per_image(results, method, metric) -> dict[int, np.ndarray]:
    if metric == "gap":
        return _minus(*(_flags(results, method, "scores", m) for m in ("clean", "pgd20")))
    if metric != "overfitting_gap":
        return _flags(results, method, "scores", metric)
    best, last = (_flags(results, method, which, "pgd20")
                  for which in best_and_last(results, method))
    return _minus(best, last)


def best_and_last(results: dict, method: str) -> tuple[str, str]:
    """Where a method's results hold the scores of the checkpoint that validation likes best and of
    the last one: one of them is what stands for the method, "scores"."""
    last = find(results, method, "best")  # an average stands for the method at the last epoch
    return ("best", "scores") if last else ("scores", "last")


def _paired(left: dict, right: dict, than: str = "") -> dict | None:
    shared = _minus(left, right)
    n = min(map(len, shared.values()), default=0)
    if not n:
        return None
    difference = sum(d[:n] for d in shared.values())
    percent = [100 * float(np.mean([side[seed][:n] for seed in shared])) for side in (left, right)]
    ends = tuple(100 * end for end in paired_interval(difference / len(shared)))
    return {"than": than, "left": percent[0], "right": percent[1], "interval": ends,
            "seeds": len(shared), "count": f"{n:,} images", "order": int(np.sign(difference.sum())),
            "p": sign_flip(difference)}


def _energies(results, left, right) -> dict | None:
    """Two (model, band) shares of an attack's energy, image by image; p is of the sign test."""
    shares = [{seed: np.asarray(rows)[:, ENERGY.index(band)] for seed, rows in
               find(results, "lens", "shares", model).items()} for model, band in (left, right)]
    found = _paired(*shares, than=right[0] if right[0] != left[0] else right[1])
    if found is None:
        return None
    first, second = shares
    signs = sum(np.sign(first[seed] - second[seed]) for seed in first if seed in second)
    return {**found, "order": int(np.sign(signs.sum())), "p": sign_flip(signs)}


def _ranks(results, greater, other) -> dict | None:
    """Mann-Whitney test on the roughness of first-layer filters, those of all seeds together."""
    sides = [[of_filters(kernels) for kernels in find(results, method, "roughness").values()]
             for method in (greater, other)]
    if not all(sides):
        return None
    left, right = map(np.concatenate, sides)
    order, p = rank_test(left, right)
    return {"than": other, "left": float(np.mean(left)), "right": float(np.mean(right)),
            "interval": None, "count": f"{len(left)} and {len(right)} filters",
            "order": order, "p": p}


def of_filters(roughness) -> np.ndarray:
    """(out,): the mean roughness of each filter, of that of its kernels, (out, in).

    A filter's kernels, one for each colour, are much alike: as evidence they count once. A flat
    list, as results had it before, is of three colours.
    """
    kernels = np.asarray(roughness, dtype=float)
    if kernels.ndim == 1 and len(kernels) % 3 == 0:
        kernels = kernels.reshape(-1, 3)
    return kernels.mean(1) if kernels.ndim == 2 else kernels
