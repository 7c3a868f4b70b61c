"""The paper's regulariser and its rivals: TRADES, MART, and AWP's step on the weights.

Logits are (N, classes) matrices of any float type, labels int64 (N,); every loss is a scalar, the
mean over the batch, computed in float32 at least. Nothing is detached: all logits carry gradient,
as in the official codes.
"""

import copy
import functools
import math
from collections.abc import Callable
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frlib.attacks import full
from frlib.registry import Registry

NOTHING = torch.iinfo(torch.int64).min  # no label is this one


def frequency_regularization(logits_adv: Tensor, logits_clean: Tensor, *,
                             transform: str = "class") -> Tensor:
    """Frequency regularisation (FR, later called SAR): a distance of the logits' DFTs.

    `transform` names a function of TRANSFORMS. "class" is equation 2 of arXiv 2212.12732,
    "batch-class" the authors' released code, the others are controls. All are linear up to the
    norm, so F(adv) - F(clean) is computed as F(adv - clean). Raises ValueError for an unknown
    transform and for shapes that differ, are not 2-D or are empty.
    """
    _check(logits_adv, logits_clean)
    return TRANSFORMS.find(transform)(full(logits_adv) - full(logits_clean))


# Each takes the difference (N, classes) of attacked and clean logits and returns a scalar.


def dft_of_classes(difference: Tensor) -> Tensor:
    """1-D DFT over the classes; sum of |real| + |imaginary|, mean over the examples."""
    return torch.view_as_real(torch.fft.fft(difference, dim=1)).abs().sum(dim=(1, 2)).mean()


def dft_of_batch_and_classes(difference: Tensor) -> Tensor:
    """Unnormalised two-sided 2-D DFT over (batch, class); mean of |real| and |imaginary|."""
    return torch.view_as_real(torch.fft.fft2(difference)).abs().mean()


def logit_pairing(difference: Tensor) -> Tensor:
    """No transform: the L1 norm of the difference, mean over the examples."""
    return difference.abs().sum(dim=1).mean()


def dft_of_shuffled_classes(difference: Tensor) -> Tensor:
    """`dft_of_classes` with the classes in another order, drawn once: that of CIFAR-10 is by
    alphabet, so a spectrum over it should mean no more than over any other."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(difference.shape[1], generator=generator)
    return dft_of_classes(difference[:, order.to(difference.device)])


def random_rotation(difference: Tensor) -> Tensor:
    """A fixed random orthogonal matrix in place of the DFT; L1 norm, mean over the examples."""
    return logit_pairing(difference @ random_rotation_matrix(difference.shape[1]).to(difference))


@functools.cache
def random_rotation_matrix(size: int) -> Tensor:
    """An orthogonal (size, size) matrix, float64, drawn once, uniformly (Mezzadri 2007)."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, triangle = torch.linalg.qr(gaussian)
    return matrix * triangle.diagonal().sign()


def euclidean(difference: Tensor) -> Tensor:
    """The L2 norm of the class DFT, by Parseval sqrt(classes) times that of the difference; mean
    over the examples. Here the transform changes nothing but the scale."""
    norms = torch.linalg.vector_norm(difference, dim=1)
    return norms.mean() * difference.shape[1] ** 0.5


TRANSFORMS = Registry("transform")  # {name: (N, classes) difference -> scalar}


def register_transform(name: str, distance: Callable[[Tensor], Tensor], *,
                       replace: bool = False) -> None:
    """Make `distance` the transform `name`, also for the setting `fr_transform`.

    ValueError for a name that is taken; `replace` as in `Registry.add`.
    """
    TRANSFORMS.add(name, distance, replace=replace)


register_transform("class", dft_of_classes)
register_transform("batch-class", dft_of_batch_and_classes)
register_transform("none", logit_pairing)
register_transform("permuted", dft_of_shuffled_classes)
register_transform("orthogonal", random_rotation)
register_transform("l2", euclidean)
TRANSFORMS.close()


