"""Accuracy, robust accuracy, and accuracy by frequency; the attacks that judge; AutoAttack."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from frlib import attacks, spectral
from frlib.fast import freeze
from frlib.registry import Registry

FEWEST_CLASSES = 4  # its targeted loss compares four logits
STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")
FORWARD, BACKWARD = 7860, 1910  # passes that a robust example of ten classes costs in all of them


@contextmanager
def full_precision():
    """No TF32 on a GPU for a while: float32 convolutions and matrix products are what they say.

    Also a decorator, as of every function here that scores.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = [(place, place.fp32_precision) for place in (matmul, cudnn.conv, cudnn.rnn)]
    older = []
    for place in (matmul, cudnn):
        with suppress(RuntimeError):  # torch does not read by the older name what the newer has set
            older.append((place, place.allow_tf32))
    for place in (matmul, cudnn):
        place.allow_tf32 = False
    for place, _ in newer:
        place.fp32_precision = "ieee"  # by the older name alone it may be inherited
    try:
        yield
    finally:
        for place, allowed in older:
            place.allow_tf32 = allowed
        for place, precision in newer:
            place.fp32_precision = precision


@torch.no_grad()
@full_precision()
def correct(model, x: Tensor, y: Tensor, *, batch_size: int = 250) -> Tensor:
    """Whether each example is classified correctly: bool (N,), on the CPU.

    Runs a frozen copy, so in eval mode, and leaves the model alone.
    """
    model = freeze(model)
    flags = [model(bx).argmax(1) == by
             for bx, by in zip(x.split(batch_size), y.split(batch_size), strict=True)]
    return torch.cat(flags).cpu()


@torch.no_grad()
def accuracy(model, x: Tensor, y: Tensor, *, batch_size: int = 250) -> float:
    """Correct over total, in [0, 1]. Raises what `number_of_classes` raises."""
    number_of_classes(model, x, y)
    return correct(model, x, y, batch_size=batch_size).sum().item() / len(y)


@torch.no_grad()
def number_of_classes(model, x: Tensor, y: Tensor) -> int:
    """How many classes a model tells apart that is to be scored on these examples.

    Raises ValueError for no examples, for labels that are not int64 (N,) indices of these classes,
    and for images with NaN or infinite pixels: the argmax of their NaN logits would be class 0.
    """
    if len(y) == 0:
        raise ValueError("accuracy of no examples is not defined")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"labels must be int64 of shape ({len(x)},), not {y.dtype} of shape "
                         f"{tuple(y.shape)}")
    if not x.isfinite().all():
        raise ValueError("images must hold finite numbers, found NaN or infinite pixels")
    classes = freeze(model)(x[:1]).shape[1]
    if not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"labels must be class indices from 0 to {classes - 1}, found {y.min()} "
                         f"to {y.max()}")
    return classes


@full_precision()
def robust(model, x: Tensor, y: Tensor, attack: Callable, *, batch_size: int = 250,
           clean: Tensor | None = None, progress: str = "") -> Tensor:
    """Whether each example is correct both clean and under `attack(model, x, y)`: bool (N,), CPU.

    Robust accuracy counts an example only if no point tried in its ball is misclassified, and x
    is one of them; so examples that are wrong already are not attacked. `clean` are the flags of
    `correct`, if they are known.
    """
    model = freeze(model)
    flags = correct(model, x, y, batch_size=batch_size) if clean is None else clean.clone()
    alive = flags.nonzero()[:, 0]
    for chosen in tqdm(_chunks(alive, batch_size), desc=progress,
                       disable=None if progress else True):
        here = chosen.to(x.device)
        x_adv = attack(model, x[here], y[here])
        flags[chosen] = correct(model, x_adv, y[here], batch_size=batch_size)
    return flags


# ---- the attacks that judge, beside AutoAttack

ATTACKS = Registry("attack")  # {name: attack(model, x, y, *, eps, generator) -> x_adv}
TITLES: dict[str, str] = {}  # what their columns are called


