"""Classifiers for small images, parameter names as in published checkpoints (RobustBench format).

Every model takes float images (N, 3, H, W) in [0, 1] and returns logits (N, num_classes); given
`mean` and `std` it normalises inside itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frlib.checkpoints import NORMALISATION, read_weights
from frlib.registry import Registry


class Classifier(nn.Module):
    """Holds the optional normalisation; subclasses give `logits`."""

    def __init__(self, mean, std):
        super().__init__()
        self.normalise = mean is not None
        if (mean is None) != (std is None):
            raise ValueError("give both mean and std, or neither")
        if self.normalise:
            for name, values in (("mean", mean), ("std", std)):
                if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
                    raise ValueError(f"{name} = {values}: must be three finite numbers, or one")
            if min(std) <= 0:
                raise ValueError(f"std = {std}: must be above 0, since images are divided by it")
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.normalise:
            x = (x - self.mean) / self.std
        return self.logits(x)


class BasicBlock(nn.Module):
    """conv-bn-relu twice and a shortcut (He et al., 1512.03385)."""

    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False),
                                          nn.BatchNorm2d(width))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PreActBlock(nn.Module):
    """bn-relu-conv twice and a shortcut after the first activation (He et al., 1603.05027)."""

    def __init__(self, width_in, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False))

    def forward(self, x):
        active = F.relu(self.bn1(x))
        shortcut = self.shortcut(active) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class ResNet(Classifier):
    """ResNets for 32 x 32 images and up: a 3 x 3 stem, then stages that halve the image.

    resnet18 has widths 64 to 512 and blocks (2, 2, 2, 2), resnet18-32 half of the widths and
    resnet18-16 a quarter;
    resnet8-16 has widths 16 to 64 and one block in each of three stages.
    """

    def __init__(self, block, blocks, width, num_classes, mean, std):
        super().__init__(mean, std)
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        pre_activation = block is PreActBlock
        if not pre_activation:
            self.bn1 = nn.BatchNorm2d(width)
        self.stages, width_in = len(blocks), width
        for i, count in enumerate(blocks):
            stage = []
            for j in range(count):
                stage.append(block(width_in, width << i, 2 if i and j == 0 else 1))
                width_in = width << i
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        if pre_activation:
            self.bn = nn.BatchNorm2d(width_in)
        self.linear = nn.Linear(width_in, num_classes)

    def logits(self, x):
        x = self.conv1(x)
        if hasattr(self, "bn1"):
            x = F.relu(self.bn1(x))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        if hasattr(self, "bn"):
            x = F.relu(self.bn(x))
        return self.linear(x.mean(dim=(2, 3)))


class WideBlock(nn.Module):
    """The block of a wide ResNet (Zagoruyko & Komodakis, 1605.07146)."""

    def __init__(self, width_in, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.same = width_in == width
        if not self.same:
            self.convShortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.same else self.convShortcut(active))


class WideStage(nn.Module):
    """`count` wide blocks, the first with `stride`; its name `layer` is part of checkpoints."""

    def __init__(self, count, width_in, width, stride):
        super().__init__()
        self.layer = nn.Sequential(*[WideBlock(width if i else width_in, width, 1 if i else stride)
                                     for i in range(count)])

    def forward(self, x):
        return self.layer(x)


class WideResNet(Classifier):
    """Wide ResNet of depth 6n + 4 and a widening factor (WRN-34-10, WRN-28-10).

    Its weights start as in the codes of TRADES, Rice et al. and RobustBench: convolutions from
    N(0, 2 / (k * k * out_channels)), which torch's default is much narrower than, and a last bias
    of zero. The other networks here start as their own peers do, which is torch's default.
    """

    def __init__(self, depth, factor, num_classes, mean, std):
        super().__init__(mean, std)
        count, widths = (depth - 4) // 6, [16, 16 * factor, 32 * factor, 64 * factor]
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.block1 = WideStage(count, widths[0], widths[1], 1)
        self.block2 = WideStage(count, widths[1], widths[2], 2)
        self.block3 = WideStage(count, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def logits(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


ARCHITECTURES = Registry("model")  # {name: build(num_classes, mean, std) -> nn.Module}


def register(name: str, build: Callable[..., nn.Module], *, replace: bool = False) -> None:
    """Make build(num_classes, mean, std) the network `name`, for `create` and the setting `model`.

    mean and std are lists of three numbers, or None: a subclass of `Classifier` hands them on. What
    it returns takes float images (N, 3, H, W) in [0, 1] and gives logits (N, num_classes).
    ValueError for a name that is taken; `replace` as in `Registry.add`.
    """
    ARCHITECTURES.add(name, build, replace=replace)


register("resnet18", partial(ResNet, BasicBlock, (2, 2, 2, 2), 64))
register("preactresnet18", partial(ResNet, PreActBlock, (2, 2, 2, 2), 64))
register("wrn-34-10", partial(WideResNet, 34, 10))
register("wrn-28-10", partial(WideResNet, 28, 10))
register("resnet18-16", partial(ResNet, BasicBlock, (2, 2, 2, 2), 16))
register("resnet18-32", partial(ResNet, BasicBlock, (2, 2, 2, 2), 32))
register("resnet8-16", partial(ResNet, BasicBlock, (1, 1, 1), 16))
register("resnet8-32", partial(ResNet, BasicBlock, (1, 1, 1), 32))
ARCHITECTURES.close()


def create(name: str, *, num_classes: int = 10, mean=None, std=None) -> nn.Module:
    """A new model with random weights (torch's global generator). ValueError: unknown name."""
    return ARCHITECTURES.find(name)(num_classes, mean, std)


def first_kernels(model: nn.Module) -> Tensor | None:
    """Weights (out, in, kh, kw) of the first convolution wider than a pixel; None without one."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight[0, 0].numel() > 1:
            return module.weight.detach()
    return None


def load_checkpoint(model: nn.Module, path: str | Path) -> nn.Module:
    """Read weights into `model` and return it: RobustBench-format files and our own.

    The file's mean and std, if any, are left out: `model` keeps its own. Raises what `read_weights`
    raises, and ValueError for weights of another architecture (naming the first misfits).
    """
    state = {key: value for key, value in read_weights(path).items() if key not in NORMALISATION}
    expected = {k: v for k, v in model.state_dict().items() if k not in NORMALISATION}
    misfits = [f"missing {k}" for k in expected.keys() - state.keys()
               if not k.endswith("num_batches_tracked")]
    misfits += [f"unexpected {k}" for k in state.keys() - expected.keys()]
    misfits += [f"{k} is {tuple(state[k].shape)}, the model needs {tuple(v.shape)}"
                for k, v in expected.items() if k in state and state[k].shape != v.shape]
    if misfits:
        raise ValueError(f"{path}: weights of another architecture than the model's: "
                         f"{'; '.join(sorted(misfits)[:4])} ({len(misfits)} misfits)")
    model.load_state_dict(state, strict=False)
    return model


