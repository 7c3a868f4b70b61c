"""One image under one attack: as numbers, as a figure, as frames with a slider, as live controls.

The attacks are those of `evaluate_run`, steps of eps/4. The low-pass filter is applied to the
attacked image, after the attack was made, as in Table 1.
"""

from __future__ import annotations

import base64
import html
import io
import os

import ipywidgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

from frlib import attacks, data, spectral
from frlib.publish.markup import escaped
from frlib.publish.plots import COLORS

ATTACKS = {
    "none": lambda model, x, y, eps, generator: x,
    "FGSM": lambda model, x, y, eps, generator: attacks.fgsm(model, x, y, eps=eps),
    "PGD-20": lambda model, x, y, eps, generator: attacks.pgd(
        model, x, y, eps=eps, step_size=eps / 4, steps=20, generator=generator),
    "C&W": lambda model, x, y, eps, generator: attacks.cw(
        model, x, y, eps=eps, step_size=eps / 4, steps=30, generator=generator),
}
STAGES = ("clean", "attacked", "filtered")
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
    generator = torch.Generator(x.device).manual_seed(seed)
    attacked = ATTACKS[attack](model, x, y, eps, generator)
    images = torch.cat([x, attacked, spectral.low_pass(attacked, bandwidth)])
    with torch.no_grad():
        logits = model(images).float()
    share, read = logits.softmax(1).max(1)
    return {"label": label, "attack": attack, "eps": eps, "bandwidth": bandwidth,
            "images": dict(zip(STAGES, images.cpu().numpy(), strict=True)),
            "logits": dict(zip(STAGES, logits.cpu().numpy(), strict=True)),
            "classes": dict(zip(STAGES, read.tolist(), strict=True)),
            "shares": dict(zip(STAGES, share.tolist(), strict=True))}