def kl(logits_clean: Tensor, logits_adv: Tensor, *, floor: float = 0.0) -> Tensor:
    """KL(p(clean) || p(adv) + floor) per example: (N,). Finite, with its gradients, for any logits.

    Probabilities enter as their logarithms: one that underflows to 0 would make the gradient of
    p log p NaN.
    """
    target, log_adv = full(logits_clean).log_softmax(1), full(logits_adv).log_softmax(1)
    if floor:
        log_adv = torch.logaddexp(log_adv, log_adv.new_full((), math.log(floor)))
    return F.kl_div(log_adv, target, reduction="none", log_target=True).sum(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy. Every label must be a class: torch's own would skip those of -100."""
    return F.cross_entropy(full(logits), y, ignore_index=NOTHING)


def trades(logits_clean: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float = 6.0) -> Tensor:
    """TRADES (Zhang et al., 1901.08573): CE(clean) + beta * mean KL(p(clean) || p(adv))."""
    _check(logits_adv, logits_clean)
    return cross_entropy(logits_clean, y) + beta * kl(logits_clean, logits_adv).mean()


def mart(logits_clean: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float = 6.0) -> Tensor:
    """MART (Wang et al., ICLR 2020): BCE(adv) + beta * mean KL(p || p') (1 - p[y]).

    p and p' are the probabilities for clean and attacked images. BCE adds to the cross-entropy the
    term -log(1.0001 - p'[y'] + 1e-12), where y' is the most likely wrong class; the divergence is
    from p' + 1e-12, its weight 1.0000001 - p[y], all as in the official code.
    """
    _check(logits_adv, logits_clean)
    clean, adv = full(logits_clean), full(logits_adv)
    wrong = adv.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
    p_wrong = adv.softmax(1).gather(1, wrong[:, None])[:, 0]
    boosted = cross_entropy(adv, y) - (1.0001 - p_wrong + 1e-12).log().mean()
    p_true = clean.softmax(1).gather(1, y[:, None])[:, 0]
    return boosted + beta * (kl(clean, adv, floor=1e-12) * (1.0000001 - p_true)).mean()


def awp_steps(model: nn.Module, loss_fn, gamma: float) -> dict[str, Tensor]:
    """{parameter: the step of length gamma * ||w|| along the gradient of loss_fn(model)}."""
    double = copy.deepcopy(model)
    moved = {name: p for name, p in double.named_parameters() if p.ndim > 1 and p.requires_grad}
    gradients = torch.autograd.grad(loss_fn(double), list(moved.values()))
    return {name: gradient * (gamma * w.detach().norm() / (gradient.norm() + 1e-20))
            for (name, w), gradient in zip(moved.items(), gradients, strict=True)}


@contextmanager
def perturb_weights(model: nn.Module, loss_fn, *, gamma: float):
    """Adversarial weight perturbation (AWP; Wu et al., 2004.05884): worse weights for a while.

    loss_fn(model) -> scalar is ascended by one step on a copy of the model, so BatchNorm's running
    averages do not move. Layer by layer the step is gamma * ||w|| along the gradient; parameters
    with one dimension (biases, BatchNorm) stand still. On leaving, also by an error, the weights
    are bitwise those from before; gradients that were computed inside stay. So an optimiser step
    after it decays the true weights, the official one inside it the perturbed ones: a difference
    of gamma in the decay.
    """
    steps = awp_steps(model, loss_fn, gamma)
    weights = dict(model.named_parameters())
    before = {name: weights[name].detach().clone() for name in steps}
    try:
        with torch.no_grad():
            for name, step in steps.items():
                weights[name].add_(step)
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                weights[name].copy_(value)


def _check(logits_adv, logits_clean):
    if logits_adv.ndim != 2 or logits_adv.shape != logits_clean.shape or not logits_adv.numel():
        raise ValueError("logits must be two non-empty (N, classes) matrices of one shape, not "
                         f"{tuple(logits_adv.shape)} and {tuple(logits_clean.shape)}")
