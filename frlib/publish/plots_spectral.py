"""What is in an image, an attack or a kernel: spectra, filters, maps of frequencies."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure

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
    look_of,
    need,
)


def kernels(weights, *, count=16, title=None, mark=None) -> Figure:
    """Figure 1: the first `count` kernels of a first layer, a column each, a row per channel.

    weights: {model: (out, in, kh, kw)}. Each kernel is divided by its largest |weight| over all
    its channels, so that shape, not size, is compared.
    """
    need(weights)
    fig, axes = figure(0.45 + 1.45 * len(weights), rows=len(weights))
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
    return finish(fig, title, mark)


def roughness(values, *, title=None, mark=None) -> Figure:
    """How rough a layer's kernels are: values {model: 1-D roughnesses}, from `frlib.spectral`.

    Every kernel is a mark, of a shape for each model (at most 400, evenly through the sorted
    values), over a box of the quartiles with whiskers from the 5th to the 95th percentile; the
    large one is the mean.
    """
    need(values)
    fig, axes = figure(1.1 + 0.65 * len(values))
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
    return finish(fig, title, mark)


def spectra(rows, *, title=None, mark=None) -> Figure:
    """Figure 2: what an attack does to the spectrum of an image, a row per image or image set.

    rows: [{"title", "clean_spectrum", "adv_spectrum"}], 2-D centred amplitudes averaged over the
    channels; "clean_image" and "adv_image" (H, W, C in [0, 1]) may be added, and the two columns
    are left out when no row has them. "difference" may replace |adv - clean|, as when a mean over
    many images is shown. Spectra share one logarithmic scale, differences one of square roots.
    """
    need(rows)
    images = [key for key in ("clean_image", "adv_image") if any(key in row for row in rows)]
    columns = [*images, "clean_spectrum", "adv_spectrum", "difference"]
    rows = [{"difference": np.abs(np.subtract(row["adv_spectrum"], row["clean_spectrum"])), **row}
            for row in rows]
    amplitudes = np.concatenate([np.ravel(row[key]) for row in rows for key in columns[-3:-1]])
    top = max(amplitudes.max(), 1e-12)
    scale = LogNorm(np.clip(np.percentile(amplitudes, 1), top / 1e4, top / 10), top, clip=True)
    gaps = PowerNorm(0.5, 0, max(np.max(row["difference"]) for row in rows) or 1)
    fig, axes = figure(1.9 + 5.8 / len(columns) * len(rows), rows=len(rows), columns=len(columns))
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
    return finish(fig, title, mark)


def low_pass_accuracy(table, *, title=None, mark=None) -> Figure:
    """Table 1 as curves: accuracy by the bandwidth of the low-pass filter, no filter at the left.

    table: {label: (bandwidths, accuracies, lows, highs)}, fractions; lows and highs are the ends
    of 95 % intervals, or None for a number that came without (one read from the paper).
    """
    need(table)
    fig, axes = figure(3.5)
    ax = axes[0, 0]
    for index, (label, (bandwidths, *numbers)) in enumerate(table.items()):
        errorbar(ax, bandwidths, *numbers, index, label=label, ls=DASHES[index % len(DASHES)])
    ax.set_xticks(sorted({int(b) for entry in table.values() for b in entry[0]}))
    ax.invert_xaxis()
    ax.set(xlabel="bandwidth b (b × b frequencies kept)", ylabel="accuracy (%)")
    legend(ax)
    return finish(fig, title, mark)


def radial(energies, white=None, *, title=None, mark=None) -> Figure:
    """Share of the energy by frequency radius; energies: {label: 1-D, from `radial_energy`}.

    white: that of white noise, drawn dashed.
    """
    need(energies)
    fig, axes = figure(3.5)
    ax = axes[0, 0]
    for index, (label, energy) in enumerate(energies.items()):
        energy = np.asarray(energy, float)
        share = energy / (energy.sum() or 1.0)
        ax.semilogy(np.where(share > 0, share, np.nan), label=label, markevery=(index, 4),
                    **look_of(index, index))
    if white is not None:
        ax.semilogy(white / white.sum(), color=GREY, ls="--", label="white noise")
    ax.set(xlabel="distance from zero frequency (cycles / image)", ylabel="share of energy")
    legend(ax)
    return finish(fig, title, mark)


def band_shares(table, white, *, title=None, mark=None) -> Figure:
    """Share of an attack's energy in bands of frequencies: points with bars for their intervals.

    table: {model: {band: (share, low, high)}}; white: {band: share of white noise}, drawn dashed.
    Fractions.
    """
    return bars(table, "band of frequencies", "share of the energy (%)", white, title, mark)


def filtered_accuracy(table, *, title=None, mark=None) -> Figure:
    """Accuracy behind a low-pass filter (above) and without the low frequencies (below).

    table: {model: {"low_pass": (bandwidths, accuracies), "high_pass": likewise}}, fractions.
    """
    need(table)
    fig, axes = figure(5.5, rows=2)
    words = {"low_pass": "b × b frequencies kept", "high_pass": "b × b frequencies taken away"}
    for (name, what), ax in zip(words.items(), axes[:, 0], strict=True):
        for index, (label, lines) in enumerate(table.items()):
            bandwidths, values = lines[name]
            ax.plot(bandwidths, 100 * np.asarray(values, float), label=label,
                    **look_of(index, index))
        ax.set_xticks(sorted({b for lines in table.values() for b in lines[name][0]}))
        ax.set(title=what, ylabel="accuracy (%)", ylim=(0, None))
        ax.grid(color="#DDDDDD", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_xlabel("bandwidth b (entries of the spectrum)")
    legend(axes[1, 0])
    return finish(fig, title, mark)


def frequency_maps(maps, vertical, horizontal, *, label, log=False, title=None,
                   mark=None) -> Figure:
    """A heat map over frequencies for each model, all on one scale named `label`.

    maps: {model: 2-D}, a row for each of the frequencies `vertical`, a column for each of
    `horizontal`, both evenly spaced, in cycles per image. log: a logarithmic scale.
    """
    need(maps)
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    fig, axes = figure(1.0 + 6.2 / columns * rows, rows=rows, columns=columns)
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
    return finish(fig, title, mark)