def register_attack(name: str, attack: Callable[..., Tensor], title: str = "", *,
                    replace: bool = False) -> None:
    """Judge every model by this attack, too, from now on; what is judged already stays as it is.

    attack(model, x, y, *, eps, generator) -> x_adv, as those of `frlib.attacks`: within eps of x
    and [0, 1]. title: the head of its column. ValueError for a name that is taken; `replace` as in
    `Registry.add`.
    """
    ATTACKS.add(name, attack, replace=replace, taken=("clean", "aa"))
    TITLES[name] = title or name


def fgsm(model, x: Tensor, y: Tensor, *, eps: float, generator=None) -> Tensor:
    """FGSM; it draws nothing, but takes a generator as the others do."""
    return attacks.fgsm(model, x, y, eps=eps)


def pgd20(model, x: Tensor, y: Tensor, *, eps: float, generator=None) -> Tensor:
    """PGD-20, step eps/4."""
    return attacks.pgd(model, x, y, eps=eps, step_size=eps / 4, steps=20, generator=generator)


def cw(model, x: Tensor, y: Tensor, *, eps: float, generator=None) -> Tensor:
    """PGD-30 on the margin, step eps/4."""
    return attacks.cw(model, x, y, eps=eps, step_size=eps / 4, steps=30, generator=generator)


register_attack("fgsm", fgsm, "FGSM")
register_attack("pgd20", pgd20, "PGD-20")
register_attack("cw", cw, "C&W")
ATTACKS.close()


def under_attack(model, x: Tensor, y: Tensor, attack: Callable[..., Tensor], *, eps: float,
                 seed: int = 0, batch_size: int = 250, clean: Tensor | None = None,
                 progress: str = "") -> Tensor:
    """`robust` under one of ATTACKS, whose random numbers start from the seed.

    ValueError for an attack whose images leave the eps-ball or [0, 1]: such flags say nothing.
    """
    generator = torch.Generator(x.device).manual_seed(seed)

    def checked(model, x, y):
        x_adv = attack(model, x.clone(), y, eps=eps, generator=generator)  # it may write into x
        near = ((x_adv - x).abs() <= eps + 1e-6) & (x_adv >= 0) & (x_adv <= 1)  # not so for NaN
        if not near.all():
            raise ValueError(f"attack {getattr(attack, '__name__', attack)!r}: its images must be "
                             f"within eps = {eps:g} of x, and in [0, 1]")
        return x_adv

    return robust(model, x, y, checked, batch_size=batch_size, clean=clean, progress=progress)


def judge(model: nn.Module, x: Tensor, y: Tensor, *, eps: float | str = "8/255", name: str = "mine",
          seed: int = 0, batch_size: int = 250, autoattack_images: int | None = None) -> dict:
    """One row of a table for a model that is there, without a run: as a result file has it.

    {"label", "seed", "scores": {"clean" and every attack: {"correct", "total", "flags"}}}.
    autoattack_images: on how many of the first images AutoAttack runs, which takes by far the
    longest; 0: all, None: not at all. Raises what `number_of_classes` and `autoattack` raise,
    before any attack.
    """
    from frlib.run.files import score  # a door: flags are packed as in a result file

    eps = attacks.length("eps", eps)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{type(model).__name__} given: judge takes an nn.Module; a run is judged "
                         "by frlib.run.evaluate_run.judge(config)")
    classes = number_of_classes(model, x, y)
    if autoattack_images is not None:
        check_autoattack(eps, classes)
        if not 0 <= autoattack_images <= len(y):
            raise ValueError(f"autoattack_images = {autoattack_images}: must be from 0 to the "
                             f"{len(y)} images that are there, or None")
    frozen = freeze(model)
    clean = correct(frozen, x, y, batch_size=batch_size)
    flags = {"clean": clean}
    for key, attack in ATTACKS.items():
        flags[key] = under_attack(frozen, x, y, attack, eps=eps, seed=seed, batch_size=batch_size,
                                  clean=clean)
    if autoattack_images is not None:
        few = slice(autoattack_images or len(y))
        flags["aa"] = autoattack(frozen, x[few], y[few], eps=eps, batch_size=batch_size,
                                 seed=seed).robust
    return {"label": name, "seed": seed, "scores": {key: score(f) for key, f in flags.items()}}


