"""One image under one attack: as numbers, as a panel, as frames with a slider, as live controls.

The attacks are those of `frlib.evaluate`, steps of eps/4. The low-pass filter is applied to the
attacked image, after the attack was made, as in Table 1.
"""

from __future__ import annotations

import base64
import html
import io
import os
import textwrap

import ipywidgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

from frlib import data, evaluate, spectral
from frlib.publish.plots import COLORS


def no_attack(model, x, y, *, eps, generator=None):
    """The images as they are."""
    return x


ATTACKS = {"none": no_attack, "FGSM": evaluate.fgsm, "PGD-20": evaluate.pgd20, "C&W": evaluate.cw}
STAGES = ("clean", "attacked", "filtered")
PANEL = ("clean", "attacked", "perturbation", "filtered")  # the columns of a panel
MOST_CLASSES = 10  # the bars of a panel; of more classes, those with the highest logits are shown
HATCHES = (None, "////", "....")


def look(model, image, label: int, *, attack: str, eps: float, bandwidth: int,
         seed: int = 0) -> dict:
    """What a model makes of an image: clean, attacked, and attacked behind a low-pass filter.

    image: float (C, H, W) in [0, 1], on the model's device; label: its class index; attack: a key
    of ATTACKS; eps in [0, 1]; bandwidth: 1 to max(H, W). Returns the settings, and for each of
    STAGES {"images": (C, H, W) array, "logits": (classes,) array, "classes": the class index read,
    "shares": its probability in [0, 1]}. The same seed gives the same picture. Raises ValueError
    for an unknown attack, an image or a label that does not fit, and what the attacks and
    `spectral.low_pass` raise for eps and bandwidth.
    """
    if attack not in ATTACKS:
        raise ValueError(f"attack = {attack!r}: choose one of {', '.join(ATTACKS)}")
    if image.ndim != 3:
        raise ValueError(f"image must be one image (C, H, W), got shape {tuple(image.shape)}")
    x, y = image[None], torch.tensor([label], device=image.device)
    with torch.no_grad():
        classes = model(x).shape[1]
    if not 0 <= label < classes:
        raise ValueError(f"label = {label}: must be a class index from 0 to {classes - 1}")
    attacked = ATTACKS[attack](model, x, y, eps=eps,
                               generator=torch.Generator(x.device).manual_seed(seed))
    return _read(model, x, attacked, label=label, attack=attack, eps=eps, bandwidth=bandwidth)


def behind(model, found: dict, bandwidth: int) -> dict:
    """A `look` of this model with the same attacked image behind a filter of another bandwidth."""
    device = next((tensor.device for tensor in model.parameters()), "cpu")
    x, attacked = (torch.from_numpy(found["images"][stage])[None].to(device)
                   for stage in ("clean", "attacked"))
    return _read(model, x, attacked, label=found["label"], attack=found["attack"],
                 eps=found["eps"], bandwidth=bandwidth)


def _read(model, x, attacked, **setting) -> dict:
    images = torch.cat([x, attacked, spectral.low_pass(attacked, setting["bandwidth"])])
    with torch.no_grad():
        logits = model(images).float()
    share, read = logits.softmax(1).max(1)
    return {**setting, "images": dict(zip(STAGES, images.cpu().numpy(), strict=True)),
            "logits": dict(zip(STAGES, logits.cpu().numpy(), strict=True)),
            "classes": dict(zip(STAGES, read.tolist(), strict=True)),
            "shares": dict(zip(STAGES, share.tolist(), strict=True))}


def counted(flags: dict, what: str) -> str:
    """How many images each network reads right, in a sentence.

    flags: {name: [bool (N,), ...]}; what: under which conditions, as "clean / attacked".
    """
    total = len(next(iter(flags.values()))[0])
    each = ", ".join(f"{name} {' / '.join(str(int(right.sum())) for right in found)}"
                     for name, found in flags.items())
    return f"Images read right, of {total}, {what}: {each}."


def telling(models: dict, x, y, flags: dict, *, wanted=None, **setting) -> int:
    """The index of the first image on which is seen what the counts say.

    All networks read it right, and each loses it to the attack, and behind the filter, if it loses
    most of those that it reads right, and keeps it if it keeps most. If there is none, the first
    that all read right, else 0. flags: {name: bool (N,) for some of STAGES in their order}, as of
    the same attack in one batch; wanted: {name: [bool, ...]}, other fates than those of most, in
    the same order; setting: as `look` takes it.
    """
    kept = {name: [2 * int((found[0] & right).sum()) > int(found[0].sum()) for right in found]
            for name, found in flags.items()} | (wanted or {})
    common = torch.stack([found[0] for found in flags.values()]).all(0).nonzero()[:, 0].tolist()

    def seen(name, i):
        read = look(models[name], x[i], int(y[i]), **setting)["classes"]
        return [read[stage] == int(y[i]) for stage, _ in zip(STAGES, kept[name], strict=False)]

    for i in common:
        if all([bool(right[i]) for right in flags[name]] == kept[name] for name in flags) \
                and all(seen(name, i) == kept[name] for name in flags):
            return i
    return min(common, default=0)


