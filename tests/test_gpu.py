"""On a GPU: short runs there learn, compiled, and an attack is the CPU's."""

import pytest
import torch

from frlib import attacks, data, fast, models, train
from frlib.run import config

pytestmark = [pytest.mark.gpu,
              pytest.mark.filterwarnings("default"),  # compiling warns, of what is no fault
              pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("method", ["at", "at-fr", "trades", "mart", "at-awp"])
def test_training_on_the_gpu_learns(tmp_path, caplog, method):
    run = train.train(config.load("smoke", method=method, runs_dir=str(tmp_path), device="cuda"))
    loss = f"loss_{method}" if method in ("trades", "mart") else "loss_ce"
    assert run.history[-1][loss] < run.history[0][loss]
    assert "torch.compile failed" not in caplog.text


def test_one_attack_step_is_the_same_on_both_devices():
    torch.manual_seed(0)
    model, test = models.create("resnet8-16"), data.load("digits", "", "test").take(16)
    here, there = (attacks.fgsm(fast.freeze(model).to(d), test.x.to(d), test.labels.to(d),
                                eps=8 / 255).cpu() for d in ("cpu", "cuda"))
    assert (here != there).float().mean() < 0.01  # a gradient near 0 may change its sign