# ---- by frequency

def fourier_sensitivity(model, x: Tensor, y: Tensor, *, norm: float, stride: int = 1,
                        batch_size: int = 250, generator=None) -> Tensor:
    """Accuracy under a wave of every frequency: (h, w), in [0, 1], the zero one at (h//2, w//2).

    To every channel of every image the wave (`spectral.wave`) is added at an L2 norm of `norm`, in
    the units of the images, with a random sign of its own. Pixels are not clipped to [0, 1], so
    that the norm is the same everywhere. Twin frequencies are the same wave: it is run once and
    entered twice. stride: only frequencies that are multiples of it, (h, w) of them instead of
    (H, W). Raises ValueError for no examples, a negative norm and a stride below 1.
    Source: the error maps of Yin et al. (1906.08988), where norm is 4 on 32 x 32 images.
    """
    if not norm >= 0:
        raise ValueError(f"norm = {norm}: must be at least 0, in the units of the images")
    if len(y) == 0:
        raise ValueError("accuracy of no examples is not defined")
    model, (height, width) = freeze(model), x.shape[-2:]
    rows, columns = (spectral.frequencies(n, stride) for n in (height, width))

    def once(i, j):  # the same of a frequency and its twin
        return min((i % height, j % width), (-i % height, -j % width))

    found = dict.fromkeys(once(i, j) for i in rows for j in columns)
    for i, j in found:
        sign = 2 * torch.randint(2, (*x.shape[:2], 1, 1), generator=generator, device=x.device) - 1
        waves = norm * sign * spectral.wave(height, width, i, j).to(x.device)
        right = correct(model, x + waves, y, batch_size=batch_size)
        found[i, j] = right.sum().item() / len(y)
    return torch.tensor([[found[once(i, j)] for j in columns] for i in rows])


# ---- AutoAttack

@dataclass(frozen=True)
class AutoAttackResult:
    """robust: bool (N,); x_adv: images that break the others; stages: survivors after each."""

    robust: Tensor
    x_adv: Tensor
    stages: dict[str, int]
    warnings: list[str]


def check_autoattack(eps: float, classes: int) -> None:
    """ValueError for a radius of 0, and for fewer classes than AutoAttack's targeted loss takes."""
    if not eps:
        raise ValueError(f"eps = {eps:g}: must be in (0, 1], the units of the images (8/255)")
    if classes < FEWEST_CLASSES:
        raise ValueError(f"{classes} classes: AutoAttack needs at least {FEWEST_CLASSES}")