def draw(found: dict, classes, *, columns=PANEL, most=MOST_CLASSES, shares=False, limits=None,
         strongest=None, title=None, mark=None) -> Figure:
    """A `look` as a figure: images over their amplitude spectra on log scales, then bars.

    columns: some of PANEL; classes: the names of the labels; mark: as in `frlib.publish.plots`.
    The bars are the logits, from the lowest to the highest of `limits` if given, with `shares` the
    probabilities, of the `most` highest classes. The perturbation is drawn with grey for 0, black
    for -eps and white for +eps, per channel; its spectrum, which is a hundred times weaker, has a
    scale of its own, up to the amplitude `strongest`, by default its highest.
    """
    images, eps = found["images"], found["eps"]
    perturbation = images["attacked"] - images["clean"]
    shown = {**images, "perturbation": 0.5 + perturbation / (2 * eps or 1)}
    spectra = {name: _spectrum(values)
               for name, values in {**images, "perturbation": perturbation}.items()}
    tops = [max(float(top), 1e-6) for top in
            (spectra["clean"].max(), strongest or spectra["perturbation"].max())]
    looks = [{"cmap": "viridis", "norm": LogNorm(tops[0] / 1e4, tops[0], clip=True)},  # of images
             {"cmap": "magma", "norm": LogNorm(tops[1] / 1e2, tops[1], clip=True)}]
    stages = [name for name in STAGES if name in columns]
    chosen = _highest(found, stages, min(most, len(found["logits"]["clean"])))
    width = 0.5 + 0.92 * len(columns)  # inches, as those below
    heading = textwrap.wrap(title or _setting(found, columns), int(14 * width))
    above, bars = 0.6 + 0.15 * len(heading), 0.2 + 0.15 * len(chosen) * len(stages) ** 0.5
    height = above + 2.9 + bars + (0.35 if mark else 0)
    fig = Figure(figsize=(width, height), dpi=140, facecolor="white")
    grid = fig.add_gridspec(
        3, len(columns), height_ratios=[1, 1, 0.06], left=0.42 / width, right=1 - 0.08 / width,
        top=1 - above / height, bottom=1 - (above + 2) / height, hspace=0.1, wspace=0.08)
    rows, wide = spectra["clean"].shape
    left, up = -(wide // 2) - 0.5, -(rows // 2) - 0.5
    drawn = {}
    for column, name in enumerate(columns):
        ax = fig.add_subplot(grid[0, column], xticks=[], yticks=[], anchor="S")
        ax.imshow(np.clip(shown[name].transpose(1, 2, 0).squeeze(), 0, 1), cmap="gray", vmin=0,
                  vmax=1, interpolation="nearest")
        reading, color = _heading(found, name, classes)
        ax.set_title(reading, fontsize=8, color=color, linespacing=1.25, pad=3, parse_math=False)
        ax = fig.add_subplot(grid[1, column], yticks=[], anchor="N")
        added = name == "perturbation"
        drawn[added] = ax.imshow(spectra[name], interpolation="nearest", **looks[added],
                                 extent=(left, left + wide, up + rows, up))
        ax.set_xticks([])
        if column == 0:
            ax.set_ylabel("cycles / image", fontsize=7.5, labelpad=0)
            ax.set_yticks([-(rows // 4), 0, rows // 4])
            ax.tick_params(labelsize=7, pad=1)
    split = max(1, min(2, len(columns) - 1)) if True in drawn else len(columns)
    for added, place in ((False, slice(None, split)), (True, slice(split, None))):
        if added not in drawn:
            continue
        powers = 10.0 ** np.arange(-9, 9)
        low, high = looks[added]["norm"].vmin, looks[added]["norm"].vmax
        bar = fig.colorbar(drawn[added], cax=fig.add_subplot(grid[2, place]), format="%g",
                           orientation="horizontal",
                           ticks=powers[(1.2 * low < powers) & (powers < high / 1.2)])
        bar.ax.minorticks_off()
        bar.set_label("perturbation's" if added else "amplitude (log scale)", fontsize=7.5,
                      labelpad=1)
        bar.ax.tick_params(labelsize=7, pad=1)
    _bars(fig.add_axes((1 / width, (height - above - 2.5 - bars) / height, 1 - 1.12 / width,
                        (bars - 0.05) / height)),
          found, classes, chosen, stages, shares, limits)
    fig.suptitle("\n".join(heading), fontsize=9, y=1 - 0.04 / height, va="top", parse_math=False)
    if mark:
        fig.text(0.5, 0.01, "\n".join(textwrap.wrap(mark, 15 * width)), color="#B00020", fontsize=8,
                 weight="bold", ha="center", va="bottom")
    return fig


def _spectrum(image) -> np.ndarray:
    """The amplitudes (H, W) of an image (C, H, W), the mean over its channels."""
    return spectral.amplitude(torch.from_numpy(image)[None])[0].mean(0).numpy()


def attack_of(found: dict) -> str:
    """The attack of a `look` in words."""
    return "no attack" if found["attack"] == "none" \
        else f"{found['attack']} at eps {255 * found['eps']:g}/255"


def _setting(found, columns=PANEL) -> str:
    """What made a panel: the attack, and the filter where its column is shown."""
    return attack_of(found) + (f", low-pass filter of bandwidth {found['bandwidth']}"
                               if "filtered" in columns else "")


def _heading(found, name, classes) -> tuple[str, str]:
    """What stands above an image, and its colour; a cross marks a wrong reading as well."""
    if name == "perturbation":
        return "perturbation\nblack −, grey 0,\nwhite +", "black"
    read = found["classes"][name]
    true = read == found["label"]
    return (f"{name}\n{'✓' if true else '✗'} {classes[read]}\n{found['shares'][name]:.0%}",
            "black" if true else "#B00020")


def _highest(found, stages, most) -> list[int]:
    """The classes of the bars, in their order: those of the highest logits and the true one."""
    logits = np.max([found["logits"][name] for name in stages], 0)
    chosen = sorted(np.argsort(-logits, kind="stable")[:most].tolist())
    return chosen if found["label"] in chosen else sorted([*chosen[:-1], found["label"]])


def _bars(ax, found, classes, chosen, stages, shares, limits):
    values = np.stack([found["logits"][name] for name in stages])
    if shares:
        values = np.exp(values - values.max(1, keepdims=True))
        values *= 100 / values.sum(1, keepdims=True)
    step = 0.84 / len(stages)
    for index, name in enumerate(stages):
        ax.barh(np.arange(len(chosen)) + step * (index - (len(stages) - 1) / 2),
                values[index, chosen], 0.9 * step, label=name, color=COLORS[index],
                hatch=HATCHES[index], edgecolor="white", lw=0)
    names = [f"{classes[c]}{' (true)' if c == found['label'] else ''}" for c in chosen]
    ax.set_yticks(range(len(chosen)), names, parse_math=False)
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    ax.set_xlim((0, 100) if shares else limits)
    ax.tick_params(labelsize=7.5, pad=2)
    ax.axvline(0, color="black", lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("probability (%)" if shares else "logit", fontsize=8, labelpad=1)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=len(stages), frameon=False,
              fontsize=7.5, handlelength=1.2, columnspacing=1, borderaxespad=0.2)


def sentence(found: dict, classes, columns=PANEL) -> str:
    """A panel in words: what it shows, for those who do not see it."""
    words = {"clean": "Clean", "attacked": "attacked", "filtered": "attacked and filtered"}
    readings = [f"{words[name]}, it is read as {classes[found['classes'][name]]} "
                f"({found['shares'][name]:.0%})" for name in STAGES if name in columns]
    return (f"Images, spectra and readings for {_setting(found, columns)}. The true class is "
            f"{classes[found['label']]}. {'; '.join(readings)}.")


def img(found: dict, classes, *, columns=PANEL, alt="", attributes="", **drawn) -> str:
    """The figure of a `look` as an HTML image that holds its own data, a PNG; drawn: as `draw`."""
    canvas = FigureCanvasAgg(draw(found, classes, columns=columns, **drawn))
    alt, png = alt or sentence(found, classes, columns), io.BytesIO()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.save(png, format="png")
    return (f'<img alt="{html.escape(alt)}" width="{picture.width}" height="{picture.height}" '
            f'style="max-width: 100%; height: auto; background: #fff"{attributes} '
            f'src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">')


STYLE = """
.frames [hidden] { display: none !important; }
.frames { margin: 0; }
.frames .side { display: grid; gap: 0.5rem; }
.frames .side { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
"""
SCRIPT = """
(() => {
  const box = document.currentScript.parentElement, knob = box.querySelector("input");
  const value = box.querySelector("output"), steps = JSON.parse(knob.dataset.steps);
  const show = () => {
    for (const picture of box.querySelectorAll("img"))
      picture.hidden = picture.dataset.step !== knob.value;
    value.value = steps[knob.value] + knob.dataset.unit;
    knob.setAttribute("aria-valuetext", value.value);
  };
  box.querySelector("p").hidden = false;
  box.addEventListener("input", show);
  show();
})();
"""


def frames(found: dict[str, dict[int, dict]], classes, *, start: int, knob="eps", unit="/255",
           caption="", mark=None, columns=PANEL, **drawn) -> str:
    """Panels made in advance, the models side by side, with one slider: HTML, needs no network.

    found: {model: {step of the slider: look}}, the same steps for every model, as the eps in grey
    levels of 255. The frames of `start` are shown first, and are all there is where scripts do not
    run. knob, unit: what the slider turns; caption: plain text below; drawn: as `draw` takes it.
    The models share the scales of their spectra and logits, those of the perturbation at a step.
    Raises ValueError when `found` is empty or uneven, or `start` is not one of its steps.
    """
    steps = [list(at) for at in found.values()]
    if not found or any(at != steps[0] for at in steps):
        raise ValueError("frames need at least one model, and the same steps for each")
    if start not in steps[0]:
        raise ValueError(f"start = {start}: choose one of {', '.join(map(str, steps[0]))}")
    logits = [values for looks in found.values() for at in looks.values()
              for values in at["logits"].values()]
    drawn = {"limits": (np.min(logits) - 0.1, np.max(logits) + 0.1), **drawn}
    by_step = zip(*(looks.values() for looks in found.values()), strict=True)
    strongest = [max(_spectrum(at["images"]["attacked"] - at["images"]["clean"]).max()
                     for at in looks) for looks in by_step]
    first, sides = steps[0].index(start), ""
    for name, looks in found.items():
        pictures = [img(at, classes, columns=columns, mark=mark, strongest=strongest[step], **drawn,
                        title=f"{name}: {_setting(at, columns)}",
                        alt=" ".join(filter(None, (f"Model {name}.",
                                                   sentence(at, classes, columns), mark))),
                        attributes=f' data-step="{step}"' + " hidden" * (step != first))
                    for step, at in enumerate(looks.values())]
        sides += f"<div>{''.join(pictures)}</div>"
    return (f'<figure class="frames"><style>{STYLE}</style><p hidden><label>{html.escape(knob)} '
            f'<input type="range" min="0" max="{len(steps[0]) - 1}" step="1" value="{first}" '
            f'autocomplete="off" data-steps="{steps[0]}" data-unit="{html.escape(unit)}"></label> '
            f'<output>{start}{html.escape(unit)}</output></p><div class="side">{sides}</div>'
            f'<figcaption>{html.escape(caption)}</figcaption><script>{SCRIPT}</script></figure>')


def live() -> bool:
    """Whether a Jupyter server runs this kernel: it names the notebook in the environment.

    False under papermill, nbconvert and nbval, whose output has no kernel behind it.
    """
    return "JPY_SESSION_NAME" in os.environ


def controls(load, names, split: data.Split, *, eps: float, attack: str = "PGD-20", index: int = 0,
             bandwidth: int | None = None, seed: int = 0, mark=None) -> ipywidgets.VBox:
    """Menus and sliders around the figure of one `look`, for a running Jupyter.

    load: name -> model; names: of the models to choose from; split: the images; eps in [0, 1]: the
    slider begins there and ends at twice that. The figure is drawn anew after each change.
    """
    side = max(split.images.shape[-2:])
    device = split.labels.device
    style = {"style": {"description_width": "9em"}, "layout": {"width": "30em"}}
    slider = {**style, "continuous_update": False}
    model = ipywidgets.Dropdown(options=list(names), description="model", **style)
    number = ipywidgets.IntSlider(index, 0, len(split) - 1, description="image", **slider)
    kind = ipywidgets.Dropdown(options=list(ATTACKS), value=attack, description="attack", **style)
    grey = ipywidgets.IntSlider(round(255 * eps), 0, min(255, round(510 * eps)),
                                description="eps (of 255)", **slider)
    width = ipywidgets.IntSlider(bandwidth or side // 2, 1, side, description="bandwidth", **slider)
    picture = ipywidgets.HTML()

    def redraw(_=None):
        image = data.to_float(split.images[number.value]).to(device)
        found = look(load(model.value), image, int(split.labels[number.value]), attack=kind.value,
                     eps=grey.value / 255, bandwidth=width.value, seed=seed)
        picture.value = img(found, split.classes, mark=mark,
                            title=f"{model.value}, image {number.value}: {_setting(found)}")

    inputs = [model, number, kind, grey, width]
    for control in inputs:
        control.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*inputs, picture])
