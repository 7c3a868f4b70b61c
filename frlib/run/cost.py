"""What a run costs: memory, checked before it starts, and time; how it uses threads and memory."""

from __future__ import annotations

import copy
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")
# weights, gradients, momentum, the average, the frozen copy and a copy being saved
WEIGHTS = 6
# gradients of activations, and a convolution's workspace, beside the activations themselves
OVERHEAD = 1.5
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def settle(threads: int | None, *, fast: bool = True) -> None:
    """Set up this process for long work on the CPU: torch's threads and what becomes of memory.

    Tensors of some megabytes are freed and asked for again in every layer. By default the C
    library hands them back to the kernel, which fills each page with zeros before it lends it
    again; with `fast`, freed memory stays with the process. Only glibc has these two knobs
    (mallopt(3)); elsewhere nothing is done. Results do not depend on it. On a GPU, the peak that
    `peak_bytes` tells starts anew.
    """
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    if threads:
        torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if fast and mallopt:
        mallopt(M_TRIM_THRESHOLD, -1)  # never give back the top of the heap
        mallopt(M_MMAP_MAX, 0)  # and take large tensors from there, too


def activation_bytes(model: nn.Module, x: Tensor) -> float:
    """Bytes that autograd keeps per image of a batch like x, for one pass in train mode.

    The slope between batches of 2 and 4 images, so weights do not count. The model stays as it is.
    """
    trial = copy.deepcopy(model).train()

    def kept(n: int) -> int:
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = trial(torch.zeros(n, *x.shape[1:], device=x.device))  # held: keeps the graph
        assert logits.requires_grad
        return sum(storages.values())

    return (kept(4) - kept(2)) / 2


def training_bytes(model: nn.Module, x: Tensor, batch_size: int, *, passes: int = 1) -> float:
    """About what training takes beyond the data; `passes` are alive at the same time (FR: 2)."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return WEIGHTS * weights + OVERHEAD * passes * batch_size * activation_bytes(model, x)


def available_bytes(device: str) -> int:
    """Memory that is free now: of the GPU; else of the machine, or of the container if less.

    What torch keeps of a GPU's memory without using it is free, too.
    """
    if device == "cuda":
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept
    free = psutil.virtual_memory().available
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()) + _cached_files())
    return free


def _cached_files() -> int:
    """Bytes of the container that hold files read before, which make room for what needs it."""
    stat = CGROUP / "memory.stat"
    found = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    return int(found.get("inactive_file", 0))


def refuse_if_too_big(need: float, device: str, advice: str) -> None:
    """MemoryError when `need` bytes are clearly not there."""
    if need > (free := available_bytes(device)):
        raise MemoryError(f"this needs about {need / GIB:.1f} GiB of memory, {free / GIB:.1f} are "
                          f"free on {device}; {advice}")


def peak_bytes(device: str) -> int:
    """The most memory that was held: on a GPU since `settle`, else by this process so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource  # not on every platform

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(work: Callable[[], object], device: str) -> float:
    """Time of one call, after one to warm up."""
    for _ in range(2):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """"40 s", "25 min" or "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
