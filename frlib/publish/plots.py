"""The figures of the book: numpy arrays in, a matplotlib Figure out.

Accuracies come in as fractions of 1 and are shown in percent. Colours are Okabe and Ito's, which
colour-blind readers can tell apart, and every series differs by line style or marker as well.
Figures are opaque white, and six inches wide so that their text survives a phone. Each function
takes `title`, and `mark`: a warning drawn in red under the figure, such as "smoke preset: not
comparable with the paper". A figure is closed for pyplot when it is returned, so a notebook shows
it once, as the value of its cell, and many figures do not pile up.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, blended_transform_factory

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
GREY = "#555555"
MANY, SMOOTHED = 40, 7  # epochs: from how many on a curve is smoothed, and over how many


def kernels(weights, *, count=16, title=None, mark=None) -> Figure:
    """Figure 1: the first `count` kernels of a first layer, a column each, a row per channel.

    weights: {model: (out, in, kh, kw)}. Each kernel is divided by its largest |weight| over all
    its channels, so that shape, not size, is compared.
    """
    _need(weights)
    fig, axes = _figure(0.45 + 1.45 * len(weights), rows=len(weights))
    for ax, (name, weight) in zip(axes[:, 0], weights.items(), strict=True):
        weight = np.asarray(weight, float)[:count]
        largest = np.abs(weight).max((1, 2, 3), keepdims=True)
        weight = weight / np.where(largest > 0, largest, 1)
        shown, channels, height, width = weight.shape
        tiles = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        mosaic = tiles.transpose(1, 2, 0, 3).reshape(channels * (height + 1), -1)[:-1, :-1]
        image = ax.imshow(mosaic, cmap="PuOr", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_xticks(np.arange(shown) * (width + 1) + (width - 1) / 2, range(1, shown + 1))
        ax.set_yticks(np.arange(channels) * (height + 1) + (height - 1) / 2,
                      "RGB" if channels == 3 else range(1, channels + 1))
        ax.tick_params(length=0, labelsize=9)
        ax.spines[:].set_visible(False)
        ax.set_ylabel("channel")
        ax.set_title(name, loc="left")
    axes[-1, 0].set_xlabel("kernel")
    fig.colorbar(image, ax=list(axes[:, 0]), aspect=12 * len(weights), pad=0.02,
                 ticks=[-1, 0, 1], label="weight / largest")
    return _finish(fig, title, mark)


def roughness(values, *, title=None, mark=None) -> Figure:
    """How rough a layer's kernels are: values {model: 1-D roughnesses}, from `frlib.spectral`.

    Every kernel is a mark, of a shape for each model (at most 400, evenly through the sorted
    values), over a box of the quartiles with whiskers from the 5th to the 95th percentile; the
    large one is the mean.
    """
    _need(values)
    fig, axes = _figure(1.1 + 0.65 * len(values))
    ax, jitter = axes[0, 0], np.random.default_rng(0)
    for row, numbers in enumerate(values.values()):
        numbers, color = np.sort(np.ravel(numbers)), COLORS[row % len(COLORS)]
        marker = MARKERS[row % len(MARKERS)]
        dots = numbers[np.unique(np.linspace(0, len(numbers) - 1, 400).astype(int))]
        ax.plot(dots, row + jitter.uniform(-0.3, 0.3, len(dots)), marker, color=color, alpha=0.45,
                markersize=4, markeredgewidth=0)
        low, first, median, third, high = np.percentile(numbers, [5, 25, 50, 75, 95])
        ax.hlines(row, low, high, color="black", lw=1)
        ax.barh(row, third - first, left=first, height=0.4, facecolor=(1, 1, 1, 0.6),
                edgecolor="black")
        ax.vlines(median, row - 0.2, row + 0.2, color="black", lw=2)
        ax.plot(numbers.mean(), row, marker, color=color, markeredgecolor="black", markersize=8)
    ax.set_yticks(range(len(values)), values)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set(xlabel="kernel roughness (no unit; 0 is constant)", ylabel="model")
    return _finish(fig, title, mark)


def spectra(rows, *, title=None, mark=None) -> Figure:
    """Figure 2: what an attack does to the spectrum of an image, a row per image or image set.

    rows: [{"title", "clean_spectrum", "adv_spectrum"}], 2-D centred amplitudes averaged over the
    channels; "clean_image" and "adv_image" (H, W, C in [0, 1]) may be added, and the two columns
    are left out when no row has them. "difference" may replace |adv - clean|, as when a mean over
    many images is shown. Spectra share one logarithmic scale, differences one of square roots.
    """
    _need(rows)
    images = [key for key in ("clean_image", "adv_image") if any(key in row for row in rows)]
    columns = [*images, "clean_spectrum", "adv_spectrum", "difference"]
    rows = [{"difference": np.abs(np.subtract(row["adv_spectrum"], row["clean_spectrum"])), **row}
            for row in rows]
    amplitudes = np.concatenate([np.ravel(row[key]) for row in rows for key in columns[-3:-1]])
    top = max(amplitudes.max(), 1e-12)
    scale = LogNorm(np.clip(np.percentile(amplitudes, 1), top / 1e4, top / 10), top, clip=True)
    gaps = PowerNorm(0.5, 0, max(np.max(row["difference"]) for row in rows) or 1)
    fig, axes = _figure(1.9 + 5.8 / len(columns) * len(rows), rows=len(rows), columns=len(columns))
    for row, line in zip(rows, axes, strict=True):
        for key, ax in zip(columns, line, strict=True):
            ax.set(xticks=[], yticks=[], anchor="N")
            if key in images:
                if key in row:
                    ax.imshow(np.clip(np.squeeze(row[key]), 0, 1), cmap="gray", vmin=0, vmax=1)
                else:
                    ax.spines[:].set_visible(False)
                continue
            height, width = np.shape(row[key])
            left, up = -(width // 2) - 0.5, -(height // 2) - 0.5
            box = {"extent": (left, left + width, up + height, up), "interpolation": "nearest"}
            if key == "difference":
                gap = ax.imshow(row[key], cmap="magma", norm=gaps, **box)
            else:
                spectrum = ax.imshow(row[key], cmap="viridis", norm=scale, **box)
            ax.set_xticks([-(width // 4), 0, width // 4])
            if key == "clean_spectrum":
                ax.set_yticks([-(height // 4), 0, height // 4])
            ax.tick_params(labelsize=8)
        line[0].set_ylabel(row["title"] if images else f"{row['title']}\ncycles / image",
                           parse_math=False)  # a title may hold the name of a class
    for key, top_ax, bottom_ax in zip(columns, axes[0], axes[-1], strict=True):
        top_ax.set_title(key.replace("adv_", "adversarial\n").replace("_", "\n"), fontsize=10)
        if key not in images:
            bottom_ax.set_xlabel("cycles / image", fontsize=8)
    for image, where, label in ((spectrum, axes[:, -3:-1], "amplitude (log scale)"),
                                (gap, axes[:, -1:], "|difference|\n(square-root scale)")):
        bar = fig.colorbar(image, ax=list(where.flat), location="bottom", pad=0.03)
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)
    bar.ax.locator_params(nbins=2)
    return _finish(fig, title, mark)


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
    return _finish(fig, title, mark)


def losses(lines, *, drop=None, log=False, title=None, mark=None) -> Figure:
    """The loss terms over epochs; lines and drop as in `curves`, values as they are."""
    fig, ax = _over_epochs(lines, {}, drop)
    ax.set_ylabel("loss")
    ax.set_yscale("log" if log else "linear")
    return _finish(fig, title, mark)


def ascent(lines, *, title=None, mark=None) -> Figure:
    """The cross-entropy that an attack reaches, step by step; lines as in `curves`, values as is.
    """
    fig, ax = _over_epochs(lines, {}, None, smooth=False)
    ax.set(xlabel="steps of the attack", ylabel="cross-entropy")
    return _finish(fig, title, mark)


def low_pass_accuracy(table, *, title=None, mark=None) -> Figure:
    """Table 1 as curves: accuracy by the bandwidth of the low-pass filter, no filter at the left.

    table: {label: (bandwidths, accuracies, lows, highs)}, fractions; lows and highs are the ends
    of 95 % intervals, or None for a number that came without (one read from the paper).
    """
    _need(table)
    fig, axes = _figure(3.5)
    ax = axes[0, 0]
    for index, (label, (bandwidths, *numbers)) in enumerate(table.items()):
        _errorbar(ax, bandwidths, *numbers, index, label=label, ls=DASHES[index % len(DASHES)])
    ax.set_xticks(sorted({int(b) for entry in table.values() for b in entry[0]}))
    ax.invert_xaxis()
    ax.set(xlabel="bandwidth b (b × b frequencies kept)", ylabel="accuracy (%)")
    _legend(ax)
    return _finish(fig, title, mark)


def by_radius(table, *, eps=None, title=None, mark=None) -> Figure:
    """Robust accuracy as the radius of the attack grows; it must fall, and end at 0.

    table: {label: (radii in 1/255, accuracies, lows, highs)}, fractions, with the ends of 95 %
    intervals; eps: a radius in 1/255 to mark, that of the other tables.
    """
    _need(table)
    fig, axes = _figure(3.5)
    ax = axes[0, 0]
    for index, (label, (radii, *numbers)) in enumerate(table.items()):
        _errorbar(ax, radii, *numbers, index, label=label, ls=DASHES[index % len(DASHES)])
    if eps is not None:
        ax.axvline(eps, color=GREY, lw=1, ls=":", label="radius of the tables")
    radii = sorted({radius for radii, *_ in table.values() for radius in radii})
    ax.set_xscale("symlog", base=2, linthresh=max(1, min(radii[1:], default=1)))  # from 0 on
    ax.set_xticks(radii, [f"{radius:g}" for radius in radii])
    ax.set_xlim(-radii[-1] / 200, 1.2 * radii[-1] or 1)
    ax.set(xlabel="radius of the attack (1/255)", ylabel="accuracy under PGD-20 (%)")
    _legend(ax)
    return _finish(fig, title, mark)


def radial(energies, *, title=None, mark=None) -> Figure:
    """Share of the energy by frequency radius; energies: {label: 1-D, from `radial_energy`}."""
    _need(energies)
    fig, axes = _figure(3.5)
    ax = axes[0, 0]
    for index, (label, energy) in enumerate(energies.items()):
        energy = np.asarray(energy, float)
        share = energy / (energy.sum() or 1.0)
        ax.semilogy(np.where(share > 0, share, np.nan), label=label, markevery=(index, 4),
                    **_look(index, index))
    ax.set(xlabel="distance from zero frequency (cycles / image)", ylabel="share of energy")
    _legend(ax)
    return _finish(fig, title, mark)


def attack_bars(table, *, title=None, mark=None) -> Figure:
    """Accuracy of each method under each attack: points with bars for their 95 % intervals.

    table: {method: {attack: (accuracy, low, high)}}, fractions; low and high may be None. The
    attacks stand in the order they first appear; one a method lacks is shown as "not run".
    """
    return _bars(table, "attack", "accuracy (%)", {}, title, mark)


def band_shares(table, white, *, title=None, mark=None) -> Figure:
    """Share of an attack's energy in bands of frequencies: points with bars for their intervals.

    table: {model: {band: (share, low, high)}}; white: {band: share of white noise}, drawn dashed.
    Fractions.
    """
    return _bars(table, "band of frequencies", "share of the energy (%)", white, title, mark)


def filtered_accuracy(table, *, title=None, mark=None) -> Figure:
    """Accuracy behind a low-pass filter (above) and without the low frequencies (below).

    table: {model: {"low_pass": (bandwidths, accuracies), "high_pass": likewise}}, fractions.
    """
    _need(table)
    fig, axes = _figure(5.5, rows=2)
    words = {"low_pass": "b × b frequencies kept", "high_pass": "b × b frequencies taken away"}
    for (name, what), ax in zip(words.items(), axes[:, 0], strict=True):
        for index, (label, lines) in enumerate(table.items()):
            bandwidths, values = lines[name]
            ax.plot(bandwidths, 100 * np.asarray(values, float), label=label,
                    **_look(index, index))
        ax.set_xticks(sorted({b for lines in table.values() for b in lines[name][0]}))
        ax.set(title=what, ylabel="accuracy (%)", ylim=(0, None))
        ax.grid(color="#DDDDDD", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_xlabel("bandwidth b (entries of the spectrum)")
    _legend(axes[1, 0])
    return _finish(fig, title, mark)


def frequency_maps(maps, vertical, horizontal, *, label, log=False, title=None,
                   mark=None) -> Figure:
    """A heat map over frequencies for each model, all on one scale named `label`.

    maps: {model: 2-D}, a row for each of the frequencies `vertical`, a column for each of
    `horizontal`, both evenly spaced, in cycles per image. log: a logarithmic scale.
    """
    _need(maps)
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    fig, axes = _figure(1.0 + 6.2 / columns * rows, rows=rows, columns=columns)
    values = np.concatenate([np.ravel(values) for values in maps.values()]).astype(float)
    top = max(values.max(), 1e-12)
    scale = {"norm": LogNorm(np.clip(values.min(), top / 1e4, top / 2), top, clip=True)} if log \
        else {"vmin": 0, "vmax": top}
    step = np.diff(vertical)[0] if len(vertical) > 1 else 1
    box = (horizontal[0] - step / 2, horizontal[-1] + step / 2,
           vertical[-1] + step / 2, vertical[0] - step / 2)
    for (name, image), ax in zip(maps.items(), axes.flat, strict=False):
        shown = ax.imshow(image, cmap="viridis", extent=box, interpolation="nearest", **scale)
        ax.set_title(name.replace(", ", ",\n"), fontsize=9)
        ax.tick_params(labelsize=8)
    for ax in axes.flat[len(maps):]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("vertical\ncycles / image", fontsize=8)
    for ax in axes.flat[max(0, len(maps) - columns):len(maps)]:
        ax.set_xlabel("horizontal\ncycles / image", fontsize=8)
    bar = fig.colorbar(shown, ax=list(axes.flat), location="bottom", pad=0.03, aspect=40)
    bar.set_label(label, fontsize=9)
    return _finish(fig, title, mark)


def _bars(table, xlabel, ylabel, levels, title, mark):
    """A row of `table` per colour, a column per place; levels: {column: a dashed line}."""
    _need(table)
    attacks = list(dict.fromkeys(attack for row in table.values() for attack in row))
    fig, axes = _figure(3.5)
    ax, step = axes[0, 0], 0.8 / len(table)
    for index, (method, row) in enumerate(table.items()):
        offset = (index - (len(table) - 1) / 2) * step
        places = {attack: place + offset for place, attack in enumerate(attacks)}
        numbers = zip(*row.values(), strict=True)
        _errorbar(ax, [places[attack] for attack in row], *numbers, index, label=method, ls="")
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
    _legend(ax)
    return _finish(fig, title, mark)


def differences(table, *, last=None, base="", title=None, mark=None) -> Figure:
    """What changes in accuracy, run by run, a panel for each attack with a scale of its own.

    table: {run: {attack: (difference, low, high, p)}} in points, as `book_tables.effects` and
    `spectrum_views.differences` give it; at 0 a run is like `base`, by default the one it is
    compared with. A point within chance, p 0.05 or more, is hollow.

    last: the same runs, compared at their last checkpoint where `table` has the chosen one; drawn
    as squares below its circles.
    """
    _need(table)
    attacks = list(dict.fromkeys(attack for row in table.values() for attack in row))
    whole = (name.replace("λ ", "λ\N{NO-BREAK SPACE}") for name in table)
    names = ["\n".join(textwrap.wrap(name, 26)) for name in whole]
    fig, axes = _figure(1 + 0.14 * sum(2 + name.count("\n") for name in names),
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
        _legend(axes[0, 0], key, whole=True)
    return _finish(fig, title, mark)


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
    _need(rows)
    texts = ["\n".join(textwrap.wrap(row["text"], 42)) for row in rows]
    heights = np.array([max(text.count("\n") + 1, 2 if row["released"] else 1) + 0.7
                        for text, row in zip(texts, rows, strict=True)])  # in lines of text
    edges = np.array([0, *heights.cumsum()])
    line = 12 / 72  # inches
    fig, axes = _figure(0.95 + edges[-1] * line, width=8)
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
    return _finish(fig, title, mark)


def frontier(panels, *, title=None, mark=None) -> Figure:
    """Clean against robust accuracy, a row for each attack: up and to the right is better.

    panels: {attack: {group: {label: (clean, robust)}}}, each (share, low, high), fractions. The
    labels of a group, as one regulariser at several weights, are joined in their order, and named
    where there are several. One without an interval (low and high None), such as the paper's own,
    is hollow and stands at the right, in a panel of its own axes that has its label for a title.
    A group has a marker of its own, and the colour of the group without "-SWA" in its name.
    """
    panels = {attack: groups for attack, groups in panels.items() if groups}
    _need(panels)
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
    fig, axes = _figure(0.4 + 2.9 * len(panels), rows=len(panels), columns=1 + apart,
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
    _legend(axes[-1, 0], shown, whole=True)
    fig.draw_without_rendering()  # so that the panels stand where they will
    for groups, ax in zip(sides[0], axes[:, 0], strict=True):
        _name_points(ax, [(100 * clean[0], 100 * robust[0], label if len(group) > 1 else "")
                          for group in groups.values()
                          for label, (clean, robust) in group.items()])
    return _finish(fig, title, mark)


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


def _over_epochs(lines, best, drop, *, smooth=True):
    _need(lines)
    unknown = best.keys() - {line["label"] for line in lines}
    if unknown:
        raise ValueError(f"best names no line: {', '.join(sorted(unknown))}")
    fig, axes = _figure(3.5)
    ax, groups, styles, whole = axes[0, 0], {}, {}, []
    drops = np.atleast_1d([] if drop is None else drop)
    many = smooth and max(len(line["epochs"]) for line in lines) > MANY
    for line in lines:
        label, epochs = line["label"], np.asarray(line["epochs"])
        values = np.asarray(line["values"], float)
        group = groups.setdefault(line.get("group", label), len(groups))
        style = styles.setdefault(line.get("style", label), len(styles))
        look = _look(group, style)
        shown = values
        if many:
            ax.plot(epochs, values, color=look["color"], lw=0.7, alpha=0.3)
            parts = np.split(values, np.searchsorted(epochs, drops, side="right"))
            shown = np.concatenate([_running_mean(part) for part in parts])
        drawn, = ax.plot(epochs, shown, label=label, markevery=max(1, len(epochs) // 8), **look)
        below = [other for other in whole if _begin_alike(other, drawn)]
        whole.append(drawn)
        for other, width, size in [*((other, 3, 7) for other in below), (drawn, 1.3, 4)]:
            if below:
                other.set(linewidth=width, markersize=size)
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
    _legend(ax)
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


def _errorbar(ax, x, values, lows, highs, index, **kwargs):
    values = 100 * np.asarray(values, float)
    ends = None
    if lows is not None:
        ends = np.stack([values - 100 * np.asarray(lows, float),
                         100 * np.asarray(highs, float) - values]).clip(0)
    filled = index < len(MARKERS)  # more series than markers: hollow from there on
    ax.errorbar(x, values, ends, capsize=3, color=COLORS[index % len(COLORS)], markersize=5,
                marker=MARKERS[index % len(MARKERS)],
                markerfacecolor=None if filled else "white", **kwargs)


def _look(color, style):
    return {"color": COLORS[color % len(COLORS)], "ls": DASHES[style % len(DASHES)],
            "marker": MARKERS[style % len(MARKERS)], "markersize": 5, "lw": 1.6}


def _need(data):
    if not data:
        raise ValueError("nothing to draw: no series was given")


def _figure(height, *, rows=1, columns=1, width=6, width_ratios=None):
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


def _legend(ax, drawn=None, *, whole=False):
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


def _finish(fig, title, mark):
    if title:
        fig.suptitle(title)
    if mark and fig.legends:  # a legend below all panels stands where the mark would
        fig.legends[0].set_title(mark, {"size": 10, "weight": "bold"})
        fig.legends[0].get_title().set_color("#B00020")
    elif mark:
        fig.supxlabel(mark, color="#B00020", fontsize=10, weight="bold")
    plt.close(fig)
    return fig
