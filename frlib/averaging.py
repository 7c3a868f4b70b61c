"""Stochastic weight averaging (Izmailov et al., 1803.05407) with torch.optim.swa_utils."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn


def averaged(model: nn.Module) -> AveragedModel:
    """An empty equal-weight average of the model's parameters; `update_parameters` feeds it.

    Only parameters are averaged: BatchNorm statistics are estimated anew by `reestimate_batchnorm`.
    """
    return AveragedModel(model)


def reestimate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set BatchNorm means and variances to their average over `batches` of images, in place.

    The paper's released code passes the clean, augmented training images once. The model's mode
    is left as it was.
    """
    with torch.no_grad():
        update_bn(batches, model)
