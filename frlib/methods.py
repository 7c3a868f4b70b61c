"""A method of training is what it attacks and what it minimises; here are all, by name.

`register` adds one. `settings` are those of a training: `frlib.train.Settings`, or a checked
`frlib.run.config.Config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from frlib import attacks, losses
from frlib.registry import Registry

ATTACK = ("step_size", "steps", "attack_mode")  # settings by which part of a method decides them
AVERAGE = ("swa_start", "swa_batchnorm")
FR = ("fr_lambda", "fr_transform", "fr_start_epoch")
AWP = ("awp_gamma", "awp_start_epoch")
OPTIONAL = (*ATTACK, *AVERAGE, *FR, *AWP, "beta")  # all others decide every method
Terms = dict[str, Tensor]  # parts of a loss for the log: {"loss_...": scalar}


@dataclass(frozen=True)
class Method:
    """attack(model, x, y, settings, generator) -> x_adv; None: it trains on the images themselves.
    loss(model, x, x_adv, y, settings, epoch) -> (scalar, terms), every pass of the model its own.

    Images are float32 (N, 3, H, W) in [0, 1], labels int64 (N,). The attack gets a model that is
    called with images alone; the loss gets it in train mode, so that each pass moves BatchNorm's
    running averages. Terms are the same names in every step of an epoch.
    """

    title: str
    attack: Callable[..., Tensor] | None
    loss: Callable[..., tuple[Tensor, Terms]]
    averaged: str = ""  # the name of the result from averaged weights; "": none are averaged
    perturbs_weights: bool = False  # AWP: the loss is taken at weights that were moved uphill
    uses: tuple[str, ...] = OPTIONAL  # of the OPTIONAL settings those that decide its numbers
    passes: int = 2  # that are held in memory at the same time
    exact: int = 0  # first passes of an attack that are float32 where the others are rounded

    @property
    def criterion(self) -> str:
        """The accuracy that chooses a checkpoint: under PGD, on validation images.

        For natural training it is the clean one: its PGD accuracy is highest before it has learnt.
        """
        return "val_pgd" if self.attack else "val_clean"


METHODS: Registry = Registry("method")  # {name: Method}
RESERVED = {"figures", "lens", "soundness"}  # folders of results that are of many networks


def register(name: str, method: Method, *, replace: bool = False) -> None:
    """Make `method` the training `name`, for every setting `method`, label and preset.

    The result from its averaged weights, if any, is called `method.averaged`. Settings of its own
    it holds itself (functools.partial). ValueError for a name that is taken, by either; `replace`
    as in `Registry.add`.
    """
    others = {label for label, (trained, _) in readings().items() if trained != name}
    others |= RESERVED
    if method.averaged in {*others, name}:
        raise ValueError(f"method {name!r}: averaged = {method.averaged!r} is registered already")
    METHODS.add(name, method, replace=replace, taken=others)


def readings() -> dict[str, tuple[str, str]]:
    """{name: the training it is read from, and which of its checkpoints}.

    The best one is chosen on validation images; an average runs until the end, as in the paper, so
    it is the last one.
    """
    found = {}
    for name, method in METHODS.items():
        found[name] = (name, "best")
        if method.averaged:
            found[method.averaged] = (name, "swa-last")
    return found


# ---- what is attacked

def pgd(model, x: Tensor, y: Tensor, settings, generator, loss="ce", start=True) -> Tensor:
    """PGD within the ball of the settings, by default on the cross-entropy and from anywhere in it.

    Nothing here waits for a GPU.
    """
    return attacks.pgd(model, x, y, eps=settings.eps, step_size=settings.step_size,
                       steps=settings.steps, loss=loss, random_start=start,
                       mode=settings.attack_mode, generator=generator, check=False)


def pgd_beside(model, x: Tensor, y: Tensor, settings, generator) -> Tensor:
    """PGD from beside x, as MART starts."""
    return pgd(model, x, y, settings, generator, start="gaussian")


def pgd_on_kl(model, x: Tensor, y: Tensor, settings, generator) -> Tensor:
    """TRADES: the ascent of its KL term, from beside x."""
    model.train(settings.attack_mode == "train")
    with torch.no_grad():
        clean = model(x).clone()  # a compiled network reuses the memory of its output
    return pgd(model, x, y, settings, generator, start="gaussian",
               loss=lambda logits, _: losses.kl(clean, logits))


# ---- what is minimised; the order of the passes is that of the official codes

def cross_entropy(model, x, x_adv, y, settings, epoch) -> tuple[Tensor, Terms]:
    """One pass, of the attacked images."""
    loss = losses.cross_entropy(model(x_adv), y)
    return loss, {"loss_ce": loss}


def with_fr(model, x, x_adv, y, settings, epoch) -> tuple[Tensor, Terms]:
    """The attacked images, then the clean ones: cross-entropy and frequency regularisation."""
    if epoch < settings.fr_start_epoch:
        return cross_entropy(model, x, x_adv, y, settings, epoch)
    adv = model(x_adv)
    ce = losses.cross_entropy(adv, y)
    fr = losses.frequency_regularization(adv, model(x), transform=settings.fr_transform)
    return ce + settings.fr_lambda * fr, {"loss_ce": ce, "loss_fr": fr}


def trades(model, x, x_adv, y, settings, epoch) -> tuple[Tensor, Terms]:
    """The clean images, the attacked ones, and the clean ones again, for BatchNorm alone."""
    clean, adv = model(x), model(x_adv)
    with torch.no_grad():
        model(x)
    loss = losses.trades(clean, adv, y, beta=settings.beta)
    return loss, {"loss_trades": loss}


def trades_for_awp(model, x, x_adv, y, settings, epoch) -> tuple[Tensor, Terms]:
    """The attacked images, the clean ones, and the clean ones again."""
    adv, clean = model(x_adv), model(x)
    with torch.no_grad():
        model(x)
    loss = losses.trades(clean, adv, y, beta=settings.beta)
    return loss, {"loss_trades": loss}


def mart(model, x, x_adv, y, settings, epoch) -> tuple[Tensor, Terms]:
    """The clean images, then the attacked ones."""
    clean, adv = model(x), model(x_adv)
    loss = losses.mart(clean, adv, y, beta=settings.beta)
    return loss, {"loss_mart": loss}


AT = Method("adversarial training", pgd, cross_entropy, averaged="at-swa", passes=1,
            uses=(*ATTACK, *AVERAGE))
# exact: the clean images, and the first step, whose start rounding would hide
TRADES = Method("TRADES", pgd_on_kl, trades, uses=(*ATTACK, "beta"), exact=2)
register("natural", Method("natural training", None, cross_entropy, uses=(), passes=1))
register("at", AT)
register("at-fr", Method("AT with frequency regularisation", pgd, with_fr, averaged="at-fr-swa",
                         uses=(*ATTACK, *AVERAGE, *FR)))
register("at-sar", replace(METHODS["at-fr"], averaged="at-sar-wa"))  # the second paper's names
register("trades", TRADES)
register("mart", Method("MART", pgd_beside, mart, uses=(*ATTACK, "beta")))
register("at-awp", Method("AT with weight perturbation", pgd, cross_entropy, passes=1,
                          perturbs_weights=True, uses=(*ATTACK, *AWP)))
register("trades-awp", replace(TRADES, title="TRADES with weight perturbation",
                               loss=trades_for_awp, perturbs_weights=True,
                               uses=(*ATTACK, *AWP, "beta")))
METHODS.close()
