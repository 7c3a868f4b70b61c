"""Methods beside each other: by attack, by radius, as differences, as a trade."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, blended_transform_factory

from frlib.publish.plots_common import (
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    bars,
    errorbar,
    figure,
    finish,
    legend,
    need,
)


def by_radius(table, *, eps=None, title=None, mark=None) -> Figure:
    """Robust accuracy as the radius of the attack grows; it must fall, and end at 0.

    table: {label: (radii in 1/255, accuracies, lows, highs)}, fractions, with the ends of 95 %
    intervals; eps: a radius in 1/255 to mark, that of the other tables.
    """
    need(table)
    fig, axes = figure(3.5)
    ax = axes[0, 0]
    for index, (label, (radii, *numbers)) in enumerate(table.items()):
        errorbar(ax, radii, *numbers, index, label=label, ls=DASHES[index % len(DASHES)])
    if eps is not None:
        ax.axvline(eps, color=GREY, lw=1, ls=":", label="radius of the tables")
    radii = sorted({radius for radii, *_ in table.values() for radius in radii})
    ax.set_xscale("symlog", base=2, linthresh=max(1, min(radii[1:], default=1)))  # from 0 on
    ax.set_xticks(radii, [f"{radius:g}" for radius in radii])
    ax.set_xlim(-radii[-1] / 200, 1.2 * radii[-1] or 1)
    ax.set(xlabel="radius of the attack (1/255)", ylabel="accuracy under PGD-20 (%)")
    legend(ax)
    return finish(fig, title, mark)


def attack_bars(table, *, title=None, mark=None) -> Figure:
    """Accuracy of each method under each attack: points with bars for their 95 % intervals.

    table: {method: {attack: (accuracy, low, high)}}, fractions; low and high may be None. The
    attacks stand in the order they first appear; one a method lacks is shown as "not run".
    """
    return bars(table, "attack", "accuracy (%)", {}, title, mark)


def differences(table, *, last=None, base="", title=None, mark=None) -> Figure:
    """What changes in accuracy, run by run, a panel for each attack with a scale of its own.

    table: {run: {attack: (difference, low, high, p)}} in points, as `book_tables.effects` and
    `spectrum_views.differences` give it; at 0 a run is like `base`, by default the one it is
    compared with. A point within chance, p 0.05 or more, is hollow.

    last: the same runs, compared at their last checkpoint where `table` has the chosen one; drawn
    as squares below its circles.
    """
    need(table)
    attacks = list(dict.fromkeys(attack for row in table.values() for attack in row))
    whole = (name.replace("λ ", "λ\N{NO-BREAK SPACE}") for name in table)
    names = ["\n".join(textwrap.wrap(name, 26)) for name in whole]
    fig, axes = figure(1 + 0.14 * sum(2 + name.count("\n") for name in names),
                        columns=len(attacks))
    apart = 0 if last is None else 0.18
    series = {"chosen checkpoint": (table, "o", COLORS[0], -apart)}
    if last is not None:
        series["last checkpoint"] = (last, "s", COLORS[1], apart)
    for attack, ax in zip(attacks, axes[0], strict=True):
        for rows, what, color, shift in series.values():
            for place, run in enumerate(table):
                _difference(ax, place + shift, rows.get(run, {}).get(attack), what, color)
        for place in range(1, len(table), 2):
            ax.axhspan(place - 0.5, place + 0.5, color="#F2F2F2", zorder=0)
        ax.axvline(0, color=GREY, lw=1, zorder=1)
        ax.set_title("\n".join(textwrap.wrap(attack, 11)), fontsize=9)
        ax.set_xlabel("points", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.set_ylim(len(table) - 0.5, -0.5)
        ax.set_yticks(range(len(table)), names if ax is axes[0, 0] else [], parse_math=False)
        ax.tick_params(labelsize=8, length=0)
        ax.grid(axis="x", color="#DDDDDD", lw=0.6)
        ax.grid(axis="y", visible=False)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].set_ylabel(f"minus {base}" if base else "run", fontsize=8)
    if last is not None:
        key = {name: Line2D([], [], marker=what, color=color, ls="", markersize=5)
               for name, (_, what, color, _) in series.items()}
        legend(axes[0, 0], key, whole=True)
    return finish(fig, title, mark)


def _difference(ax, place, found, what, color):
    """One of `differences`: a mark with its interval, or the words "not run"."""
    if found is None:
        ax.text(0, place, "not run", ha="center", va="center", fontsize=7, color=GREY)
        return
    value, low, high, p = found
    ax.errorbar([value], [place], xerr=np.clip([[value - low], [high - value]], 0, None),
                fmt=what, capsize=2, markersize=5, lw=1.2, color=color,
                markerfacecolor="white" if p >= 0.05 else None)


def forest(rows, *, title=None, mark=None) -> Figure:
    """Claims as differences: the paper's as a diamond, ours as a point with its 95 % interval.

    rows: [{"text", "paper", "ours", "verdict", "released"}], in points; paper is a number or None,
    ours (difference, low, high) or None where it was not run; released, {"ours", "verdict"} or
    None, is the same claim with the regulariser as released. Right of 0 the claim holds. A row is
    as high as its text, and each verdict stands beside the mark that it judges.
    """
    need(rows)
    texts = ["\n".join(textwrap.wrap(row["text"], 42)) for row in rows]
    heights = np.array([max(text.count("\n") + 1, 2 if row["released"] else 1) + 0.7
                        for text, row in zip(texts, rows, strict=True)])  # in lines of text
    edges = np.array([0, *heights.cumsum()])
    line = 12 / 72  # inches
    fig, axes = figure(0.95 + edges[-1] * line, width=8)
    ax = axes[0, 0]
    across, beside = fig.transFigure, ax.get_yaxis_transform()

    def ours(found, place, what, color):
        """One of our points, and at the right its mark and its verdict."""
        if found["ours"] is None:
            ax.text(0, place, " not run", va="center", fontsize=10, color=GREY)
        else:
            value, low, high = found["ours"]
            ax.errorbar([value], [place], xerr=np.clip([[value - low], [high - value]], 0, None),
                        fmt=what, capsize=3, color=color, markersize=6)
        ax.plot(1.04, place, what, color=color, markersize=6, transform=beside, clip_on=False)
        ax.text(1.07, place, found["verdict"], va="center", fontsize=10, weight="bold",
                transform=beside)

    for row, middle, edge in zip(rows, edges[:-1] + heights / 2, edges, strict=False):
        both = bool(row["released"])
        if edge:
            ruler = ax.axhline(edge, color="#DDDDDD", lw=0.6, clip_on=False)
            ruler.set_transform(blended_transform_factory(across, ax.transData))
            ruler.set_in_layout(False)
        if row["paper"] is not None:
            ax.plot(row["paper"], middle - (0.95 if both else 0.4), "D", color=COLORS[1],
                    markersize=6)
        ours(row, middle - 0.4 if both else middle + 0.1, "o", COLORS[0])
        if both:
            ours(row["released"], middle + 0.65, "s", COLORS[2])
    ax.plot([], [], "o", color=COLORS[0], label="ours, 95 % interval")
    if any(row["released"] for row in rows):
        ax.plot([], [], "s", color=COLORS[2], label="ours, regulariser as released")
    ax.plot([], [], "D", color=COLORS[1], markersize=6, label="paper")
    ax.axvline(0, color=GREY, lw=1)
    ax.set_yticks(edges[:-1] + heights / 2, texts, fontsize=10)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(edges[-1], 0)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("difference in points; right of 0: as the paper says")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=10)
    return finish(fig, title, mark)


def frontier(panels, *, title=None, mark=None) -> Figure:
    """Clean against robust accuracy, a row for each attack: up and to the right is better.

    panels: {attack: {group: {label: (clean, robust)}}}, each (share, low, high), fractions. The
    labels of a group, as one regulariser at several weights, are joined in their order, and named
    where there are several. One without an interval (low and high None), such as the paper's own,
    is hollow and stands at the right, in a panel of its own axes that has its label for a title.
    A group has a marker of its own, and the colour of the group without "-SWA" in its name.
    """
    panels = {attack: groups for attack, groups in panels.items() if groups}
    need(panels)
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    families = list(dict.fromkeys(name.replace("-SWA", "") for name in names))
    four_pointed, six_pointed = (4, 1, 0), (6, 1, 0)
    many = [*MARKERS, *"<>*pd", four_pointed, six_pointed, "h"]
    looks = {name: {"markersize": 6, "ls": DASHES[families.index(family) % len(DASHES)],
                    "color": [*COLORS, "#8C564B"][families.index(family) % 8],
                    "marker": many[index % len(many)]}
             for index, name in enumerate(names) for family in [name.replace("-SWA", "")]}
    sides = [[_side(groups, hollow) for groups in panels.values()] for hollow in (False, True)]
    apart = any(any(side.values()) for side in sides[1])
    fig, axes = figure(0.4 + 2.9 * len(panels), rows=len(panels), columns=1 + apart,
                        **{"width_ratios": [2.6, 1]} if apart else {})
    for side, column in zip(sides, axes.T, strict=False):
        for groups, ax in zip(side, column, strict=True):
            ax.grid(color="#DDDDDD", lw=0.6)
            ax.spines[["top", "right"]].set_visible(False)
            ax.margins(0.1)
            ax.tick_params(labelsize=8)
            for name, points in groups.items():
                _front(ax, name, points, looks[name])
            ax.sharex(column[0])
    for attack, ax in zip(panels, axes[:, 0], strict=True):
        ax.set_ylabel("robust accuracy (%)")
        ax.set_title(attack, fontsize=10)
    for ax, hollow in zip(axes[:, -1], sides[1], strict=True):
        if apart:
            ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        for label in list(dict.fromkeys(label for group in hollow.values() for label in group))[:1]:
            ax.set_title(label.removeprefix("hollow: "), fontsize=10)
    axes[-1, 0].set_xlabel("clean accuracy (%)")
    joined = {name for side in sides[0] for name, points in side.items() if len(points) > 1}
    shown = {name: Line2D([], [], **{**look, "ls": look["ls"] if name in joined else ""})
             for name, look in looks.items()}
    legend(axes[-1, 0], shown, whole=True)
    fig.draw_without_rendering()  # so that the panels stand where they will
    for groups, ax in zip(sides[0], axes[:, 0], strict=True):
        _name_points(ax, [(100 * clean[0], 100 * robust[0], label if len(group) > 1 else "")
                          for group in groups.values()
                          for label, (clean, robust) in group.items()])
    return finish(fig, title, mark)


def _side(groups, hollow):
    """Of the groups of a panel of `frontier` the points with an interval, or those without."""
    return {name: found for name, group in groups.items() if (found := {
        label: pair for label, pair in group.items() if (pair[0][1] is None) == hollow})}


def _front(ax, name, points, look):
    """One group of `frontier`: what has no interval hollow, the rest joined, lines below points."""
    x, y = (100 * np.array(sides, float).T for sides in zip(*points.values(), strict=True))
    if np.isnan(x[1]).any():
        ax.plot(x[0], y[0], **{**look, "ls": "", "markerfacecolor": "white"})
        return
    ax.errorbar(x[0], y[0], xerr=[(x[0] - x[1]).clip(0), (x[2] - x[0]).clip(0)],
                yerr=[(y[0] - y[1]).clip(0), (y[2] - y[0]).clip(0)], label=name, lw=1.2,
                ecolor=to_rgba(look["color"], 0.5), elinewidth=0.7,
                zorder=2 if len(points) > 1 else 3, **look)


def _name_points(ax, points):
    """Write the text of each (x, y, text) beside its point, off other points and texts.

    One whose neighbour, less than three letters away, has the same text stays without.
    """
    scale = ax.figure.dpi / 72
    places = ax.transData.transform([point[:2] for point in points])
    taken = [Bbox.from_extents(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale)
             for x, y in places]
    named = set()
    ways = [(dx * far, dy * far) for far in (1, 3, 5, 7)
            for dx, dy in ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1.4), (0, -1.4))]
    for place, (x, y, text) in zip(places, points, strict=True):
        if not text or any(text == other and np.hypot(*(place - there)) < 24 * scale
                           for other, there in named):
            continue
        named.add((text, tuple(place)))
        note = ax.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=8,
                           ha="center", va="center", color="#333333", parse_math=False)
        note.set_in_layout(False)
        size = np.array([note.get_window_extent().width, note.get_window_extent().height])
        boxes = []
        for dx, dy in ways:
            middle = place + (np.sign([dx, dy]) * size / 2 + np.array([dx, dy]) * 4 * scale)
            boxes.append(Bbox.from_bounds(*(middle - size / 2), *size))
        crowd = [box.count_overlaps(taken) + (not _within(box, ax.bbox)) for box in boxes]
        chosen = boxes[int(np.argmin(crowd))]
        note.set_position(((chosen.x0 + chosen.x1) / 2 - place[0],
                           (chosen.y0 + chosen.y1) / 2 - place[1]) / np.array(scale))
        taken.append(chosen)


def _within(box, outer) -> bool:
    return outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1
