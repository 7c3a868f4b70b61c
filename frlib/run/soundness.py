"""Is a robust accuracy real? The checks of Athalye et al. (1802.00420) and Carlini et al.
(1902.06705), as numbers: larger radii, rescaled losses, stronger and transferred attacks.

A network whose gradients are sound falls to 0 as the radius grows, is hurt as much when its logits
are rescaled, loses little to restarts, and is never hurt more by another network's adversarial
images than by its own. Each function takes frozen models, images x (N, 3, H, W) in [0, 1] and
labels y, and returns per-example flags, as `files.score` stores them.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from frlib import attacks, evaluate
from frlib.fast import freeze
from frlib.run import evaluate_run, export, measured
from frlib.run.config import Config, a_list
from frlib.run.files import score
from frlib.run.folder import as_stored
from frlib.run.settings import READ_FROM

MULTIPLES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the radius: 0 to 64/255 for 8/255
FACTORS = (0.1, 1.0, 10.0)  # of the logits
STEPS, RESTARTS = 50, 5  # of the stronger attacks
CHECKED = ("at", "at-swa", "at-fr", "at-fr-swa", "at-sar", "at-sar-wa")  # where a preset has them
PARTS = ("radius", "scale", "stronger")  # each of one network; "transfer" is of all of them


# ---- computed once, and stored

def settings(config: Config, *, methods=None, images=None) -> dict:
    """What decides the numbers of `soundness`; None: as the preset has it. ValueError for a knob.

    methods: those of CHECKED that the preset lists, by default, AT and AT-FR where few images are
    judged. images: as many test images as AutoAttack has, by default, and at most 1,000.
    """
    few = measured.brief(config)
    listed = [c.method for c in evaluate_run.listed(config).values()]
    if methods is None:
        checked = ("at", "at-fr") if few else CHECKED
        methods = [m for m in checked if m in listed] or list(dict.fromkeys(listed))
    methods = a_list("methods", methods, tuple(READ_FROM))
    images = min(1000, config.aa_images or 1000) if images is None else images
    if type(images) is not int or images < 1:
        raise ValueError(f"images = {images!r}: must be a whole number from 1")
    return {**measured.common_settings(config), "methods": methods, "images": images,
            "steps": 5 if few else STEPS, "restarts": 1 if few else RESTARTS}


def soundness(config: Config, *, published: bool = False, redo: bool = False, **knobs) -> dict:
    """Every check, of the finished runs of these methods; knobs as in `settings`.

    "radius", "scale" and "stronger" by label, "transfer" by source and target. Stored and raised
    as `measured.made` says, under the numerics of judging. published: of the weights beside the
    committed results in place of this machine's runs, and stored there; ValueError for those of
    another seed, or of a preset that has other settings now.
    """
    chosen = settings(config, **knobs)
    store = config.is_preset and chosen == settings(config)
    sums, path, network = None, None, measured.network
    if published:
        configs, sums = _published(config, chosen["methods"])
        path = export.committed(config.preset_name) / "soundness" / f"seed{config.seed}.json"
        network = _published_network
    else:
        configs = measured.finished(config, chosen["methods"])
    return measured.made(config, "soundness", chosen, configs, partial(_all, network=network),
                         store=store, redo=redo, part="judge", sums=sums, path=path)


def _published(config: Config, methods) -> tuple[dict[str, Config], dict[str, str]]:
    """The preset's results of these methods whose weights are published, and their checkpoints'
    SHA-256, each by label."""
    if not config.is_preset or config.seed != export.SEED:
        raise ValueError(f"published weights are those of seed {export.SEED} of a preset as it "
                         "is: leave its settings and the seed alone")
    there = export.published_labels(config.preset_name)
    configs = {label: c for label, c in evaluate_run.listed(config).items()
               if c.method in methods and label in there}
    if not configs:
        raise FileNotFoundError(f"no weights of {config.preset_name} are published; without "
                                "--published the checks are of your own runs")
    sums = {}
    for label, c in configs.items():
        about = export.published_result(config.preset_name, label)
        other = [key for key, value in as_stored(c.group("train", "judge")).items()
                 if about["config"].get(key, value) != value]
        if other:
            raise ValueError(f"the published {label} of {config.preset_name} was made with another "
                             f"{', '.join(other)} than the preset has now")
        sums[label] = about["checkpoint_sha256"]
    return configs, sums


def _published_network(c: Config, test) -> torch.nn.Module:
    return export.published_model(c.preset_name, c.result_label).to(test.labels.device)


def _all(config, chosen, configs, once, network) -> dict:
    test = measured.images(config, chosen["images"])
    common = {"eps": config.judge_eps, "seed": config.seed, "batch_size": config.judge_batch}

    def of(c):
        model = freeze(network(c, test))
        return {"radius": by_radius(model, test.x, test.labels, **common),
                "scale": by_scale(model, test.x, test.labels, **common),
                "stronger": stronger(model, test.x, test.labels, **common, steps=chosen["steps"],
                                     restarts=chosen["restarts"])}

    def across():
        models = {label: freeze(network(c, test)) for label, c in configs.items()}
        return transfer(models, test.x, test.labels, **common)

    each = {label: once(label, partial(of, c)) for label, c in
            tqdm(configs.items(), desc="soundness")}
    return {"label": "soundness", "images": len(test),
            **{part: measured.by_label(each, part) for part in PARTS},
            "transfer": once("transfer", across, of=list(configs)), "data": {"test": test.checksum}}


# ---- the checks


def by_radius(model, x: Tensor, y: Tensor, *, eps: float, seed: int = 0,
              batch_size: int = 250) -> dict[str, dict]:
    """{radius in 1/255: score} under PGD-20, step radius/4; must fall and end at 0."""
    def under(radius):
        return _robust(model, x, y, batch_size, seed, eps=radius, step_size=radius / 4, steps=20)

    radii = [min(1.0, multiple * eps) for multiple in MULTIPLES]
    return {f"{255 * radius:g}": under(radius) for radius in radii}


def by_scale(model, x: Tensor, y: Tensor, *, eps: float, seed: int = 0,
             batch_size: int = 250) -> dict[str, dict]:
    """{factor: score} under PGD-20 on the cross-entropy of factor times the logits.

    A network that hides its gradients behind large logits, where the softmax saturates, falls when
    they are made smaller.
    """
    def under(factor):
        def loss(logits, labels):
            return attacks.cross_entropy(factor * logits, labels)
        return _robust(model, x, y, batch_size, seed, eps=eps, step_size=eps / 4, steps=20,
                       loss=loss)

    return {f"{factor:g}": under(factor) for factor in FACTORS}


def stronger(model, x: Tensor, y: Tensor, *, eps: float, seed: int = 0, batch_size: int = 250,
             steps: int = STEPS, restarts: int = RESTARTS) -> dict[str, dict]:
    """Scores under more steps and restarts: on the cross-entropy, on the margin, and on the margin
    to every other class in turn, of which an image keeps its worst."""
    setting = {"eps": eps, "step_size": eps / 8, "steps": steps}
    flags = {"cross-entropy": _flags(model, x, y, batch_size, seed, **setting, restarts=restarts),
             "margin": _flags(model, x, y, batch_size, seed, **setting, restarts=restarts,
                              loss="margin")}
    held = evaluate.correct(model, x, y, batch_size=batch_size)
    for rank in range(1, model(x[:1]).shape[1]):
        held &= _flags(model, x, y, batch_size, seed, clean=held, **setting,
                       loss=_towards(rank))
    return {name: score(found) for name, found in {**flags, "targeted": held}.items()}


def _towards(rank: int):
    """The loss (logits, y) -> (N,): how far the `rank`-th class after the true one is above it."""
    def loss(logits, y):
        target = (y + rank) % logits.shape[1]
        return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
    return loss


def transfer(models: dict, x: Tensor, y: Tensor, *, eps: float, seed: int = 0,
             batch_size: int = 250) -> dict[str, dict[str, dict]]:
    """{source: {target: score}}: the target's accuracy on the source's PGD-20 images."""
    found = {}
    for source, model in models.items():
        generator = torch.Generator(x.device).manual_seed(seed)
        x_adv = torch.cat([x[:0], *(
            evaluate.pgd20(model, bx, by, eps=eps, generator=generator)
            for bx, by in zip(x.split(batch_size), y.split(batch_size), strict=True))])
        found[source] = {}
        for target, other in models.items():
            clean, hit = (evaluate.correct(other, images, y, batch_size=batch_size)
                          for images in (x, x_adv))
            found[source][target] = score(clean & hit)
    return found


def _robust(*arguments, **setting) -> dict:
    return score(_flags(*arguments, **setting))


def _flags(model, x, y, batch_size, seed, *, clean=None, **setting) -> Tensor:
    generator = torch.Generator(x.device).manual_seed(seed)

    def attack(model, x, y):
        return attacks.pgd(model, x, y, **setting, generator=generator)

    return evaluate.robust(model, x, y, attack, batch_size=batch_size, clean=clean)