@full_precision()
def autoattack(model, x: Tensor, y: Tensor, *, eps: float | str, batch_size: int, seed: int,
               state_dir: str | Path | None = None) -> AutoAttackResult:
    """The standard AutoAttack, L-infinity (Croce & Hein, 2003.01690), by the official package.

    Its four attacks run in the standard order, each on the survivors of those before. Given a
    `state_dir`, the state is stored there after every batch: an evaluation that was killed goes on
    with the next batch and ends with the same flags, since every batch starts from the same seed.
    Raises ValueError for inputs out of range, what `number_of_classes` raises, and ValueError when
    state_dir holds another evaluation: of other images, settings or weights, of which alone
    networks are told apart. So a function that is no nn.Module is refused with a state_dir.
    """
    from pyautoattack import AutoAttack, checks

    eps = attacks.length("eps", eps)
    if x.dtype != torch.float32 or x.ndim != 4 or not ((x >= 0) & (x <= 1)).all():
        raise ValueError("images must be float32 NCHW in [0, 1], without NaN")
    if state_dir and not isinstance(model, nn.Module):
        raise ValueError("state_dir: what is stored there is told apart by its weights, and "
                         f"{type(model).__name__} has none; give an nn.Module, or no state_dir")
    frozen, classes = freeze(model), number_of_classes(model, x, y)
    check_autoattack(eps, classes)
    identity = _identity(model, x, y, eps, batch_size, seed)
    store = Path(state_dir) / "autoattack.pt" if state_dir else None
    state = _read_state(store, identity)
    if state is None:
        right = correct(frozen, x, y, batch_size=batch_size)
        state = {"identity": identity, "stage": 0, "batch": 0, "warnings": [],
                 "stages": {"clean": int(right.sum())}, "robust": right,
                 "alive": right.nonzero()[:, 0], "x_adv": x.cpu().clone()}

    devices = [x.device] if x.is_cuda else []
    with _collected_warnings(state["warnings"]), torch.random.fork_rng(devices):
        adversary = AutoAttack(frozen, eps=eps, norm="Linf", seed=seed, device=x.device)
        for part in (adversary.apgd_targeted, adversary.fab):
            part.n_target_classes = min(9, classes - 1)
        total = len(STAGES) - state["stage"]
        for stage in tqdm(STAGES[state["stage"]:], desc="AutoAttack", total=total, disable=None):
            adversary.attacks_to_run = [stage]
            work = _chunks(state["alive"], batch_size)
            for chosen in tqdm(work[state["batch"]:], desc=stage, leave=False, disable=None):
                here = chosen.to(x.device)
                x_adv, _ = adversary.run_standard_evaluation(x[here], y[here],
                                                             batch_size=len(chosen))
                held = correct(frozen, x_adv, y[here], batch_size=batch_size)
                state["robust"][chosen] = held
                state["x_adv"][chosen[~held]] = x_adv.cpu()[~held]
                state["batch"] += 1
                _write_state(store, state)
            state["stages"][stage] = int(state["robust"].sum())
            state |= {"stage": state["stage"] + 1, "batch": 0,
                      "alive": state["robust"].nonzero()[:, 0]}
            _write_state(store, state)
        shares = {name: count / len(x) for name, count in state["stages"].items()}
        checks.check_square_sr(shares, logger=logging.getLogger("auto-attack"))
    x_adv = torch.where(state["robust"][:, None, None, None], x.cpu(), state["x_adv"])
    return AutoAttackResult(state["robust"], x_adv, state["stages"], state["warnings"])


def _chunks(indices: Tensor, size: int) -> list[Tensor]:
    """Runs of at most `size` indices; none of nothing, where Tensor.split gives an empty one."""
    return list(indices.split(size)) if len(indices) else []


@contextmanager
def _collected_warnings(messages: list[str]):
    """Warnings of the package's logger, each once, appended to `messages`."""
    class Collector(logging.Handler):
        def emit(self, record):
            if (message := record.getMessage()) not in messages:
                messages.append(message)

    logger, handler = logging.getLogger("auto-attack"), Collector(level=logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _identity(model, x, y, eps, batch_size, seed) -> str:
    """A hash of everything that decides the flags."""
    digest = hashlib.sha256(repr((eps, batch_size, seed)).encode())
    weights = model.state_dict().values() if isinstance(model, nn.Module) else ()
    for tensor in (x, y, *weights):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read_state(store: Path | None, identity: str) -> dict | None:
    if store is None or not store.is_file():
        return None
    from frlib.run.files import read_tensors  # a door, as below: of state_dir alone

    state = read_tensors(store)
    if state["identity"] != identity:
        raise ValueError(f"{store}: belongs to another model, data or setting; "
                         "give another state_dir or delete it")
    return state


def _write_state(store: Path | None, state: dict) -> None:
    if store is not None:
        from frlib.run.files import atomic

        with atomic(store) as temporary:
            torch.save(state, temporary)
