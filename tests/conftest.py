"""What every test shares: a root of its own to write below, one thread, and the official data."""

import functools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyautoattack
import pytest
import torch
from torch import nn

from frlib import data, evaluate, fast, losses, methods, models

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_root(tmp_path_factory):
    """Relative runs_dir and data_root resolve below a temporary folder, never in the tree."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRLIB_ROOT", str(root))
        yield root


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from threads, and one thread makes runs repeat bit for bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cifar_root():
    """The folder that holds the official cifar-10-batches-py, or a skip."""
    places = [os.environ.get("FRLIB_CIFAR10"), REPO.parent / "shared" / "data", REPO / "data"]
    for place in map(Path, filter(None, places)):
        if (place / "cifar-10-batches-py" / "test_batch").is_file():
            return place
    pytest.skip("no CIFAR-10: set FRLIB_CIFAR10 to the folder that holds cifar-10-batches-py")


def write_preset(folder, name, **settings):
    """A preset file of runs that take a second; returns its name, which is a path from there."""
    tiny = {"dataset": "digits", "train_size": 64, "batch_size": 32, "flip": False, "threads": 1,
            "model": "resnet8-16", "steps": 1, "curve_images": 8, "curve_steps": 1}
    content = {"preset": name, "settings": {**tiny, **settings}}
    (folder / f"{name}.yaml").write_text(json.dumps(content))
    return f"{name}.yaml"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like the repository, with runs and pages of its own, to be in."""
    for name in ("Snakefile", "frlib", "notebooks", "results", "benchmarks", "_toc.yml",
                 "_config.yml"):
        (tmp_path / name).symlink_to(REPO / name)
    shutil.copytree(REPO / "book", tmp_path / "book",
                    ignore=shutil.ignore_patterns("executed", "generated"))
    for name, value in (("FRLIB_ROOT", tmp_path), ("PYTHONPATH", REPO), ("OMP_NUM_THREADS", 1)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@functools.cache
def thinned(name, root, which, load=data.load, **more):
    """A split of 8 x 8 pixels in place of 32 x 32: most of what a training does needs no more."""
    split = load(name, root, which, **more)
    return replace(split, images=split.images[:, :, ::4, ::4].contiguous())


@pytest.fixture(scope="module")
def small_digits():
    """What is loaded is thinned out while a module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", thinned)
        yield


@pytest.fixture(scope="module")
def brief_square():
    """The official AutoAttack with a fifth of the queries of its last attack."""
    class Brief(pyautoattack.AutoAttack):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.square.n_queries = 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyautoattack, "AutoAttack", Brief)
        yield


class Linear(nn.Module):
    """Logits W x + b on images (N, 1, 2, 2); the difference of the weight rows is `dw`."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 1.0, 2.0, 1.0]]))
            self.fc.bias.copy_(torch.tensor([0.3, 0.1]))

    def forward(self, x):
        return self.fc(x.flatten(1))

    @property
    def dw(self):
        return (self.fc.weight[1] - self.fc.weight[0]).detach()  # -2, 3, 1.5, -2: L1 norm 8.5


@pytest.fixture
def tiny():
    """A binary linear classifier with hand-set weights, whose worst case is known on paper."""
    return Linear()


@torch.no_grad()
def randomise(model):
    """The model with BatchNorm statistics and weights as after a training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return model


@pytest.fixture(scope="session", autouse=True)
def asked():
    """Trainings compute in float32 on every machine; gives the function that is switched off."""
    real = fast.has_bfloat16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "has_bfloat16", lambda device: False)
        yield real


@pytest.fixture
def registries():
    """What a test registers is gone after it."""
    every = (methods.METHODS, models.ARCHITECTURES, data.DATASETS, losses.TRANSFORMS,
             evaluate.ATTACKS, evaluate.TITLES)
    before = [dict(registry) for registry in every]
    yield
    for registry, entries in zip(every, before, strict=True):
        registry.clear()
        registry.update(entries)


# one network of each kind of block, as small as it can be
KINDS = {"resnet": lambda: models.create("resnet8-16"),
         "preact": lambda: models.ResNet(models.PreActBlock, (1, 1), 8, 10, None, None),
         "wide": lambda: models.WideResNet(10, 1, 10, None, None)}