def draw(found: dict, classes, *, title=None, mark=None) -> Figure:
    """A `look` as a figure: images, their amplitude spectra on one log scale, and the logits.

    classes: the names of the labels; mark: as in `frlib.publish.plots`.
    The perturbation is drawn with grey for 0, black for -eps and white for +eps, per channel.
    """
    images, eps = found["images"], found["eps"]
    perturbation = images["attacked"] - images["clean"]
    shown = {"clean": images["clean"], "attacked": images["attacked"],
             "perturbation": 0.5 + perturbation / (2 * eps or 1), "filtered": images["filtered"]}
    spectra = {name: spectral.amplitude(torch.from_numpy(values)[None])[0].mean(0).numpy()
               for name, values in {**images, "perturbation": perturbation}.items()}
    top = max(float(spectra["clean"].max()), 1e-6)
    scale = LogNorm(top / 1e4, top, clip=True)
    fig = Figure(figsize=(6, 5.4), dpi=110, facecolor="white")
    grid = fig.add_gridspec(2, 5, width_ratios=[1, 1, 1, 1, 0.07], left=0.12, right=0.9, top=0.86,
                            bottom=0.42, hspace=0.06, wspace=0.12)
    height, width = next(iter(spectra.values())).shape
    left, up = -(width // 2) - 0.5, -(height // 2) - 0.5
    for column, (name, pixels) in enumerate(shown.items()):
        ax = fig.add_subplot(grid[0, column], xticks=[], yticks=[], anchor="S")
        ax.imshow(np.clip(pixels.transpose(1, 2, 0).squeeze(), 0, 1), cmap="gray", vmin=0, vmax=1)
        reading, color = _heading(found, name, classes)
        ax.set_title(reading, fontsize=8.5, color=color, linespacing=1.3, parse_math=False)
        below = fig.add_subplot(grid[1, column], yticks=[], anchor="N")
        drawn = below.imshow(spectra[name], cmap="viridis", norm=scale,
                             extent=(left, left + width, up + height, up))
        below.set_xticks([-(width // 4), 0, width // 4])
        below.tick_params(labelsize=7)
        below.set_xlabel("cycles / image", fontsize=7.5)
        if column == 0:
            ax.set_ylabel("image", fontsize=9)
            below.set_ylabel("spectrum\ncycles / image", fontsize=8)
            below.set_yticks([-(height // 4), 0, height // 4])
    bar = fig.colorbar(drawn, cax=fig.add_subplot(grid[1, 4]))
    bar.set_label("amplitude (log scale)", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    _bars(fig.add_axes((0.12, 0.12, 0.78, 0.18)), found, classes)
    fig.suptitle(title or _setting(found), fontsize=10.5, y=0.97)
    if mark:
        fig.text(0.5, 0.01, mark, color="#B00020", fontsize=9, weight="bold", ha="center")
    return fig


def _setting(found) -> str:
    attack = "no attack" if found["attack"] == "none" \
        else f"{found['attack']} at eps {255 * found['eps']:g}/255"
    return f"{attack}, low-pass filter of bandwidth {found['bandwidth']}"


def _heading(found, name, classes) -> tuple[str, str]:
    """What stands above an image, and its colour; a cross marks a wrong reading as well."""
    if name == "perturbation":
        return "perturbation\ngrey 0, white +eps", "black"
    read = found["classes"][name]
    right = read == found["label"]
    return (f"{name}\n{'✓' if right else '✗'} {classes[read]}, {found['shares'][name]:.0%}",
            "black" if right else "#B00020")


def _bars(ax, found, classes):
    logits = np.stack([found["logits"][name] for name in STAGES])
    chosen = np.sort(np.argsort(-logits.max(0), kind="stable")[:MOST_CLASSES])
    if found["label"] not in chosen:
        chosen = np.sort(np.append(chosen[:-1], found["label"]))
    for index, name in enumerate(STAGES):
        ax.bar(np.arange(len(chosen)) + 0.27 * (index - 1), logits[index, chosen], 0.25,
               label=name, color=COLORS[index], hatch=HATCHES[index], edgecolor="white", lw=0)
    names = [f"{classes[c]}{' (true)' if c == found['label'] else ''}" for c in chosen]
    long = max(map(len, names)) > 9
    ax.set_xticks(range(len(chosen)), names, rotation=20 * long, ha="right" if long else "center",
                  parse_math=False)
    ax.tick_params(labelsize=8)
    ax.axhline(0, color="black", lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylabel("logit", fontsize=8)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.95), ncols=3, frameon=False, fontsize=8)


def sentence(found: dict, classes) -> str:
    """A `look` in words: what the figure shows, for those who do not see it."""
    readings = {name: f"{classes[found['classes'][name]]} ({found['shares'][name]:.0%})"
                for name in STAGES}
    return (f"Images, spectra and logits for {_setting(found)}. The true class is "
            f"{classes[found['label']]}. Clean, the image is read as {readings['clean']}; "
            f"attacked, as {readings['attacked']}; attacked and filtered, as "
            f"{readings['filtered']}.")


def summary(found: dict[str, dict[int, dict]], classes) -> str:
    """What the frames show, made from their numbers: a paragraph per model, as Markdown."""
    paragraphs = []
    for name, steps in found.items():
        first = next(iter(steps.values()))
        parts = []
        for stage, words in (("attacked", "attacked"), ("filtered", "behind the filter")):
            wrong = [grey for grey, at in steps.items() if at["classes"][stage] != at["label"]]
            parts.append(f"{words}, it is wrong at eps {', '.join(map(str, wrong))} of 255" if wrong
                         else f"{words}, it is right at every eps shown")
        paragraphs.append(
            f"**{name}** reads the clean image (true class {escaped(classes[first['label']])}) as "
            f"{escaped(classes[first['classes']['clean']])}, {first['shares']['clean']:.0%} sure; "
            f"{'; '.join(parts)} ({first['attack']}, bandwidth {first['bandwidth']}).")
    return "\n\n".join(paragraphs)


def img(found: dict, classes, *, alt="", title=None, mark=None, hidden=False) -> str:
    """The figure of a `look` as an HTML image that holds its own data, a PNG."""
    canvas, png = FigureCanvasAgg(draw(found, classes, title=title, mark=mark)), io.BytesIO()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.save(png, format="png", optimize=True)
    return (f'<img alt="{html.escape(alt or sentence(found, classes))}" width="{picture.width}" '
            f'height="{picture.height}" style="max-width: 100%; height: auto; background: #fff"'
            f'{" hidden" if hidden else ""} '
            f'src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">')


SCRIPT = """
(() => {
  const box = document.currentScript.parentElement;
  const model = box.querySelector("select"), step = box.querySelector("input");
  const value = box.querySelector("output"), pictures = box.querySelectorAll("img");
  const eps = JSON.parse(step.dataset.eps);
  const show = () => {
    const wanted = model.selectedIndex * eps.length + Number(step.value);
    pictures.forEach((picture, index) => { picture.hidden = index !== wanted; });
    value.value = eps[step.value] + "/255";
    step.setAttribute("aria-valuetext", value.value);
  };
  box.querySelector("p").hidden = false;
  box.addEventListener("input", show);
  show();
})();
"""


def frames(found: dict[str, dict[int, dict]], classes, *, start: int, mark=None) -> str:
    """Figures made in advance, with a menu of models and a slider of eps: HTML, needs no network.

    found: {model: {eps in grey levels of 255: look}}, the same eps for every model. The frame of
    the first model at eps `start` is shown first, and is all there is where scripts do not run.
    Raises ValueError when `found` is empty or uneven, or `start` is not one of its eps.
    """
    steps = [list(at) for at in found.values()]
    if not found or any(at != steps[0] for at in steps):
        raise ValueError("frames need at least one model, and the same eps for each")
    if start not in steps[0]:
        raise ValueError(f"start = {start}: choose one of {', '.join(map(str, steps[0]))}")
    first = steps[0].index(start)
    pictures = [img(at, classes, title=f"{name}: {_setting(at)}", mark=mark,
                    alt=" ".join(filter(None, (f"Model {name}.", sentence(at, classes), mark))),
                    hidden=(row, column) != (0, first))
                for row, (name, of_eps) in enumerate(found.items())
                for column, at in enumerate(of_eps.values())]
    options = "".join(f"<option>{html.escape(name)}</option>" for name in found)
    return (f'<div class="frames"><style>.frames [hidden] {{ display: none !important; }}</style>'
            '<p hidden>'
            f'<label>model <select autocomplete="off">{options}</select></label> '
            f'<label>eps <input type="range" min="0" max="{len(steps[0]) - 1}" step="1" '
            f'value="{first}" autocomplete="off" data-eps="{steps[0]}"></label> '
            f'<output>{start}/255</output></p>{"".join(pictures)}<script>{SCRIPT}</script></div>')


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
