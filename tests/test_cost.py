"""The forecast of memory and time: right on what can be counted by hand, and before any work."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from frlib import models
from frlib.run import cost


def test_kept_activations_are_counted_per_image():
    """x for the first weight, its output for the ReLU, that again for the second."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 50), nn.ReLU(), nn.Linear(50, 10))
    assert cost.activation_bytes(model, torch.rand(1, 3, 2, 2)) == 4 * (12 + 50)


def test_need_grows_with_batch_passes_and_image():
    model, x = models.create("resnet8-16"), torch.rand(1, 3, 32, 32)
    one = cost.training_bytes(model, x, 128)
    weights = cost.training_bytes(model, x, 0)
    assert weights == cost.WEIGHTS * 4 * 78_042
    assert cost.training_bytes(model, x, 256) - weights == 2 * (one - weights)
    assert cost.training_bytes(model, x, 128, passes=2) - weights == 2 * (one - weights)
    large = cost.training_bytes(model, torch.rand(1, 3, 64, 64), 128)
    assert 3.9 < (large - weights) / (one - weights) < 4.1


def test_a_container_lowers_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "CGROUP", tmp_path)
    machine = cost.available_bytes("cpu")
    assert machine > 2**26
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "memory.current").write_text("48576\n")
    assert cost.available_bytes("cpu") == 1_000_000
    (tmp_path / "memory.stat").write_text("anon 8576\ninactive_file 40000\n")
    assert cost.available_bytes("cpu") == 1_040_000
    (tmp_path / "memory.max").write_text("max\n")
    assert cost.available_bytes("cpu") > 2**26


def test_what_torch_keeps_of_a_gpu_unused_is_free(monkeypatch):
    for name, value in (("mem_get_info", (5, 100)), ("memory_reserved", 30),
                        ("memory_allocated", 10)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert cost.available_bytes("cuda") == 25


def test_too_much_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(cost, "available_bytes", lambda _: 2 * cost.GIB)
    cost.refuse_if_too_big(2 * cost.GIB, "cpu", "advice")
    with pytest.raises(MemoryError, match=r"about 3\.5 GiB of memory, 2\.0 are free on cuda; ad"):
        cost.refuse_if_too_big(3.5 * cost.GIB, "cuda", "advice")


KEPT = """
import resource, torch
from frlib.run import cost
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16, 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for fast in (False, True):
    cost.settle(1, fast=fast)
    print(torch.get_num_threads(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these knobs")
def test_freed_memory_is_kept():
    """The kernel lends the pages of a tensor once, not twenty times."""
    told = subprocess.check_output([sys.executable, "-c", KEPT], text=True).split()
    assert told[::2] == ["1", "1"] and int(told[1]) > 2 * int(told[3])
