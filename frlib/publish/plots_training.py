"""Lines over the epochs or the steps of an attack."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from frlib.publish.plots_common import GREY, figure, finish, legend, look_of, need

MANY, SMOOTHED = 40, 7  # epochs: from how many on a curve is smoothed, and over how many


def curves(lines, *, best=None, drop=None, title=None, mark=None) -> Figure:
    """Figure 3: accuracy over epochs.

    lines: [{"label", "epochs", "values"}], values as fractions, None or NaN where not measured.
    Lines of one "group" (say, the method) share a colour, of one "style" (say, clean or PGD) a
    dash; both default to a new one for each label.
    One that lies on another, as runs do that begin alike, is thin, and the other wide. Of more than
    MANY epochs each line is a running mean over SMOOTHED of them, on a pale one of every epoch.
    The mean stops at a drop, so that nothing shows before its cause.
    best: {label: epoch}, ringed on its line. drop: epoch or epochs of a learning-rate drop.
    """
    lines = [{**line, "values": 100 * np.asarray(line["values"], float)} for line in lines]
    fig, ax = _over_epochs(lines, best or {}, drop)
    ax.set_ylabel("accuracy (%)")
    return finish(fig, title, mark)


def losses(lines, *, drop=None, log=False, title=None, mark=None) -> Figure:
    """The loss terms over epochs; lines and drop as in `curves`, values as they are."""
    fig, ax = _over_epochs(lines, {}, drop)
    ax.set_ylabel("loss")
    ax.set_yscale("log" if log else "linear")
    return finish(fig, title, mark)


def ascent(lines, *, title=None, mark=None) -> Figure:
    """The cross-entropy that an attack reaches, step by step; lines as in `curves`, values as is.
    """
    fig, ax = _over_epochs(lines, {}, None, smooth=False)
    ax.set(xlabel="steps of the attack", ylabel="cross-entropy")
    return finish(fig, title, mark)


def _over_epochs(lines, best, drop, *, smooth=True):
    need(lines)
    unknown = best.keys() - {line["label"] for line in lines}
    if unknown:
        raise ValueError(f"best names no line: {', '.join(sorted(unknown))}")
    fig, axes = figure(3.5)
    ax, groups, styles, whole = axes[0, 0], {}, {}, []
    drops = np.atleast_1d([] if drop is None else drop)
    many = smooth and max(len(line["epochs"]) for line in lines) > MANY
    for line in lines:
        label, epochs = line["label"], np.asarray(line["epochs"])
        values = np.asarray(line["values"], float)
        group = groups.setdefault(line.get("group", label), len(groups))
        style = styles.setdefault(line.get("style", label), len(styles))
        look = look_of(group, style)
        shown = values
        if many:
            ax.plot(epochs, values, color=look["color"], lw=0.7, alpha=0.3)
            parts = np.split(values, np.searchsorted(epochs, drops, side="right"))
            shown = np.concatenate([_running_mean(part) for part in parts])
        drawn, = ax.plot(epochs, shown, label=label, markevery=max(1, len(epochs) // 8), **look)
        below = [other for other in whole if _begin_alike(other, drawn)]
        whole.append(drawn)
        if below:
            drawn.set(linewidth=1.3, markersize=4)
        for other in below:
            other.set(linewidth=3, markersize=7)
        if label in best:
            at = epochs == best[label]
            if not at.any():
                raise ValueError(f"best epoch {best[label]} of {label} is not among its epochs")
            ax.plot(epochs[at], shown[at], "o", markersize=12, markeredgewidth=1.8, zorder=3,
                    markerfacecolor="white" if many else "none", color=look["color"])
    if many:
        ax.plot([], [], color=GREY, lw=0.7, alpha=0.6,
                label=f"every epoch; wide: mean of {SMOOTHED}")
    if best:
        ax.plot([], [], "o", markersize=10, markerfacecolor="none", color=GREY, label="best epoch")
    for index, epoch in enumerate(drops):
        ax.axvline(epoch, color=GREY, lw=1, ls=":",
                   label=None if index else "learning-rate drop")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    legend(ax)
    return fig, ax


def _running_mean(values: np.ndarray) -> np.ndarray:
    """The mean over SMOOTHED values around each; of fewer at the ends, and where some are NaN."""
    ones, there = np.ones(SMOOTHED), np.isfinite(values)
    if not there.any():
        return values
    middle = slice(SMOOTHED // 2, SMOOTHED // 2 + len(values))
    sums, counts = (np.convolve(each, ones)[middle] for each in (np.where(there, values, 0), there))
    return np.where(there, sums / np.maximum(counts, 1), np.nan)


def _begin_alike(one, other) -> bool:
    """Whether the first two points of two lines are the same, so that one lies on the other."""
    first, second = ([*zip(*map(tuple, line.get_data()), strict=True)][:2] for line in (one, other))
    return len(first) > 1 and first == second
