"""Is a robust accuracy real? The checks of Athalye et al. (1802.00420) and Carlini et al.
(1902.06705), as numbers: larger radii, rescaled losses, stronger and transferred attacks.

A network whose gradients are sound falls to 0 as the radius grows, is hurt as much when its logits
are rescaled, loses little to restarts, and is never hurt more by another network's adversarial
images than by its own. Each function takes frozen models, images x (N, 3, H, W) in [0, 1] and
labels y, and returns per-example flags, as `files.score` stores them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from frlib import attacks, evaluate
from frlib.run.files import score

MULTIPLES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the radius: 0 to 64/255 for 8/255
FACTORS = (0.1, 1.0, 10.0)  # of the logits
STEPS, RESTARTS = 50, 5  # of the stronger attacks


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


def stronger(model, x: Tensor, y: Tensor, *, eps: float, seed: int = 0,
             batch_size: int = 250) -> dict[str, dict]:
    """Scores under more steps and restarts: on the cross-entropy, on the margin, and on the margin
    to every other class in turn, of which an image keeps its worst."""
    setting = {"eps": eps, "step_size": eps / 8, "steps": STEPS}
    flags = {"cross-entropy": _flags(model, x, y, batch_size, seed, **setting, restarts=RESTARTS),
             "margin": _flags(model, x, y, batch_size, seed, **setting, restarts=RESTARTS,
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
            attacks.pgd(model, bx, by, eps=eps, step_size=eps / 4, steps=20, generator=generator)
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
