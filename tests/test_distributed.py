"""Two processes that share every batch train as one does, and end together when one is killed.

Curves are compared in float64. In float32 the sign of a vanishing gradient, which moves a pixel
by a whole step, hangs on rounding, so even one process leaves its curve when its weights change by
one part in ten million.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from conftest import thinned, write_preset
from torch import nn

from frlib import averaging, data, models, train
from frlib.__main__ import main
from frlib.run import config, distributed
from frlib.run.folder import Run

REPO = Path(__file__).resolve().parents[1]
CASES = {  # method, after it what is special: how many steps, what differs from the preset
    "natural": (8, {}),
    "at": (8, {}),
    "at-fr": (8, {"fr_lambda": 0.5}),
    "at-fr, released code": (8, {"fr_lambda": 0.5, "fr_transform": "batch-class"}),
    "trades": (8, {}),
    "trades, plain loop": (3, {"fast": False}),
    "at, attacked in train mode": (3, {"attack_mode": "train"}),
    "mart": (3, {}),
    "at-awp": (3, {}),
}


def settings(method, **changes):
    return config.load("shared.yaml", method=method, device="cpu", **changes)


@contextmanager
def double():
    """Images and new models in float64 for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "to_float", lambda images: images.double() / 255)
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)


def one_epoch(name):
    """The loss terms of each step (steps, terms) and the model's state after them.

    Batches are of 15 images, shares of 7 and 8; in the last step 3, shares of 1 and 2.
    """
    steps, changes = CASES[name]
    c = settings(name.partition(",")[0], **changes)
    split = thinned("digits", "", "train").take(15 * (steps - 1) + 3)
    torch.manual_seed(0)
    model = models.ResNet(models.BasicBlock, (1,), 8, 10, None, None)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_check_finite", lambda terms, epoch: seen.append(torch.stack(terms)))
        train.train_epoch(model, train._optimizer(model, c), split,
                          torch.Generator().manual_seed(0), c, 0, processes=distributed)
    return {"terms": seen[-1], "state": model.state_dict()}


def batchnorm(rows):
    """Output, gradients and state of a BatchNorm on `rows` images, then its re-estimated state."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).double()
    x = 5 * torch.randn(rows, 3, 2, 2, dtype=torch.float64) + 100
    parallel = distributed.parallel(net)
    out = parallel(x)
    (out ** 3).sum().backward()  # what follows a BatchNorm: some function of all rows
    found = [out.detach(), *(p.grad.clone() for p in net.parameters()),
             *(b.clone() for b in net.buffers())]
    averaging.reestimate_batchnorm(distributed.twin(net), [x, x[:2] + 1, x - 3])
    return found + [b.clone() for b in net.buffers()]


def refuse():
    raise ValueError("the first one says no")


def work(rank, port, folder):
    """What each of two processes does; its findings go to a file."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with distributed.processes("cpu"):
        found = {"run": train.train(settings("at", runs_dir=f"{folder}/single")).dir}
        with double():
            found |= {name: one_epoch(name) for name in CASES}
            found["double"] = train.train(settings("at-fr", epochs=2, runs_dir=f"{folder}/two")).dir
        found["batchnorm"] = {rows: batchnorm(rows) for rows in (5, 2, 1)}
        found["who"] = distributed.on_first(lambda: f"rank {distributed.rank()}")
        with pytest.raises(ValueError, match="the first one says no"):
            distributed.on_first(refuse)
        torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module", autouse=True)
def preset(own_root):
    write_preset(own_root, "shared", train_size=47, batch_size=15, epochs=5, lr=0.05, steps=2,
                 step_size="8/255", swa_start=0.5, curve_images=16)


