"""Files in the forms that RobustBench publishes, read into our networks; bad names and files."""

import json
import re
from functools import partial
from pathlib import Path

import papermill
import pytest
import torch
from conftest import randomise

from frlib import models
from frlib.run import published as zoo

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture
def published(tmp_path, registries, monkeypatch):
    """architecture -> (network, a file of its weights that looks like RobustBench's)."""
    for name, kind in (("wrn-34-10", models.WideResNet), ("wrn-28-10", models.WideResNet)):
        monkeypatch.setitem(models.ARCHITECTURES, name, partial(kind, 10, 1))  # small ones

    def write(architecture):
        model = randomise(models.create(architecture)).eval()
        state = {f"module.model.{key}": value for key, value in model.state_dict().items()}
        if architecture.startswith("wrn"):
            state |= {key.replace("block1", "sub_block1"): value for key, value in state.items()
                      if ".block1.layer.0" in key}
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pt")
        return model, tmp_path / "weights.pt"
    return write


# every pair of architecture and normalisation in the table, and the one that only users bring
ONE_OF_EACH = list({(e.architecture, e.mean): name for name, e in zoo.KNOWN.items()}.values())


@torch.no_grad()
@pytest.mark.parametrize("name", [*ONE_OF_EACH, "mine:preactresnet18"])
def test_a_published_file_gives_the_network_it_came_from(published, name):
    entry = zoo.find(name)
    model, path = published(entry.architecture)
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) if v else default
                 for v, default in ((entry.mean, 0.0), (entry.std, 1.0)))
    expected = model((x - mean) / std)
    loaded = zoo.load(name, path)
    assert not loaded.training and expected.std() > 0.01
    torch.testing.assert_close(loaded(x), expected)
    assert (entry.mean is None) == torch.equal(loaded(x), model(x)), "normalised, if at all, once"


@pytest.mark.parametrize("names", [("mean", "std"), ("mu", "sigma")])
def test_an_own_file_is_normalised_by_what_it_holds_and_has_its_classes(tmp_path, names):
    model = models.create("resnet8-16", num_classes=7, mean=(0.1, 0.2, 0.3),
                          std=(0.4, 0.5, 0.6)).eval()
    called = dict(zip(("mean", "std"), names, strict=True))
    weights = {called.get(key, key): value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "own.pt")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(zoo.load("mine:resnet8-16", tmp_path / "own.pt", num_classes=7)(x), model(x))


