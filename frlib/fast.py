"""A frozen copy of a network: the same function, but faster; and passes in bfloat16."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from frlib import models

log = logging.getLogger("frlib")
PRECISIONS = ("float32", "bfloat16")


def has_bfloat16(device: str) -> bool:
    """Whether this "cuda" or "cpu" multiplies in bfloat16 itself; emulated it is very slow.

    Of a CPU, the kernel's list of its instructions tells; where there is none, the answer is no.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: str, precision: str):
    """A context whose passes compute in `precision`; ValueError for another than PRECISIONS.

    In bfloat16, convolutions and matrix products take rounded operands, add up in float32 and round
    the result, which the layers after them hand on. Weights and their gradients stay float32, and
    so does what BatchNorm computes and keeps.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: choose 'float32' or 'bfloat16'")
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def freeze(model, *, fast: bool = True, precision: str = "float32", exact: int = 0):
    """A copy of the model for attacks and evaluation: eval mode, no parameter gradients, fast.

    The same function as `model.eval()` up to float rounding: see `Frozen`. What is no nn.Module,
    or is frozen already, comes back as it is.
    """
    if isinstance(model, Frozen) or not isinstance(model, nn.Module):
        return model
    return Frozen(model, fast=fast, precision=precision, exact=exact)


class Frozen(nn.Module):
    """What `freeze` returns: float images (N, 3, H, W) in, float32 logits (N, num_classes) out.

    While weights stand still, BatchNorm in eval mode is an affine map, so it is folded into the
    convolution before it (torch.fx finds the pairs); ReLUs work in place; weights are laid out
    channels-last. Only the models of `frlib.models`, with its own blocks, are folded: in others
    tracing could fix random numbers or branches, and a ReLU need not own its input. `fast=False`
    leaves all that out. precision "bfloat16" is `autocast`: good enough for the sign of a gradient,
    not for a score. `exact` is how many passes run in float32 all the same, counted from the last
    `refresh`.
    """

    def __init__(self, model: nn.Module, *, fast: bool = True, precision: str = "float32",
                 exact: int = 0):
        super().__init__()
        autocast("cpu", precision)  # or an error here
        self.precision, self.exact, self.passes, self.folded = precision, exact, 0, {}
        self.net = copy.deepcopy(model).eval().requires_grad_(False)
        if fast:
            if _folds(model):
                self.net, self.folded = _fold(self.net)
                self.refresh(model)
            self.net = self.net.to(memory_format=torch.channels_last)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        precision = "float32" if self.passes < self.exact else self.precision
        self.passes += 1
        with autocast(x.device.type, precision):
            try:
                logits = self.net(x)
            except torch._dynamo.exc.TorchDynamoException as error:  # of a network to be compiled
                log.warning("torch.compile failed, attacks go on without it: %s", error)
                self.net = copy.deepcopy(self.net)  # a copy is not compiled
                logits = self.net(x)
        return logits.float() if precision == "bfloat16" else logits

    @torch.no_grad()
    def refresh(self, model: nn.Module) -> Frozen:
        """Take over the present weights of the model this was made of, in place; returns itself.

        In place, so that a compiled network keeps its memory from one training step to the next.
        """
        modules = dict(model.named_modules())
        weights = dict(model.named_parameters()) | dict(model.named_buffers())
        for conv, norm in self.folded.items():
            conv_, norm_ = modules[conv], modules[norm]
            weights[f"{conv}.weight"], weights[f"{conv}.bias"] = fuse_conv_bn_weights(
                conv_.weight, conv_.bias, norm_.running_mean, norm_.running_var, norm_.eps,
                norm_.weight, norm_.bias)
        for name, value in [*self.net.named_parameters(), *self.net.named_buffers()]:
            value.copy_(weights[name])
        self.passes = 0
        return self


def _folds(model: nn.Module) -> bool:
    """Whether a network is one of this library's, in all its parts, with no hook on any."""
    ours = (models.__name__, "torch.nn.modules")
    return type(model) in (models.ResNet, models.WideResNet) and all(
        type(part).__module__.startswith(ours) and "forward" not in vars(part)
        and not part._forward_pre_hooks and not part._forward_hooks for part in model.modules())


def _fold(net: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """`net` without the BatchNorms that follow a convolution, and {convolution: its BatchNorm}.

    The convolutions gain a bias; `Frozen.refresh` fills in their folded weights.
    """
    traced, folded = torch.fx.symbolic_trace(net), {}
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        if node.target is F.relu:
            node.kwargs = {"inplace": True}  # autograd would object if its input were needed
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before, = node.args
        conv = modules[before.target] if before.op == "call_module" else None
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            folded[before.target] = node.target
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), requires_grad=False)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, folded
