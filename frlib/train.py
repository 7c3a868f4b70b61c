"""One visible loop for every method: natural, AT, FR and its rivals, with SWA along.

    epochs(begin(model, settings), train_set, curves, settings)   a row for each epoch

What a step attacks and minimises is in `frlib.methods`. Here nothing is written: folders, resuming
and several processes are in `frlib.run.training`, to which `train` is the door.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from frlib import attacks, averaging, data, evaluate, fast, losses, methods
from frlib.schedule import learning_rate, swa_epoch


def train(config, *, redo: bool = False):
    """Train (or finish, or just return) the run of a `frlib.run.config.Config`: its `Run`.

    See `frlib.run.training.train`.
    """
    from frlib.run import training  # a door: what is below works without it

    return training.train(config, redo=redo)


@dataclass(frozen=True)
class Settings:
    """What the loop reads, by default the paper's. A `Config` has all of these, checked."""

    method: str = "at"
    seed: int = 0
    epochs: int = 100
    batch_size: int = 128
    flip: bool = True
    lr: float = 0.1
    schedule: str = "step"
    milestones: tuple = (0.75, 0.9)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    eps: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10
    attack_mode: str = "eval"
    fr_lambda: float = 0.1
    fr_transform: str = "class"
    fr_start_epoch: int = 0
    swa_start: float = 0.75
    swa_batchnorm: str = "reestimate"
    beta: float = 6.0
    awp_gamma: float = 0.01
    awp_start_epoch: int = 0
    curve_steps: int = 10
    judge_batch: int = 250
    fast: bool = True
    precision: str = "auto"


class Alone:
    """One process passes whole batches itself; `frlib.run.distributed` has the same for several.

    `twin` gives what is called in a model's place: here always the model itself. `shared` is for
    passes without gradients, `parallel` for the update, `averaging_twin` for AWP's own step.
    """

    @staticmethod
    def twin(model: nn.Module, *, gather: bool = True) -> nn.Module:
        return model

    shared = parallel = averaging_twin = twin


