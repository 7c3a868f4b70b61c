"""Several processes train one model: with one process, every function here does nothing.

`torchrun` starts them, one for each GPU. All draw the same order, crops and attack noise, so all
hold the same whole batch; each passes its own rows of it through the network and gets the logits
of all rows back. The loss is therefore that of the whole batch, on every process, whatever the
number of processes and however the rows divide among them. DistributedDataParallel averages the
gradients.

Why that average is the gradient: the loss, computed on each of P processes, is differentiated as
the sum of P equal losses, so what a process finds for its rows is P times their part of the
gradient; the mean over the processes is the gradient.
"""

import copy
import logging
import os
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

TIMEOUT = timedelta(minutes=30)  # for one that hangs; one that died ends the job at once


@contextmanager
def processes(device: str):
    """Join the processes that torchrun started, "cuda" by NCCL, "cpu" by gloo, for a while.

    All but the first write no log. Raises ValueError for more processes than GPUs.
    """
    if asked() == 1 or size() > 1:
        yield
        return
    if device == "cuda":
        gpu, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if gpu >= gpus:
            raise ValueError(f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}: torch sees "
                             f"{gpus} GPUs, and each process needs its own")
        torch.cuda.set_device(gpu)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    if rank():
        logging.getLogger("frlib").setLevel(logging.WARNING)
    yield
    # not after an error: that would wait for the others, while torchrun waits for this one to end
    dist.destroy_process_group()


def asked() -> int:
    """How many processes torchrun started, by the environment; 1 without it."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. The first one alone writes files."""
    return dist.get_rank() if size() > 1 else 0


def on_first(work):
    """What work() returns or raises on the first process, on all of them; the others wait."""
    if size() == 1:
        return work()
    answer = [None, None]
    if rank() == 0:
        try:
            answer[0] = work()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def shared(model: nn.Module, *, gather: bool = True) -> nn.Module:
    """`model` for whole batches, of which each process passes its rows: see `Shared`."""
    return model if size() == 1 else Shared(model, gather)


def twin(model: nn.Module, *, gather: bool = True) -> nn.Module:
    """`shared`, for passes in train mode: the same parameters and buffers, one BatchNorm for all.

    In train mode BatchNorm takes mean and variance over the rows of all processes.
    """
    if size() == 1:
        return model
    tensors = [*model.parameters(), *model.buffers()]
    network = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm
    return Shared(network, gather)


def parallel(model: nn.Module) -> nn.Module:
    """The `twin` of `model`, in train mode; its backward pass averages the gradients."""
    if size() == 1:
        return model
    network = DistributedDataParallel(twin(model).train())
    network.require_forward_param_sync = False  # buffers are the same on all processes as it is
    return network


def averaging_twin(model: nn.Module) -> nn.Module:
    """The `twin` of a model whose gradients torch.autograd.grad shall give, for AWP's step.

    They come averaged over the processes, as from `parallel` by backward(). The model is changed
    for good, so give it a copy.
    """
    if size() > 1:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: _Sum.apply(gradient) / size())
    return twin(model)


class Shared(nn.Module):
    """Images (N, C, H, W), the same on all processes, to the logits (N, classes) of all of them.

    This process passes the rows from N rank / size on; none, if there are fewer rows than
    processes. Gradients reach only these rows of the images. Without `gather` the other logits are
    0, as is the gradient of their loss: enough to attack the own rows, with nothing sent.
    """

    def __init__(self, model: nn.Module, gather: bool):
        super().__init__()
        self.model, self.gather = model, gather

    def forward(self, x: Tensor) -> Tensor:
        first, end = (len(x) * i // size() for i in (rank(), rank() + 1))
        logits = _padded(self.model(x[first:end]), first, len(x))
        return _Sum.apply(logits) if self.gather else logits


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm over the rows of all processes; torch's SyncBatchNorm does so on GPUs only.

    Each process gives the mean and variance of its rows; by the law of total variance, that of all
    rows is the mean of the variances plus the variance of the means, weighted by their counts.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dtype = x.dtype  # passes may be in bfloat16, statistics never are
        x = x.to(torch.promote_types(dtype, torch.float32))
        axes, count = (0, 2, 3), x.numel() // x.shape[1]
        # without rows: zeros that depend on x, so that this process, too, has a backward pass
        variance, mean = torch.var_mean(x, axes, correction=0) if count else [x.sum(axes)] * 2
        own = torch.stack([torch.full_like(mean, count), mean, variance])
        counts, means, variances = _Sum.apply(_padded(own[None], rank(), size())).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            rate = self.momentum or 1 / self.num_batches_tracked.item()
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * count / (count - 1), rate)
        scale = self.weight / (variance + self.eps).sqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes, on each of them; so is the gradient of their added losses."""

    @staticmethod
    def forward(ctx, own):
        total = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return _Sum.apply(gradient)


def _padded(own: Tensor, first: int, rows: int) -> Tensor:
    """`own` from row `first` on in `rows` rows; the others are 0."""
    return F.pad(own, [0, 0] * (own.ndim - 1) + [first, rows - first - len(own)])
