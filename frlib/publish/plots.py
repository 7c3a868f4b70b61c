"""The figures of the book: numpy arrays in, a matplotlib Figure out.

Accuracies come in as fractions of 1 and are shown in percent. Colours are Okabe and Ito's, which
colour-blind readers can tell apart, and every series differs by line style or marker as well.
Figures are opaque white, and six inches wide so that their text survives a phone. Each function
takes `title`, and `mark`: a warning drawn in red under the figure, such as "smoke preset: not
comparable with the paper". A figure is closed for pyplot when it is returned, so a notebook shows
it once, as the value of its cell, and many figures do not pile up.
"""

from frlib.publish.plots_common import COLORS
from frlib.publish.plots_compared import attack_bars, by_radius, differences, forest, frontier
from frlib.publish.plots_spectral import (
    band_shares,
    filtered_accuracy,
    frequency_maps,
    kernels,
    low_pass_accuracy,
    radial,
    roughness,
    spectra,
)
from frlib.publish.plots_training import ascent, curves, losses

__all__ = [
    "COLORS", "ascent", "attack_bars", "band_shares", "by_radius", "curves", "differences",
    "filtered_accuracy", "forest", "frequency_maps", "frontier", "kernels", "losses",
    "low_pass_accuracy", "radial", "roughness", "spectra",
]