@dataclass
class Training:
    """What changes from epoch to epoch; `epoch` of them are done."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    epoch: int = 0
    history: list[dict] = field(default_factory=list)


def begin(model: nn.Module, settings, device: str = "cpu") -> Training:
    """A training of `model`, which is on `device`, before its first epoch."""
    generator = torch.Generator(device).manual_seed(settings.seed)
    return Training(model, averaging.averaged(model), _optimizer(model, settings), generator)


def epochs(training: Training, train_set: data.Split, curves: dict, settings,
           processes=Alone) -> Iterator[dict]:
    """Train the epochs that are left; after each its row, which the history has, too.

    A row holds the epoch (from 1), the mean loss terms, the learning rate, and the accuracies that
    `score` gives of the model and, with the prefix "swa_", of the average. curves: {name: (x, y)}.
    """
    t, method = training, methods.METHODS.find(settings.method)
    frozen = fast_copy(t.model, settings, train_set.labels.device.type)
    network = processes.parallel(t.model)
    while t.epoch < settings.epochs:
        row = {"epoch": t.epoch + 1, **train_epoch(
            t.model, t.optimizer, train_set, t.generator, settings, t.epoch, frozen, network,
            processes)}
        row |= score(t.model, curves, settings, processes)
        if method.averaged and t.epoch >= swa_epoch(settings):
            t.average.update_parameters(t.model)
            if settings.swa_batchnorm == "reestimate":
                again = torch.Generator(t.generator.device).manual_seed(settings.seed)
                batches = data.batches(train_set, settings.batch_size, again, flip=settings.flip)
                with evaluate.full_precision():
                    averaging.reestimate_batchnorm(processes.twin(t.average),
                                                   (x for x, _ in batches))
            row |= {f"swa_{key}": value for key, value in
                    score(t.average.module, curves, settings, processes).items()}
        t.history.append(row)
        t.epoch += 1
        yield row


@evaluate.full_precision()
def train_epoch(model: nn.Module, optimizer, train_set: data.Split, generator, settings, epoch: int,
                frozen=None, network=None, processes=Alone) -> dict[str, float]:
    """One pass over the training images. Returns the mean loss terms and the learning rate.

    `frozen` is what `fast_copy` made of the model, `network` what `processes.parallel` made; they
    are made here if not given.
    """
    method = methods.METHODS.find(settings.method)
    device = train_set.labels.device.type
    update = precision(settings, device)["update_precision"]
    frozen = frozen or fast_copy(model, settings, device)
    network = network or processes.parallel(model)
    attacked = processes.shared(frozen, gather=False) if frozen \
        else processes.twin(model, gather=False)
    perturbed = method.perturbs_weights and epoch >= settings.awp_start_epoch
    steps = -(-len(train_set) // settings.batch_size)

    def loss_at(net, batch):
        with fast.autocast(device, update):
            return method.loss(net, *batch, settings, epoch)

    def uphill(batch):
        """Where AWP has moved the weights on this batch, for a while; else nothing happens."""
        if not perturbed:
            return nullcontext()
        return losses.perturb_weights(
            model, lambda net: loss_at(processes.averaging_twin(net), batch)[0],
            gamma=settings.awp_gamma)

    terms, last = [], {}
    for step, (x, y) in enumerate(data.batches(train_set, settings.batch_size, generator,
                                               flip=settings.flip)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch + step / steps)
        if frozen:  # in eval mode the weights stand still for the whole attack: they can be folded
            frozen.refresh(model)
        x_adv = method.attack(attacked, x, y, settings, generator) if method.attack else x
        model.train()
        batch = x, x_adv, y
        with uphill(batch):
            loss, last = loss_at(network, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
        terms.append(torch.stack([value.detach() for value in last.values()]))
        if step % 20 == 19:
            _check_finite(terms, epoch)
    _check_finite(terms, epoch)
    means = torch.stack(terms).mean(dim=0).tolist()
    return {**dict(zip(last, means, strict=True)), "lr": optimizer.param_groups[0]["lr"]}


def score(model: nn.Module, curves: dict[str, tuple[Tensor, Tensor]], settings,
          processes=Alone) -> dict[str, float]:
    """Clean and PGD accuracy on images, {name: (x, y)}, always from the same random start."""
    row = {}
    frozen = processes.shared(fast.freeze(model, fast=settings.fast))
    step_size = min(2.5 * settings.eps / settings.curve_steps, 1.0)

    def logits(x):  # a plain function, which `evaluate` does not freeze once more
        return frozen(x)

    for name, (x, y) in curves.items():
        attack = partial(attacks.pgd, eps=settings.eps, step_size=step_size,
                         steps=settings.curve_steps,
                         generator=torch.Generator(x.device).manual_seed(settings.seed))
        clean = evaluate.correct(logits, x, y, batch_size=settings.judge_batch)
        pgd = evaluate.robust(logits, x, y, attack, batch_size=settings.judge_batch, clean=clean)
        row |= {f"{name}_clean": clean.sum().item() / len(y),
                f"{name}_pgd": pgd.sum().item() / len(y)}
    return row


def precision(settings, device: str) -> dict[str, str]:
    """What the passes of attack and update compute in: {"attack_precision": ..., "update_..."}.

    All else is float32: images, losses, weights, and what BatchNorm keeps. An attack in train mode
    moves BatchNorm, so it stays float32.
    ValueError when bfloat16 is asked for and the device would emulate it.
    """
    asked, there = settings.precision, fast.has_bfloat16(device)
    if asked == "bfloat16" and not there:
        raise ValueError(f"precision = 'bfloat16', but this {device} would emulate it, many times "
                         "slower than float32; choose 'auto' or 'float32'")
    half = asked == "bfloat16" or asked == "auto" and settings.fast and there
    in_eval = half and settings.attack_mode == "eval"
    return {"attack_precision": "bfloat16" if in_eval else "float32",
            "update_precision": "bfloat16" if half else "float32"}


def fast_copy(model: nn.Module, settings, device: str) -> fast.Frozen | None:
    """The frozen copy that the attack runs on, compiled on a GPU; None for the plain loop.

    One copy serves a whole training, `Frozen.refresh` brings it up to date: compiling takes long.
    """
    method = methods.METHODS.find(settings.method)
    attack = precision(settings, device)["attack_precision"]
    plain = not settings.fast and attack == "float32"
    if plain or not method.attack or settings.attack_mode == "train":
        return None
    frozen = fast.freeze(model, fast=settings.fast, precision=attack, exact=method.exact)
    if device == "cuda" and settings.fast:
        frozen.net.compile(mode="reduce-overhead", dynamic=False)
    return frozen


def _optimizer(model: nn.Module, settings) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum,
                           weight_decay=settings.weight_decay)


def _check_finite(terms: list[Tensor], epoch: int) -> None:
    finite = torch.isfinite(torch.stack(terms)).all(dim=1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise FloatingPointError(f"the loss is not finite at epoch {epoch + 1}, step {step + 1}; "
                                 "the last good checkpoint is kept; try a lower lr")
