"""All numbers of chapters 5 (`figures`) and 8 (`lens`), computed once and stored.

Both read the finished runs of a preset and attack its first test images with PGD-20, step eps/4.
"""

from __future__ import annotations

from functools import partial
from importlib import resources
from itertools import pairwise
from math import inf

import torch
from torch import Tensor
from tqdm.auto import tqdm

from frlib import attacks, data, evaluate, models, spectral
from frlib.fast import freeze
from frlib.run import evaluate_run
from frlib.run.config import Config, a_list
from frlib.run.files import score
from frlib.run.folder import device_of
from frlib.run.measured import brief, by_label, common_settings, finished, images, made, network
from frlib.run.places import resolve
from frlib.run.settings import READ_FROM

SIDE = 32  # bandwidths, radii and norms are given for images of this side, and scaled to others
TABLE1 = ("natural", "at")  # the two networks of the paper's Table 1 and figures 1 and 2
SHOWN = ("horse", "ship")  # the classes of figure 2, where a data set has them
LENS = ("natural", "at", "at-swa", "at-fr", "at-fr-swa")
BANDS = ("low", "middle", "high")


# ---- what is asked for

def figures_settings(config: Config, *, bandwidths=None, full_scale_images=None) -> dict:
    """What decides the numbers of chapter 5; None: as the preset has it. ValueError naming a knob.

    The networks get the first images that the preset judges, at most 1,000, or all where it judges
    all. bandwidths: sides of the patch that the filter keeps, for 32 x 32 images.
    full_scale_images: for the ResNet-18 that AutoAttack's package ships, on CIFAR-10; by default as
    many as the preset judges, at most 1,000, and none for another data set.
    """
    if full_scale_images is None:
        full_scale_images = min(1000, config.judge_images or 1000) \
            if config.dataset == "cifar10" else 0
    if type(full_scale_images) is not int or not 0 <= full_scale_images <= 10_000:
        raise ValueError(f"full_scale_images = {full_scale_images!r}: from 0 to 10000")
    images = config.judge_images and min(1000, config.judge_images)  # 0: all
    return {**common_settings(config), "images": images,
            "bandwidths": _bandwidths([32, 28, 24, 20, 16] if bandwidths is None else bandwidths),
            "full_scale_images": full_scale_images}


def lens_settings(config: Config, *, methods=None, images=None, radii=None, norm=None, stride=None,
                  bandwidths=None) -> dict:
    """What decides the numbers of chapter 8; None: as the preset has it. ValueError naming a knob.

    methods: those of LENS that the preset lists, by default, or all if it lists none of them.
    images: test images. radii: where the three bands meet, in cycles per 32 pixels. norm: the L2
    norm of a wave in each channel of 32 x 32 pixels. stride: every how many frequencies the map
    has one. bandwidths: sides of the filters' patch.
    """
    listed = [c.method for c in evaluate_run.listed(config).values()]
    few = brief(config)
    if methods is None:
        methods = [m for m in LENS if m in listed] or list(dict.fromkeys(listed))
    methods = a_list("methods", methods, tuple(READ_FROM))
    images = (20 if few else 200) if images is None else images
    radii = [10.4, 14.8] if radii is None else radii
    norm = 4.0 if norm is None else norm
    stride = (4 if few else 2) if stride is None else stride
    if type(images) is not int or images < 1:
        raise ValueError(f"images = {images!r}: must be a whole number from 1")
    if type(radii) not in (list, tuple) or len(radii) != 2 or not 0 < radii[0] < radii[1]:
        raise ValueError(f"radii = {radii!r}: must be a list of two rising numbers above 0")
    if type(norm) not in (int, float) or not norm >= 0:
        raise ValueError(f"norm = {norm!r}: must be a number from 0")
    if type(stride) is not int or stride < 1:
        raise ValueError(f"stride = {stride!r}: must be a whole number from 1")
    bandwidths = [1, 3, 5, 9, 13, 17, 25, 32] if bandwidths is None else bandwidths
    return {**common_settings(config), "methods": methods, "images": images, "radii": list(radii),
            "norm": norm, "stride": stride, "bandwidths": _bandwidths(bandwidths)}


def _bandwidths(values) -> list[int]:
    return a_list("bandwidths", values, range(1, SIDE + 1))


# ---- the measurements, one network at a time

@evaluate.full_precision()
def attacked_images(model, x: Tensor, y: Tensor, config: Config, attack=attacks.pgd,
                    **more) -> Tensor:
    """All images (N, C, H, W) under `attack`, by default PGD: 20 steps of judge_eps/4, batch by
    batch from one generator seeded with `config.seed`."""
    generator = torch.Generator(x.device).manual_seed(config.seed)
    batches = zip(x.split(config.judge_batch), y.split(config.judge_batch), strict=True)
    return torch.cat([attack(model, bx, by, eps=config.judge_eps, step_size=config.judge_eps / 4,
                             steps=20, generator=generator, **more) for bx, by in batches])