@pytest.fixture(scope="module")
def found(preset, tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


# --- the same numbers


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_loss_curve_of_one(found, name):
    with double():
        one, two = one_epoch(name), found[0][name]
    assert one["terms"].shape == two["terms"].shape and len(one["terms"]) == CASES[name][0]
    torch.testing.assert_close(two["terms"], one["terms"], rtol=0, atol=1e-4)
    torch.testing.assert_close(two["state"], one["state"], rtol=0, atol=1e-4)
    for key, value in two["state"].items():  # and the processes do not drift apart
        assert torch.equal(value, found[1][name]["state"][key]), key


@pytest.mark.parametrize("rows", [5, 2, 1])  # shares of 2 and 3, 1 and 1, 0 and 1
def test_batchnorm_is_that_of_all_rows(found, rows):
    torch.testing.assert_close(found[0]["batchnorm"][rows], batchnorm(rows))
    torch.testing.assert_close(found[1]["batchnorm"][rows], batchnorm(rows))


def test_a_whole_run_of_two_is_that_of_one(found):
    assert found[0]["who"] == found[1]["who"] == "rank 0"  # the first answers for all
    two = found[0]["double"]
    with double():
        one = train.train(settings("at-fr", epochs=2, runs_dir="one"))
    for folder, processes in ((two, 2), (one.dir, 1)):
        finished = json.loads((folder / "finished.json").read_text())
        assert finished["provenance"]["processes"] == processes
    assert {p.name for p in two.iterdir()} == {p.name for p in one.dir.iterdir()}
    history = Run(two, one.config).history
    assert len(history) == len(one.history) == 2
    for ours, theirs in zip(without_seconds(history), without_seconds(one.history), strict=True):
        assert ours.keys() == theirs.keys() and "loss_fr" in ours
        assert ours == pytest.approx(theirs, abs=1e-4)


# --- how they end


def started(folder):
    """`torchrun` with two processes, as the book gives it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
               "2", "-m", "--", "frlib", "train", "--preset", "shared.yaml", "--run", "at",
               "--runs-dir", str(folder)]
    return subprocess.Popen(command, cwd=REPO, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"})


def kill(job, rank):
    """SIGKILL for one of the job's processes; returns all of them."""
    processes = psutil.Process(job.pid).children(recursive=True)
    victim, = [p for p in processes if p.environ().get("RANK") == str(rank)]
    victim.send_signal(signal.SIGKILL)
    return processes


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(found, tmp_path, rank):
    unbroken = Run(found[0]["run"], settings("at"))
    run = Run(tmp_path / "shared" / "at" / "seed0", settings("at"))
    with started(tmp_path) as job:
        while job.poll() is None and not run.history:
            time.sleep(0.01)
        assert job.poll() is None, job.stdout.read()
        processes = kill(job, rank)
        assert job.wait(timeout=120) != 0
    assert not psutil.wait_procs(processes, timeout=30)[1]
    assert 0 < len(run.history) < unbroken.config.epochs and not run.finished
    with started(tmp_path) as job:
        out, _ = job.communicate(timeout=600)
    assert job.returncode == 0 and run.finished, out
    assert out.count("GiB on each of 2 x cpu") == 1  # one speaks for both
    assert without_seconds(run.history) == without_seconds(unbroken.history)


# --- with one process, and where it cannot work


def test_with_one_process_nothing_is_wrapped(monkeypatch):
    model = nn.Linear(2, 2)
    for function in (distributed.shared, distributed.twin, distributed.parallel,
                     distributed.averaging_twin):
        assert function(model) is model
    assert not model.weight._backward_hooks
    assert (distributed.size(), distributed.rank()) == (1, 0)
    assert distributed.on_first(lambda: 7) == 7
    monkeypatch.setenv("WORLD_SIZE", "")
    with distributed.processes("cpu"):
        assert distributed.asked() == distributed.size() == 1


def test_each_process_needs_a_gpu_of_its_own(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--nproc-per-node 2: torch sees 1 GPUs, and each"):
        with distributed.processes("cuda"):
            pass


def test_only_training_is_for_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["judge"]) == 1
    assert "judge: one process does it; only train is for torchrun" in capsys.readouterr().err


def test_statistics_of_bfloat16_passes_are_float32(monkeypatch):
    monkeypatch.setattr(distributed._Sum, "apply", lambda own: own)  # of one process
    torch.manual_seed(0)
    x = (3 * torch.randn(8, 4, 6, 6) + 5).bfloat16()
    ours, theirs = distributed.BatchNorm(4), torch.nn.BatchNorm2d(4)
    assert ours(x).dtype == theirs(x).dtype == torch.bfloat16
    for name, value in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), value, rtol=1e-5, atol=1e-6)
