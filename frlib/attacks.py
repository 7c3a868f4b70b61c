"""L-infinity attacks as plain functions: FGSM, PGD and the margin ("C&W") variant of PGD.

Every attack takes a model (any callable from images to logits), images x (float, NCHW, in [0, 1])
and labels y (int64, N), and returns adversarial images: detached, within eps of x and within
[0, 1]. The model's mode, parameters and gradients are left as they were. eps = 8/255, or the text
"8/255", means eight of 255 grey levels.
"""

from collections.abc import Callable
from contextlib import contextmanager
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor


def fgsm(model, x: Tensor, y: Tensor, *, eps: float | str) -> Tensor:
    """One signed gradient step of length eps from x itself (Goodfellow et al., 1412.6572)."""
    return pgd(model, x, y, eps=eps, step_size=eps, steps=1, random_start=False)


def cw(model, x: Tensor, y: Tensor, *, eps: float | str, step_size: float | str, steps: int = 30,
       generator=None) -> Tensor:
    """PGD on the margin loss of Carlini & Wagner (1608.04644), 30 steps as the released code."""
    return pgd(model, x, y, eps=eps, step_size=step_size, steps=steps, loss="margin",
               generator=generator)


def pgd(model, x: Tensor, y: Tensor, *, eps: float | str, step_size: float | str, steps: int,
        restarts: int = 1, random_start: bool | str = True, loss="ce", mode: str = "eval",
        generator=None, check: bool = True) -> Tensor:
    """Projected gradient ascent on the loss within the eps-ball (Madry et al., 1706.06083).

    random_start is True (uniform in the ball), False (from x) or "gaussian" (x + 0.001 N(0, 1),
    not clipped before the first step, as in the codes of TRADES and MART). loss is "ce", "margin",
    or a function (logits, y) -> (N,). Of several restarts each example keeps its worst: a
    misclassified one before any other, then the highest loss. mode "train" attacks the model with
    batch statistics, whose running averages then move as in any training pass. Raises ValueError
    for images that are not float NCHW in [0, 1], labels that are not int64 (N,) from 0 (one beyond
    the model's classes is torch's own error), and eps, step_size, steps or restarts out of range.
    check=False leaves out the look at the values of x and y, for which the CPU must wait for a GPU.
    """
    eps, step_size = length("eps", eps), length("step_size", step_size)
    _check(x, y, steps, restarts)
    if check:
        _check_values(x, y)
    if random_start not in (True, False, "gaussian"):
        raise ValueError(f"random_start = {random_start!r}: choose True, False or 'gaussian'")
    loss = {"ce": cross_entropy, "margin": margin}.get(loss, loss)
    if not callable(loss):
        raise ValueError(f"loss = {loss!r}: choose 'ce', 'margin' or a function "
                         "(logits, y) -> (N,)")
    best, best_score = x.detach().clone(), None
    if len(x) == 0:
        return best
    with _mode(model, mode):
        for _ in range(restarts):
            x_adv = _ascend(model, x.detach(), y, eps, step_size, steps, random_start, loss,
                            generator)
            if restarts == 1:
                return x_adv
            with torch.no_grad():
                logits = model(x_adv)
                score = loss(logits, y).double().nan_to_num(nan=-torch.inf)
                score[logits.argmax(1) != y] += 1e9  # broken beats unbroken, whatever the loss
            if best_score is None:
                best, best_score = x_adv, score
                continue
            better = score > best_score
            best = torch.where(better[:, None, None, None], x_adv, best)
            best_score = torch.maximum(score, best_score)
    return best