def scaled(bandwidth: int, x: Tensor) -> int:
    """A bandwidth of 32 x 32 images for images (N, C, H, W): at least 1; 32 filters nothing."""
    return max(1, round(bandwidth * max(x.shape[-2:]) / SIDE))


def behind(model, x: Tensor, y: Tensor, bandwidths, *, filtered=spectral.low_pass,
           batch_size: int = 250) -> dict:
    """{bandwidth: score} of the images behind a filter of every bandwidth."""
    return {str(b): score(evaluate.correct(model, filtered(x, scaled(b, x)), y,
                                           batch_size=batch_size)) for b in bandwidths}


def high_pass(x: Tensor, bandwidth: int) -> Tensor:
    """`spectral.high_pass` with the mean of each channel put back: an image of its brightness."""
    return spectral.high_pass(x, bandwidth) + x.mean((-2, -1), keepdim=True)


def spectra(x: Tensor, adv: Tensor) -> dict:
    """Mean amplitude spectra over images and channels, and that of the size of the difference."""
    clean, adv = (spectral.amplitude(images).mean(1).cpu() for images in (x, adv))
    return {"clean": rounded(clean.mean(0)), "adv": rounded(adv.mean(0)),
            "difference": rounded((adv - clean).abs().mean(0))}


def examples(y: Tensor, classes) -> dict[str, int]:
    """{class: index of its first image} of two classes that are there, SHOWN if possible."""
    there = {classes[label]: int((y == label).nonzero()[0]) for label in sorted(set(y.tolist()))}
    names = sorted(there, key=lambda name: (SHOWN.index(name) if name in SHOWN else len(SHOWN)))
    return {name: there[name] for name in names[:2]}


def confined(model, x: Tensor, y: Tensor, clean: Tensor, edges, band: int, config: Config):
    """PGD-20 within one of the bands between the `edges`, on the images of flags `clean`.

    Returns the flags under it; by image, what share of the perturbation's energy is in the band,
    and its root mean square over the radius.
    """
    if not clean.any():
        return clean.clone(), torch.zeros(0), torch.zeros(0)
    low, high = list(pairwise([0, *edges, inf]))[band]
    chosen = clean.nonzero()[:, 0].to(x.device)
    adv = attacked_images(model, x[chosen], y[chosen], config, attacks.subspace_pgd,
                project=lambda change: spectral.band_pass(change, low, high))
    flags = clean.clone()
    flags[chosen.cpu()] = evaluate.correct(model, adv, y[chosen], batch_size=config.judge_batch)
    change = adv - x[chosen]
    share = spectral.energy_shares(change, edges)[:, band]
    return flags, share, change.square().mean((1, 2, 3)).sqrt() / config.judge_eps


def wave_map(model, x: Tensor, y: Tensor, config: Config, *, norm: float, stride: int) -> Tensor:
    """Accuracy under one wave at a time, frequency by frequency: `evaluate.fourier_sensitivity`."""
    generator = torch.Generator(x.device).manual_seed(config.seed)
    return evaluate.fourier_sensitivity(
        model, x, y, norm=norm * x[0, 0].numel() ** 0.5 / SIDE, stride=stride,
        batch_size=config.judge_batch, generator=generator)


