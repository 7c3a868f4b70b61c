"""Which networks and images a page opens."""

import pytest
import torch
from safetensors.torch import save_file

from frlib import models
from frlib.publish import networks, photographs
from frlib.run import config, export, files, folder

OWN = "preset: own\nsettings: {runs: [natural], dataset: digits, model: resnet8-16}\n"


def publish(results, preset, label, dataset="cifar10"):
    """The weights of a random network, beside a result that names them; the network."""
    torch.manual_seed(0)
    model = models.create("resnet8-16").eval()
    file = export.weights_path(preset, label, export.SEED, results)
    file.parent.mkdir(parents=True)
    save_file({name: tensor.float() for name, tensor in model.state_dict().items()
               if not name.endswith("num_batches_tracked")}, file)
    files.write_json(file.with_name("seed0.json"), {
        "config": {"model": "resnet8-16", "dataset": dataset, "eps": 4 / 255},
        "weights": files.file_checksum(file)})
    return model


@pytest.fixture(scope="module")
def runs(own_root, tmp_path_factory):
    """A runs folder with finished runs of smoke, of it with a knob turned, and of "own"."""
    runs_dir = str(tmp_path_factory.mktemp("runs"))
    (own_root / "own.yaml").write_text(OWN)
    for preset, changes in (("smoke", {}), ("smoke", {"epochs": 1}), ("own.yaml", {})):
        run = folder.open_run(config.load(preset, method="natural", runs_dir=runs_dir, **changes))
        run.dir.mkdir(parents=True)
        torch.save({"state_dict": models.create("resnet8-16").state_dict()}, run.dir / "best.pt")
        (run.dir / "finished.json").write_text("{}")
    return runs_dir


@pytest.fixture
def published(tmp_path):
    """Two published networks of "mini" and one of another data set, in a folder of results."""
    for preset, label, dataset in (("mini", "at", "cifar10"), ("mini", "natural", "cifar10"),
                                   ("cifar100-subset", "at", "folder")):
        publish(tmp_path, preset, label, dataset)
    return tmp_path


@pytest.mark.parametrize(("preset", "there", "show", "changes", "expected"), [
    ("smoke", "runs, published", "", {}, "published weights of preset mini"),
    ("smoke", "published", "", {}, "published weights of preset mini"),
    ("smoke", "runs", "", {}, "own runs of preset smoke"),
    ("smoke", "", "", {}, "none yet"),
    ("smoke", "runs, published", "", {"epochs": 1}, "own runs of preset smoke"),  # a turned knob
    ("smoke", "published", "", {"epochs": 2}, "none yet"),
    ("smoke", "runs, published", "smoke", {}, "own runs of preset smoke"),
    ("smoke", "runs, published", "mini", {}, "published weights of preset mini"),
    ("smoke", "runs, published", "small", {}, "none yet"),
    ("own.yaml", "runs, published", "", {}, "own runs of preset own"),
    ("own.yaml", "published", "", {}, "published weights of preset mini"),
    ("small", "runs", "", {}, "own runs of preset smoke")])
def test_the_readers_own_come_first_then_published_ones_then_smokes(
        runs, published, tmp_path, preset, there, show, changes, expected):
    base = config.load(preset, method="at", **changes,
                       runs_dir=runs if "runs" in there else str(tmp_path / "none"))
    page = networks.opened(base, show, published if "published" in there else tmp_path / "no")
    assert page.about.startswith(f"networks: {expected}")
    assert ("smoke preset" in page.about) == (page.mark is not None and bool(page.labels))
    assert len(page.few) == networks.FEW and page.few.x.shape[1:] == (3, 32, 32)
    for label in page.labels:
        assert page.load(label)(page.few.x[:2]).shape == (2, 10)
        assert page.load(label) is page.load(label)


def test_published_networks_are_those_of_the_files_in_their_order(published):
    page = networks.opened(config.load("smoke"), folder=published)
    assert page.labels == ("natural", "at") and page.eps == 4 / 255 and page.preset == "mini"
    assert page.images.classes == photographs.CLASSES
    assert page.about.endswith("images: forty CIFAR-10 test images") and page.mark is None
    for label in ("at-fr", "somebodys-own"):  # the second's method is not known here
        publish(published, "mini", label)
    model = export.published_model("mini", "at-fr", folder=published)
    page = networks.opened(config.load("smoke"), folder=published)
    assert page.labels == ("natural", "at", "at-fr")
    assert torch.allclose(page.load("at-fr")(page.few.x), model(page.few.x), atol=1e-4)