@torch.no_grad()
def test_an_own_file_is_normalised_as_it_is_told(tmp_path):
    inside = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 1)}
    model, x = models.create("resnet8-16", **inside).eval(), torch.rand(2, 3, 32, 32)
    weights = {k: v for k, v in model.state_dict().items() if k not in inside}
    torch.save(weights, tmp_path / "own.pt")
    given = {"path": tmp_path / "own.pt", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 1]}
    assert torch.equal(zoo.load("mine:resnet8-16", given)(x), model(x))
    torch.save(weights | {"mean": torch.ones(3), "std": torch.zeros(3)}, tmp_path / "own.pt")
    assert torch.equal(zoo.load("mine:resnet8-16", given)(x), model(x))
    with pytest.raises(ValueError, match=r"own.pt: std = .*must be above 0"):
        zoo.load("mine:resnet8-16", tmp_path / "own.pt")


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("mine:resnet18", {"mean": [0.5] * 3}, "give both mean and std"),
    ("mine:resnet18", {"mean": [125, 123, 114], "std": [63, 62, 67]}, r"mean .*in \[0, 1\].*255"),
    ("mine:resnet18", {"mean": [0.5] * 3, "std": [0.2, 0, 0.2]}, "std .*three numbers above 0"),
    ("mine:resnet18", {"mean": [0.5], "std": [0.2]}, "three numbers"),
    ("mine:resnet18", {"means": [0.5] * 3}, "must be a path, or .'path'"),
    ("mine:resnet18", {"path": 3}, "must be a path"),
    ("Standard", {"mean": [0.5] * 3, "std": [0.2] * 3}, "normalisation is known"),
])
def test_a_wrong_normalisation_is_refused_before_any_work(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        zoo.check({name: {"path": "own.pt", **wrong}}, "cifar10")


@pytest.mark.parametrize(("name", "correct", "total", "classes", "message"), [
    ("mine:resnet18", 43, 500, 10, "8.6 % on 500 images, no better than chance among 10 .*'mean'"),
    ("mine:resnet18", 290, 500, 10, None), ("mine:resnet18", 43, 500, 100, None),
    ("Wu2020Adversarial", 427, 500, 10, None), ("Wu2020Adversarial", 6, 10, 10, None),
    ("Wu2020Adversarial", 290, 500, 10, "58.0 % on 500 .*published are 85.36 %: .*another network"),
    ("Wu2020Adversarial", 0, 0, 10, None)])
def test_a_clean_accuracy_far_too_low_is_doubted(name, correct, total, classes, message):
    said = zoo.doubts(name, correct, total, classes)
    assert bool(said) == bool(message) and all(re.search(message, text) for text in said)


@pytest.mark.parametrize(("name", "message"), [
    ("Wu2020Adverserial", "did you mean 'Wu2020Adversarial' or"),
    ("wrn-34-10", "unknown checkpoint 'wrn-34-10'"),
    ("mine:resnet-18", "did you mean .*'resnet18'"),
    ("mine:", "architectures: resnet18, preact"),
    (":resnet18", "as 'mine:resnet18'"), ("../up:resnet18", "unknown checkpoint"),
    ("..:resnet18", "unknown checkpoint"), ("a:b:resnet18", "unknown checkpoint"),
])
def test_an_unknown_name_is_told_what_is_near(name, message):
    with pytest.raises(ValueError, match=message):
        zoo.find(name)


def test_what_cannot_be_judged_is_refused(own_root):
    (own_root / "own.pt").touch()
    zoo.check({}, "digits")
    zoo.check({"mine:resnet18": "own.pt", "Standard": own_root / "own.pt"}, "cifar10")
    for wrong in (None, ["own.pt"], {"mine:resnet18": None}, {3: "own.pt"}):
        with pytest.raises(ValueError, match=r"must be a dict \{name: path\}"):
            zoo.check(wrong, "cifar10")
    with pytest.raises(ValueError, match="'Standard' was trained on cifar10.*on digits"):
        zoo.check({"Standard": "own.pt"}, "digits")
    with pytest.raises(FileNotFoundError, match=r"no\.pt \(for 'mine:resnet18'\)"):
        zoo.check({"mine:resnet18": "no.pt"}, "cifar10")
    assert zoo.label("mine:resnet18") == "published-mine-resnet18"


@pytest.mark.filterwarnings("ignore")  # papermill and Jupyter warn of their own future
def test_the_benchmark_notebook_judges_it(tmp_path):
    runs, own = tmp_path / "runs", tmp_path / "own.pt"
    torch.manual_seed(0)
    torch.save(models.create("resnet8-16").state_dict(), own)
    papermill.execute_notebook(
        REPO / "notebooks" / "04_attack_benchmark.ipynb", tmp_path / "out.ipynb",
        {"checkpoints": {"mine:resnet8-16": {
            "path": str(own), "mean": [0.5] * 3, "std": [0.25] * 3}}, "runs_dir": str(runs)},
        progress_bar=False)
    executed = (tmp_path / "out.ipynb").read_text()
    assert executed.count(">published-mine-resnet8-16</td>") == 3
    file = runs / "results" / "smoke" / "published-mine-resnet8-16" / "seed0.json"
    result = json.loads(file.read_text())
    assert result["model"]["mean"] == [0.5] * 3 and len(result["warnings"]) == 1
    assert "WARNING, published-mine-resnet8-16: clean accuracy" in executed
