"""The paper's regulariser and its rivals: TRADES, MART, and AWP's step on the weights.

Logits are (N, classes) matrices of any float type, labels int64 (N,); every loss is a scalar, the
mean over the batch, computed in float32 at least. Nothing is detached: all logits carry gradient,
as in the official codes.
"""

import copy
import math
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frlib.attacks import full

NOTHING = torch.iinfo(torch.int64).min  # no label is this one


def frequency_regularization(logits_adv: Tensor, logits_clean: Tensor, *,
                             transform: str = "class") -> Tensor:
    """Frequency regularisation (FR, later called SAR): the L1 distance of the logits' DFTs.

    transform "class" is equation 2 of arXiv 2212.12732: the 1-D DFT over the classes of each
    example, sum of |real| + |imaginary| over the frequencies, mean over the examples.
    transform "batch-class" is the authors' released code: the unnormalised two-sided 2-D DFT over
    (batch, class), mean of |real| and |imaginary| over all entries.
    transform "none" leaves the DFT out, as a control: L1 logit pairing, sum over the classes, mean
    over the examples.
    The DFT is linear, so F(adv) - F(clean) is computed as F(adv - clean). Raises ValueError for
    shapes that differ, are not 2-D or are empty.
    """
    _check(logits_adv, logits_clean)
    difference = full(logits_adv) - full(logits_clean)
    if transform == "class":
        spectrum = torch.view_as_real(torch.fft.fft(difference, dim=1))
        return spectrum.abs().sum(dim=(1, 2)).mean()
    if transform == "batch-class":
        return torch.view_as_real(torch.fft.fft2(difference)).abs().mean()
    if transform == "none":
        return difference.abs().sum(dim=1).mean()
    raise ValueError(f"transform = {transform!r}: choose 'class', 'batch-class' or 'none'")


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
    double = copy.deepcopy(model)
    moved = {name: p for name, p in double.named_parameters() if p.ndim > 1 and p.requires_grad}
    gradients = torch.autograd.grad(loss_fn(double), list(moved.values()))
    weights = dict(model.named_parameters())
    before = {name: weights[name].detach().clone() for name in moved}
    try:
        with torch.no_grad():
            for name, gradient in zip(moved, gradients, strict=True):
                w = weights[name]
                w.add_(gradient * (gamma * w.norm() / (gradient.norm() + 1e-20)))
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                weights[name].copy_(value)


def _check(logits_adv, logits_clean):
    if logits_adv.ndim != 2 or logits_adv.shape != logits_clean.shape or not logits_adv.numel():
        raise ValueError("logits must be two non-empty (N, classes) matrices of one shape, not "
                         f"{tuple(logits_adv.shape)} and {tuple(logits_clean.shape)}")
