"""Intervals and exact tests on counts and paired per-image flags."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import stats

LEVEL = 0.05  # a p below it is beyond chance; intervals hold the other 95 %


def interval(correct: float, total: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) 95 % interval, in [0, 1], of an accuracy, `correct` of `total`.

    Raises ValueError unless 0 <= correct <= total and total > 0.
    """
    if not (total > 0 and 0 <= correct <= total):
        raise ValueError(f"{correct} correct of {total}: no accuracy")
    tail = LEVEL / 2
    low = stats.beta.ppf(tail, correct, total - correct + 1) if correct > 0 else 0.0
    high = stats.beta.isf(tail, correct + 1, total - correct) if correct < total else 1.0
    return float(low), float(high)


def sign_flip(differences) -> float:
    """Two-sided p of an exact paired test on integer differences, one per image.

    If neither side is better, each difference is as likely to have the other sign; p is the share
    of sign choices whose sum is as far from 0. For differences of -1, 0 and 1 (one seed, two sets
    of flags) this is McNemar's exact test.
    """
    sizes = Counter(np.abs(differences).astype(int).tolist())
    chance = np.ones(1)  # of each sum, from -reach to reach
    for size, count in sizes.items():
        steps = np.zeros(2 * size * count + 1)
        steps[::2 * size or 1] = stats.binom.pmf(np.arange(count + 1), count, 0.5) if size else 1
        chance = np.convolve(chance, steps)
    reach = len(chance) // 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(np.sum(differences)))
    return min(1.0, float(chance[far].sum()))


def paired_interval(differences) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, one per image, of about -1 to 1.

    The adjusted Wald interval of Agresti and Min (Statistics in Medicine 24, 2005): as if two more
    images had been seen, of which half an image spoke for each side. For differences of -1, 0 and 1
    this adds 1/2 to each cell of the two-by-two table; several seeds give their mean per image.
    Raises ValueError without any difference.
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.size:
        raise ValueError("no differences: an interval needs at least one image")
    total = differences.size + 2
    mean = differences.sum() / total
    variance = (np.square(differences).sum() + 1) / total - mean**2
    half = stats.norm.isf(LEVEL / 2) * np.sqrt(variance / total)
    return float(mean - half), float(mean + half)


def rank_test(left, right) -> tuple[int, float]:
    """Mann-Whitney test of two samples: 1 if the left one tends to be larger, -1 or 0; and p."""
    test = stats.mannwhitneyu(left, right, alternative="two-sided")
    return int(np.sign(2 * test.statistic - len(left) * len(right))), float(test.pvalue)
