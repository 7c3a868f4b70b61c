"""What all figures share: colours and marks, axes, legends, the warning below."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
GREY = "#555555"


def look_of(color, style):
    """Colour, dashes and marker of a line, by the places of its colour and of its style."""
    return {"color": COLORS[color % len(COLORS)], "ls": DASHES[style % len(DASHES)],
            "marker": MARKERS[style % len(MARKERS)], "markersize": 5, "lw": 1.6}


def need(data):
    """ValueError where there is nothing to draw."""
    if not data:
        raise ValueError("nothing to draw: no series was given")


def figure(height, *, rows=1, columns=1, width=6, width_ratios=None):
    """A figure of panels, `height` and `width` in inches, and its axes (rows, columns)."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), dpi=160, squeeze=False,
                             layout="constrained" if rows * columns == 1 else "compressed",
                             facecolor="white", width_ratios=width_ratios)
    for ax in axes.flat:
        ax.set_facecolor("white")
        if rows * columns == 1:
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(color="#DDDDDD", lw=0.6)
            ax.set_axisbelow(True)
    return fig, axes


def legend(ax, drawn=None, *, whole=False):
    """The legend below the panel, by default of what is drawn in it; drawn: {label: handle}.

    whole: below all panels of the figure, in their middle.
    """
    handles, labels = (list(drawn.values()), list(drawn)) if drawn else \
        ax.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = 3 if longest < 14 else 2
    ax.figure.set_figheight(ax.figure.get_figheight() + 0.2 * -(-len(labels) // columns))
    small = longest > 28  # else two columns are wider than the figure, and panels shrink
    look = {"frameon": False, "ncols": columns, "handlelength": 3.5,
            "fontsize": 8 if small else None}
    if whole:
        ax.figure.legend(handles, labels, loc="outside lower center", **look)
        return
    # borderaxespad counts in letter heights: the room of the tick labels and the axis label.
    ax.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0),
              borderaxespad=5 if small else 4, **look)


def finish(fig, title, mark):
    """The figure with its title and its warning, closed for pyplot."""
    if title:
        fig.suptitle(title)
    if mark and fig.legends:  # a legend below all panels stands where the mark would
        fig.legends[0].set_title(mark, {"size": 10, "weight": "bold"})
        fig.legends[0].get_title().set_color("#B00020")
    elif mark:
        fig.supxlabel(mark, color="#B00020", fontsize=10, weight="bold")
    plt.close(fig)
    return fig


def errorbar(ax, x, values, lows, highs, index, **kwargs):
    """Accuracies, fractions, in percent with their intervals, if any; index: of the series."""
    values = 100 * np.asarray(values, float)
    ends = None
    if lows is not None:
        ends = np.stack([values - 100 * np.asarray(lows, float),
                         100 * np.asarray(highs, float) - values]).clip(0)
    filled = index < len(MARKERS)  # more series than markers: hollow from there on
    ax.errorbar(x, values, ends, capsize=3, color=COLORS[index % len(COLORS)], markersize=5,
                marker=MARKERS[index % len(MARKERS)],
                markerfacecolor=None if filled else "white", **kwargs)


def bars(table, xlabel, ylabel, levels, title, mark):
    """A row of `table` per colour, a column per place; levels: {column: a dashed line}."""
    need(table)
    attacks = list(dict.fromkeys(attack for row in table.values() for attack in row))
    fig, axes = figure(3.5)
    ax, step = axes[0, 0], 0.8 / len(table)
    for index, (method, row) in enumerate(table.items()):
        offset = (index - (len(table) - 1) / 2) * step
        places = {attack: place + offset for place, attack in enumerate(attacks)}
        numbers = zip(*row.values(), strict=True)
        errorbar(ax, [places[attack] for attack in row], *numbers, index, label=method, ls="")
        for attack in places.keys() - row.keys():
            ax.text(places[attack], 0.02, "not run", rotation=90, ha="center", va="bottom",
                    color=COLORS[index % len(COLORS)], fontsize=8,
                    transform=ax.get_xaxis_transform())
    for place in range(1, len(attacks), 2):
        ax.axvspan(place - 0.5, place + 0.5, color="#F2F2F2", zorder=0)
    for index, (column, level) in enumerate(levels.items()):
        place = attacks.index(column)
        ax.hlines(100 * level, place - 0.5, place + 0.5, color=GREY, ls="--",
                  label=None if index else "white noise")
    ax.set_xlim(-0.5, len(attacks) - 0.5)
    names = [name.replace(", ", ",\n").replace(" (", "\n(") for name in attacks]
    ax.set_xticks(range(len(names)), names, fontsize=8 if len(names) > 5 else None)
    ax.grid(axis="x", visible=False)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(ax)
    return finish(fig, title, mark)