def subspace_pgd(model, x: Tensor, y: Tensor, *, project: Callable[[Tensor], Tensor],
                 eps: float | str, step_size: float | str, steps: int, rounds: int = 8,
                 random_start: bool = True, generator=None) -> Tensor:
    """PGD on the cross-entropy, the perturbation confined to a subspace, as a frequency band.

    `project` is the orthogonal projection onto it, (N, C, H, W) to the same: for a band,
    `lambda change: spectral.band_pass(change, low, high)`. A step follows the sign of the projected
    gradient. After it, and after the start, x_adv - x is clipped to the eps-ball and [0, 1] and
    projected, `rounds` times in turn, which leads towards changes that satisfy both; one round
    alone uses little of the ball. What then peaks above eps is shrunk as a whole, and pixels beyond
    [0, 1] are clipped. So the ball and [0, 1] hold exactly, and only this last clipping leaves the
    subspace: by nothing where x keeps eps away from 0 and 1, elsewhere by what `rounds` left over.
    If `project` changes nothing, this is `pgd`. Raises ValueError as `pgd`, and for no rounds.
    """
    eps, step_size = length("eps", eps), length("step_size", step_size)
    _check(x, y, steps, 1)
    _check_values(x, y)
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: must be at least 1")
    x = x.detach()
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)

    def confined(x_adv):
        change = x_adv - x
        for _ in range(rounds):
            change = project(torch.min(torch.max(x + change, low), high) - x)
        peak = change.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return torch.min(torch.max(x + change * (eps / peak).clamp_max(1), low), high)

    if len(x) == 0:
        return x.clone()
    x_adv = x
    if random_start:
        x_adv = confined(x + torch.empty_like(x).uniform_(-eps, eps, generator=generator))
    with _mode(model, "eval"):
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_()
            with torch.enable_grad():
                total = cross_entropy(model(x_adv), y).sum()
                gradient, = torch.autograd.grad(total, x_adv)
            x_adv = confined(x_adv.detach() + step_size * project(gradient).sign())
    return x_adv.detach()


def _ascend(model, x, y, eps, step_size, steps, random_start, loss, generator):
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv = x
    if random_start == "gaussian":
        noise = torch.empty_like(x).normal_(0, 0.001, generator=generator)
        x_adv = x + noise
    elif random_start:
        noise = torch.empty_like(x).uniform_(-eps, eps, generator=generator)
        x_adv = (x + noise).clamp(0, 1)
    for _ in range(steps):
        x_adv = pgd_step(model, x_adv, y, step_size, low, high, loss)
    return x_adv.detach()


def pgd_step(model, x_adv: Tensor, y: Tensor, step_size: float, low, high, loss) -> Tensor:
    """Up the sign of the gradient of loss(logits, y) -> (N,), then back into [low, high]."""
    x_adv = x_adv.detach().requires_grad_()
    with torch.enable_grad():
        total = loss(model(x_adv), y).sum()
        gradient, = torch.autograd.grad(total, x_adv)
    return torch.min(torch.max(x_adv.detach() + step_size * gradient.sign(), low), high)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy per example, in float32 at least: (N, classes), (N,) -> (N,)."""
    return F.cross_entropy(full(logits), y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Highest other logit minus the true one: above 0 exactly when misclassified.

    (N, classes), (N,) -> (N,), in float32 at least.
    """
    logits = full(logits)
    true = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return other - true


def full(logits: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 where they are given so."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def _mode(model, mode: str):
    """The model in "eval" or "train" mode for a while; every submodule's own mode comes back."""
    if mode not in ("eval", "train"):
        raise ValueError(f"mode = {mode!r}: choose 'eval' or 'train'")
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    before = [module.training for module in modules]
    for module in modules:
        module.training = mode == "train"
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training


def length(name: str, value: float | str) -> float:
    """A radius or step in the units of the images, given as a number or as text: 8 / 255, "8/255".

    ValueError, naming it, for another text and for what is not in [0, 1].
    """
    # Fraction reads "8/255", but would write out all digits of "1e999999999": float reads those
    fraction = isinstance(value, str) and len(value) < 32 and "e" not in value.lower()
    try:
        number = float(Fraction(value)) if fraction else float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        raise ValueError(f"{name} = {value!r}: must be a number or a fraction 'a/b'") from None
    if not 0 <= number <= 1:
        raise ValueError(f"{name} = {value}: must be in [0, 1], the units of the images; "
                         f"for {number:g} grey levels of 255 give {number:g}/255")
    return number


def _check(x, y, steps, restarts):
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"images must be float NCHW in [0, 1], not {x.dtype} of shape "
                         f"{tuple(x.shape)}; divide uint8 images by 255")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(f"labels must be int64 of shape ({len(x)},), not {y.dtype} of shape "
                         f"{tuple(y.shape)}")
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps = {steps}, restarts = {restarts}: both must be at least 1")


def _check_values(x, y):
    if len(x) and not ((x >= 0) & (x <= 1)).all():  # also false for NaN
        raise ValueError("images must lie in [0, 1], without NaN; "
                         f"found values from {x.min():g} to {x.max():g}")
    if len(y) and y.min() < 0:
        raise ValueError(f"labels must be class indices from 0, found {y.min()}")
