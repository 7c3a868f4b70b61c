"""What notebook 08 shows: by frequency, where attacks live, what hurts a network, what it needs.

`lens` is what `frlib.run.figures.lens` gives: {"scores", "shares", "inside", "maps", ...} by model
label. Bands are named rings of frequencies; a model's figures are means over the same test images.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from frlib.publish.notebook_views import short
from frlib.publish.statistics import LEVEL, interval, sign_flip
from frlib.run.files import unpack_flags


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
        flags = {band: unpack_flags(scores[band]["flags"], scores[band]["total"]).astype(int)
                 for band in lens["bands"]}
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


# ---- sentences made from the numbers

def seen_shares(lens: dict) -> str:
    """Which models have the least and the most energy in the first and in the last band."""
    found, sentences = shares(lens), []
    for band in (list(lens["bands"])[0], list(lens["bands"])[-1]):
        models = [choose(found, key=lambda model: found[model][band][0]) for choose in (min, max)]
        ends = [f"{_percent(*found[model][band])} (**{model}**)" for model in models]
        sentences.append(f"the {band} band holds {' to '.join(dict.fromkeys(ends))} of it")
    white = " / ".join(f"{100 * share:.0f}" for share in lens["bands"].values())
    return (f"Energy of the PGD-20 perturbations, {lens['images']} images: {'; '.join(sentences)}. "
            f"White noise would have {white} % in the bands.")


def seen_bands(lens: dict) -> str:
    """The band that is each model's weakest, and how well the attacks kept to their bands."""
    found = weakest(lens)
    groups = {band: [model for model, (first, p) in found.items() if first == band and p < LEVEL]
              for band in lens["bands"]}
    unsure = [model for model, (_, p) in found.items() if p >= LEVEL]
    parts = [f"the {band} band for {_names(models)}" for band, models in groups.items() if models]
    parts += [f"no band beyond chance for {_names(unsure)}"] if unsure else []
    inside, size = ({(short(label), band): np.mean(values) for label, bands in lens[key].items()
                     for band, values in bands.items() if values} for key in ("inside", "size"))
    text = f"The attack that breaks the most images is the one in {'; '.join(parts)}."
    if inside:
        (model, band), share = min(inside.items(), key=lambda item: item[1])
        text += (f" Clipping to [0, 1] leaves at least {100 * share:.1f} % of a perturbation's "
                 f"energy in its band, on average over images ({model}, {band} band). Its root "
                 f"mean square is {min(size.values()):.2f} to {max(size.values()):.2f} of the "
                 "radius, over models and bands.")
    return text


def seen_maps(lens: dict) -> str:
    """Mean accuracy under the waves of each band, for every model."""
    found = band_means(lens, "maps")
    rows = [f"{model} " + " / ".join(f"{100 * value:.0f}" for value in bands.values())
            for model, bands in found.items()]
    names = " / ".join(next(iter(found.values()), lens["bands"]))
    return f"Mean accuracy in % under the waves of the {names} band: {'; '.join(rows)}."


def seen_agreement(lens: dict) -> str:
    """Whether the free attack puts its energy where waves hurt, over frequencies and bands."""
    found = agreement(lens)
    rows = [f"{model} {'undefined' if rho is None else f'{rho:.2f}'}"
            for model, rho in found.items()]
    maps, energy = band_means(lens, "maps"), band_means(lens, "energy")
    same = [model for model, rho in found.items() if rho is not None
            and min(maps[model], key=maps[model].get) == max(energy[model], key=energy[model].get)]
    return (f"Rank correlation over the {_radii(lens).size} frequencies of the map between the "
            f"accuracy that a wave takes and the energy that the free attack puts there: "
            f"{'; '.join(rows)}. The band where waves hurt most is also the one where the attack "
            f"is densest, by however little, for {len(same)} of {len(maps)} models"
            f"{f' ({_names(same)})' if 0 < len(same) < len(maps) else ''}.")


def seen_filters(lens: dict) -> str:
    """How far each filter can go until half of what a model has above chance is lost."""
    rows, chance = [], 1 / lens["classes"]
    for (model, filters), scores in zip(filtered(lens).items(), lens["scores"].values(),
                                        strict=True):
        half = (scores["clean"]["correct"] / scores["clean"]["total"] + chance) / 2
        kept = {name: [b for b, accuracy in zip(*lines, strict=True) if accuracy >= half]
                for name, lines in filters.items()}
        rows.append(f"{model} {min(kept['low_pass'], default='none')} and "
                    f"{max(kept['high_pass'], default='none')}")
    return ("The smallest patch of low frequencies that keeps half of what the clean accuracy has "
            f"above chance, and the largest that can be taken away: {'; '.join(rows)}.")


def _names(models) -> str:
    return ", ".join(f"**{model}**" for model in models)


def _percent(mean, low, high) -> str:
    return f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