def density(change: Tensor, stride: int) -> Tensor:
    """Mean energy at the frequencies of the map, over the mean of all frequencies."""
    energy = spectral.amplitude(change).square().mean((0, 1))
    first, left = (n // 2 % stride for n in energy.shape)
    return energy[first::stride, left::stride] / energy.mean()


def band_edges(radii, x: Tensor) -> list[float]:
    """`radii`, in cycles per 32 pixels, in cycles per side of these images."""
    return [r * x.shape[-1] / SIDE for r in radii]


def white_noise(x: Tensor, edges) -> list[float]:
    """The share of white noise in each band: of one bright pixel, alike at every frequency."""
    impulse = torch.zeros(1, 1, *x.shape[-2:])
    impulse[..., 0, 0] = 1
    return rounded(spectral.energy_shares(impulse, edges)[0])


def rounded(tensor: Tensor):
    """Nested lists of four significant digits."""
    return [rounded(t) for t in tensor] if tensor.ndim else float(f"{float(tensor):.4g}")


# ---- chapter 5

def figures(config: Config, *, redo: bool = False, **knobs) -> dict:
    """The numbers of chapter 5, of every finished run; knobs as in `figures_settings`.

    "table1" and "full_scale": accuracy behind a low-pass filter; "kernels" and "roughness" of the
    first layer; "spectra" of clean and attacked images; "radial": energy of the attacks by
    distance from the zero frequency. Stored and raised as `made` says.
    """
    settings, configs = figures_settings(config, **knobs), finished(config)
    store = config.is_preset and settings == figures_settings(config)
    return made(config, "figures", settings, configs, _figures, store=store, redo=redo)


def _figures(config, settings, configs, once) -> dict:
    test = images(config, settings["images"])
    each = {label: once(label, partial(_figures_of, label, c, config, settings, test))
            for label, c in tqdm(configs.items(), desc="figures")}
    full = settings["full_scale_images"]
    full = once("full-scale", partial(_full_scale, config, settings, full)) if full else None
    return {"images": len(test), "examples": examples(test.labels, test.classes),
            "table1": by_label(each, "table1", TABLE1), "full_scale": full,
            "kernels": by_label(each, "kernels", TABLE1),
            "roughness": by_label(each, "roughness"),
            "spectra": by_label(each, "spectra", TABLE1), "radial": by_label(each, "radial"),
            "data": {"test": test.checksum}}


def _figures_of(label, c, config, settings, test) -> dict:
    x, y, plain = test.x, test.labels, network(c, test)
    kernels = models.first_kernels(plain)
    if kernels is None:
        raise ValueError(f"{label}: chapter 5 shows a first convolution, {c.model!r} has none")
    model, kernels = freeze(plain), kernels.cpu()
    adv = attacked_images(model, x, y, config)
    found = {"roughness": rounded(spectral.kernel_roughnesses(kernels)),
             "radial": rounded(spectral.radial_energy(adv - x).cpu())}
    if label not in TABLE1:
        return found
    shown = {name: slice(i, i + 1) for name, i in examples(y, test.classes).items()}
    return {**found, "table1": {"clean": behind(model, x, y, settings["bandwidths"]),
                                "pgd20": behind(model, adv, y, settings["bandwidths"])},
            "kernels": rounded(kernels[:16]),
            "spectra": {name: spectra(x[chosen], adv[chosen])
                        for name, chosen in {**shown, "test mean": slice(None)}.items()}}


def _full_scale(config, settings, count) -> dict | None:
    """Table 1's row of the naturally trained ResNet-18 in AutoAttack's package, if it is there."""
    weights = resources.files("pyautoattack") / "examples" / "model_test.pt"
    if not weights.is_file():
        return None
    official = data.load("cifar10", resolve(config.data_root), "test").take(count)
    official = official.to(device_of(config))
    x, y = official.x, official.labels
    model = models.load_checkpoint(models.create("resnet18"), weights)
    model = freeze(model.to(x.device))
    return {"clean": behind(model, x, y, settings["bandwidths"]),
            "pgd20": behind(model, attacked_images(model, x, y, config), y, settings["bandwidths"])}


# ---- chapter 8

def lens(config: Config, *, redo: bool = False, **knobs) -> dict:
    """The numbers of chapter 8, of the finished runs of its methods; knobs as in `lens_settings`.

    "scores" under attacks within one band and under the free one, and, image by image, how much of
    each stays "inside" its band and its "size"; "shares" and "energy" of the free attack; "maps"
    of accuracy under one wave; "filters" from both sides. Stored and raised as `made` says.
    """
    settings = lens_settings(config, **knobs)
    store = config.is_preset and settings == lens_settings(config)
    configs = finished(config, settings["methods"])
    return made(config, "lens", settings, configs, _lens, store=store, redo=redo)


def _lens(config, settings, configs, once) -> dict:
    test = images(config, settings["images"])
    each = {label: once(label, partial(_lens_of, c, config, settings, test))
            for label, c in tqdm(configs.items(), desc="lens")}
    height, width = test.images.shape[-2:]
    edges = band_edges(settings["radii"], test.images)
    return {"label": "lens", "images": len(test), "classes": len(test.classes),
            "bands": dict(zip(BANDS, white_noise(test.images, edges), strict=True)),
            "edges": edges, "vertical": spectral.frequencies(height, settings["stride"]),
            "horizontal": spectral.frequencies(width, settings["stride"]),
            **{part: by_label(each, part) for part in
               ("scores", "inside", "size", "filters", "shares", "energy", "maps")},
            "data": {"test": test.checksum}}


def _lens_of(c, config, settings, test) -> dict:
    x, y, model = test.x, test.labels, freeze(network(c, test))
    edges = band_edges(settings["radii"], x)
    batch = {"batch_size": config.judge_batch}
    free = attacked_images(model, x, y, config)
    clean = evaluate.correct(model, x, y, **batch)
    flags, inside, size = {"clean": clean}, {}, {}
    for i, band in enumerate(BANDS):
        flags[band], share, length = confined(model, x, y, clean, edges, i, config)
        inside[band], size[band] = rounded(share.cpu()), rounded(length.cpu())
    flags["all"] = clean & evaluate.correct(model, free, y, **batch)
    bandwidths = settings["bandwidths"]
    return {"scores": {attack: score(right) for attack, right in flags.items()},
            "inside": inside, "size": size,
            "filters": {"low_pass": behind(model, x, y, bandwidths, **batch),
                        "high_pass": behind(model, x, y, bandwidths, filtered=high_pass, **batch)},
            "shares": rounded(spectral.energy_shares(free - x, edges).cpu()),
            "energy": rounded(density(free - x, settings["stride"]).cpu()),
            "maps": rounded(wave_map(model, x, y, config, norm=settings["norm"],
                                     stride=settings["stride"]))}
