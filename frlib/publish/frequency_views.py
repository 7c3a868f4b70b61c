"""What notebook 08 shows: by frequency, where attacks live, what hurts a network, what it needs.

`lens` is what `frlib.run.figures.lens` gives: {"scores", "shares", "inside", "maps", ...} by model
label. Bands are named rings of frequencies; a model's figures are means over the same test images.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from frlib.publish.markup import NONE, chance, html_table, percent
from frlib.publish.notebook_views import short
from frlib.publish.statistics import LEVEL, interval, sign_flip
from frlib.run.files import flags_of


def bootstrap(values, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0):
    """(mean, low, high) over the first axis, one entry per image: (N,) or (N, k).

    Images are drawn anew with replacement; the interval holds the middle share of the means. The
    same seed draws the same images. Raises ValueError for no images.
    """
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count == 0:
        raise ValueError("bootstrap needs at least one image")
    rng, tail = np.random.default_rng(seed), (1 - confidence) / 2
    means = [values[rng.integers(count, size=count)].mean(0) for _ in range(resamples)]
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return values.mean(0), low, high


def shares(lens: dict) -> dict:
    """{model: {band: (mean share of the attack's energy, low, high)}}, fractions."""
    return {short(label): dict(zip(lens["bands"], zip(*bootstrap(rows), strict=True), strict=True))
            for label, rows in lens["shares"].items()}


def accuracies(lens: dict) -> dict:
    """{model: {attack: (accuracy, low, high)}} as `plots.attack_bars` takes it."""
    return {short(label): {attack: (s["correct"] / s["total"], *interval(s["correct"], s["total"]))
                           for attack, s in scores.items()}
            for label, scores in lens["scores"].items()}


def filtered(lens: dict) -> dict:
    """{model: {filter: (bandwidths, accuracies)}} as `plots.filtered_accuracy` takes it."""
    return {short(label): {name: ([int(b) for b in scores],
                                  [s["correct"] / s["total"] for s in scores.values()])
                           for name, scores in filters.items()}
            for label, filters in lens["filters"].items()}


def weakest(lens: dict) -> dict:
    """{model: (band, p)}: the band whose attack leaves the fewest images, and the p of the exact
    paired test against the band that comes next."""
    found = {}
    for label, scores in lens["scores"].items():
        flags = {band: flags_of(scores[band]) for band in lens["bands"]}
        first, second, *_ = sorted(flags, key=lambda band: flags[band].sum())
        found[short(label)] = first, sign_flip(flags[second] - flags[first])
    return found


def band_means(lens: dict, key: str) -> dict:
    """{model: {band: mean of the map over its frequencies}}; key: "maps" or "energy".

    Without the bands of which a coarse map has no frequency.
    """
    band = np.digitize(_radii(lens), lens["edges"])
    return {short(label): {name: float(np.asarray(values)[band == k].mean())
                           for k, name in enumerate(lens["bands"]) if (band == k).any()}
            for label, values in lens[key].items()}


def agreement(lens: dict) -> dict:
    """{model: Spearman's rank correlation, over the map's frequencies, of the accuracy that a wave
    takes with the energy that the free attack puts there}; None for a map without differences."""
    found = {}
    for label, accuracy in lens["maps"].items():
        lost, energy = -np.ravel(accuracy), np.ravel(lens["energy"][label])
        flat = np.ptp(lost) == 0 or np.ptp(energy) == 0
        found[short(label)] = None if flat else float(stats.spearmanr(lost, energy).statistic)
    return found


def _radii(lens: dict) -> np.ndarray:
    return np.hypot(*np.meshgrid(lens["vertical"], lens["horizontal"], indexing="ij"))


def half_kept(lens: dict) -> dict:
    """{model: (smallest patch of low frequencies that keeps half of what the clean accuracy has
    above chance, largest that can be taken away)}: sides in frequencies, None where none does."""
    found, guess = {}, 1 / lens["classes"]
    for (model, filters), scores in zip(filtered(lens).items(), lens["scores"].values(),
                                        strict=True):
        half = (scores["clean"]["correct"] / scores["clean"]["total"] + guess) / 2
        kept = {name: [b for b, accuracy in zip(*lines, strict=True) if accuracy >= half]
                for name, lines in filters.items()}
        found[model] = (min(kept["low_pass"], default=None), max(kept["high_pass"], default=None))
    return found


def summary_table(lens: dict, preset: str) -> str:
    """Every network under the four lenses, one row each, as HTML."""
    names, rows = list(lens["bands"]), []
    energy, weak, waves = shares(lens), weakest(lens), band_means(lens, "maps")
    rho, filters = agreement(lens), half_kept(lens)
    for model in energy:
        band, p = weak[model]
        rows.append([
            model, *(percent(*energy[model][name]) for name in (names[0], names[-1])),
            f"{band} ({chance(p)})" if p < LEVEL else f"none ({chance(p)})",
            " / ".join(f"{100 * value:.0f}" for value in waves[model].values()),
            NONE if rho[model] is None else f"{rho[model]:+.2f}",
            *(NONE if side is None else side for side in filters[model])])
    head = ["Network", *(f"attack's energy, {name} band" for name in (names[0], names[-1])),
            "weakest band", f"under waves, {' / '.join(next(iter(waves.values()), names))}",
            "rank correlation", "low-pass", "high-pass"]
    return html_table(preset, head, rows, caption=(
        f"Energy and accuracy in %, {lens['images']} images, energy with 95 % intervals. Weakest "
        "band: where the confined attack breaks the most images, against the band that comes next. "
        "Rank correlation, over the frequencies of the map, of two things: how much accuracy a "
        "wave takes, and how much energy the free attack has there; +1: it is densest where waves "
        "hurt most. Low-pass and high-pass: the smallest patch of low frequencies that keeps half "
        "of what the clean accuracy has above chance, the largest that can be taken away."))


def kept_table(lens: dict, preset: str) -> str:
    """How well each network's confined attacks kept to their bands and filled the ball, as HTML."""
    rows = []
    for label, inside in lens["inside"].items():
        size = lens["size"][label]  # nothing where no image was right, and so none attacked
        kept = [f"{100 * np.mean(of):.1f}" if of else NONE for of in inside.values()]
        filled = [f"{np.mean(of):.2f}" if of else NONE for of in size.values()]
        rows.append([short(label), " / ".join(kept), " / ".join(filled)])
    names = " / ".join(lens["bands"])
    head = ["Network", f"energy within the band, in %, {names}", f"size, of eps, {names}"]
    return html_table(preset, head, rows, caption=(
        "Confined attacks after clipping to [0, 1]: share of the energy that is left in the band, "
        "and root mean square over the radius, mean over images. A larger one is a stronger attack."
    ))
