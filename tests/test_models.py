"""Architectures as published, and a loader that is safe."""

import gzip
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KINDS, randomise
from safetensors.torch import save_file
from torch import nn

from frlib import data, evaluate
from frlib.fast import freeze
from frlib.models import ARCHITECTURES, WideResNet, create, load_checkpoint

PARAMETERS = {  # counted by hand from the papers' tables; WRN-34-10 is known for its 46.16 M
    "resnet18": 11_173_962,
    "preactresnet18": 11_172_170,
    "wrn-34-10": 46_160_474,
    "wrn-28-10": 36_479_194,
    "resnet18-16": 701_466,
    "resnet18-32": 2_797_610,
    "resnet8-16": 78_042,
    "resnet8-32": 308_650,
}
KEYS = {  # names in published checkpoints, and the shape of their weights
    "resnet18": {"conv1.weight": (64, 3, 3, 3), "layer4.0.bn2.bias": (512,),
                 "layer2.0.shortcut.0.weight": (128, 64, 1, 1),
                 "layer2.0.shortcut.1.running_var": (128,), "linear.weight": (10, 512)},
    "preactresnet18": {"layer1.0.bn1.weight": (64,), "bn.running_mean": (512,),
                       "layer2.0.shortcut.0.weight": (128, 64, 1, 1), "linear.bias": (10,)},
    "wrn-34-10": {"block1.layer.0.bn1.weight": (16,), "bn1.bias": (640,),
                  "block1.layer.0.convShortcut.weight": (160, 16, 1, 1),
                  "block3.layer.4.conv2.weight": (640, 640, 3, 3), "fc.weight": (10, 640)},
    "wrn-28-10": {"block2.layer.0.convShortcut.weight": (320, 160, 1, 1), "fc.bias": (10,)},
    "resnet18-16": {"conv1.weight": (16, 3, 3, 3), "layer4.1.conv2.weight": (128, 128, 3, 3)},
    "resnet18-32": {"conv1.weight": (32, 3, 3, 3), "linear.weight": (10, 256)},
    "resnet8-16": {"layer3.0.conv2.weight": (64, 64, 3, 3), "layer2.0.shortcut.1.weight": (32,)},
    "resnet8-32": {"conv1.weight": (32, 3, 3, 3), "linear.weight": (10, 128)},
}
ABSENT = {  # what another variant of the architecture would have
    "preactresnet18": ("bn1.weight", "layer2.0.shortcut.1.weight", "layer1.0.shortcut.0.weight"),
    "resnet18": ("layer1.0.shortcut.0.weight", "bn.weight"),
    "wrn-34-10": ("block3.layer.5.conv1.weight", "block1.layer.1.convShortcut.weight"),
    "wrn-28-10": ("block3.layer.4.conv1.weight",),
    "resnet8-16": ("layer1.1.conv1.weight", "layer4.0.conv1.weight"),
}

# --- architectures


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architecture_is_the_published_one(name):
    with torch.device("meta"):
        model = create(name)
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert {key: tuple(state[key].shape) for key in KEYS[name]} == KEYS[name]
    assert not [key for key in ABSENT.get(name, ()) if key in state]


def test_sizes_and_classes_are_free_and_seed_decides_the_weights():
    for kind, build in KINDS.items():
        for size in (32, 64):
            assert build()(torch.rand(2, 3, size, size)).shape == (2, 10), kind
    assert create("resnet8-16", num_classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    torch.manual_seed(3)
    one = create("resnet8-16").conv1.weight
    torch.manual_seed(3)
    assert torch.equal(create("resnet8-16").conv1.weight, one)


def test_wide_resnets_start_as_their_peers_and_the_others_as_torch():
    model = WideResNet(16, 4, 10, None, None)
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d):
            out, _, k, _ = conv.weight.shape
            tolerance = 4 / (2 * conv.weight.numel()) ** 0.5  # four standard errors
            assert conv.weight.std().item() == pytest.approx((2 / (k * k * out)) ** 0.5,
                                                             rel=tolerance), name
    assert not model.fc.bias.any()
    for name, first, bias in (("resnet8-16", [-0.00144084, 0.10323862], -0.06530948),
                              ("preactresnet18", [-0.00144084, 0.10323862], -0.01574306)):
        torch.manual_seed(0)
        state = create(name).state_dict()
        assert state["conv1.weight"].flatten()[:2].tolist() == pytest.approx(first, abs=1e-7)
        assert state["linear.bias"][0].item() == pytest.approx(bias, abs=1e-7)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet8-16", "preactresnet18"])
def test_normalisation_is_inside(name):
    mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    plain = randomise(create(name)).eval()
    inside = create(name, mean=mean, std=std).eval()
    inside.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(2, 3, 32, 32)
    shaped = [torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std)]
    torch.testing.assert_close(inside(x), plain((x - shaped[0]) / shaped[1]))
    torch.testing.assert_close(freeze(inside)(x), inside(x), atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in inside.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "mean", "std", "message"), [
    ("resnet", None, None, "unknown model 'resnet': choose one of resnet18, preact"),
    ("resnet8-16", (0.5,) * 3, None, "both mean and std, or neither"),
    ("resnet8-16", None, (0.5,) * 3, "both mean and std, or neither"),
    ("resnet8-16", (0, 0, 0), (0.2, 0, 0.2), r"std = \(0.2, 0, 0.2\): must be above 0"),
    ("resnet8-16", (0, 0, 0), (-1, 1, 1), "must be above 0"),
    ("resnet8-16", (0, 0), (1, 1, 1), "mean = .*: must be three finite"),
    ("resnet8-16", (0, 0, float("nan")), (1, 1, 1), "three finite numbers")])
def test_wrong_arguments_are_told_what_they_may_be(name, mean, std, message):
    with pytest.raises(ValueError, match=message):
        create(name, mean=mean, std=std)


# --- checkpoints


@pytest.fixture
def weights():
    torch.manual_seed(1)
    return randomise(create("resnet8-16")).state_dict()


def loads(path, weights, **kwargs):
    """Whether the file, read into a fresh model, gives exactly these weights."""
    model = create("resnet8-16", **kwargs)
    assert load_checkpoint(model, path) is model
    return all(torch.equal(v, weights[k]) for k, v in model.state_dict().items() if k in weights)


WRAPPED = {
    "plain": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3, "best": 0.5},
    "module.": lambda w: {f"module.{k}": v for k, v in w.items()},
    "model.": lambda w: {f"model.{k}": v for k, v in w.items()},
    "module.model.": lambda w: {"state_dict": {f"module.model.{k}": v for k, v in w.items()}},
    "dead sub_block1": lambda w: w | {"sub_block1.layer.0.conv1.weight": torch.ones(2, 2),
                                      "module.sub_block1.bn.weight": torch.ones(2)},
    "extra mean and std": lambda w: w | {"mean": torch.ones(1, 3, 1, 1), "std": torch.ones(3),
                                         "mu": torch.ones(3), "sigma": torch.ones(3)},
    "swa counter": lambda w: {f"module.{k}": v for k, v in w.items()}
    | {"n_averaged": torch.tensor(3)},
    "Sequential(normalise, network)": lambda w: {"0.mean": torch.ones(3), "0.std": torch.ones(3)}
    | {f"1.{k}": v for k, v in w.items()},
    "_orig_mod.": lambda w: {"model": {f"_orig_mod.module.net.{k}": v for k, v in w.items()}},
    "a layer that normalises": lambda w: w | {"normalize.mean": torch.ones(3)},
    "numbers beside them": lambda w: w | {"epoch": 3, "accuracy": 0.5, "name": "at"},
    "NumPy's numbers": lambda w: {"model_state_dict": w, "epoch": np.int64(3),
                                  "best": np.float32(0.5), "done": np.bool_(True)},
    "one dict, whatever its name": lambda w: {"robust_net": w, "optimizer": {"state": {}}},
    "the same twice": lambda w: w | {f"module.{k}": v for k, v in w.items()},
    "no batch counters": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_published_forms_of_a_checkpoint_load(tmp_path, weights, wrap):
    path = tmp_path / "weights.pt"
    torch.save(wrap(weights), path)
    expected = {k: v for k, v in weights.items() if "num_batches" not in k}
    assert loads(path, expected)


@pytest.mark.parametrize(("name", "classes", "message"), [
    ("resnet8-32", 10, r"bn1.bias is \(16,\), the model needs \(32,\)"),
    ("resnet8-16", 100, r"linear.bias is \(10,\), the model needs \(100,\)"),
    ("resnet18", 10, r"\(\d\d+ misfits\)"),
    ("preactresnet18", 10, r"conv1.weight is \(16, 3, 3, 3\), the model needs \(64, 3, 3, 3\)"),
])
def test_weights_of_another_architecture_name_the_misfits(tmp_path, weights, name, classes,
                                                          message):
    path = tmp_path / "weights.pt"
    torch.save(weights, path)
    model = create(name, num_classes=classes)
    before = model.conv1.weight.clone()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: weights of another "
                                         f"architecture.*{message}"):
        load_checkpoint(model, path)
    assert torch.equal(model.conv1.weight, before)


def test_safetensors_are_read_under_any_name(tmp_path, weights):
    path = tmp_path / "weights.pt"
    save_file({f"module.{k}": v for k, v in weights.items()}, path)
    assert loads(path, weights)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{path}: damaged"):
        load_checkpoint(create("resnet8-16"), path)


def test_of_several_networks_one_is_read_and_said(tmp_path, weights, caplog):
    path, other = tmp_path / "weights.pt", {k: v + 1 for k, v in weights.items()}
    torch.save({"ema": other, "model": weights}, path)
    assert loads(path, weights)
    assert caplog.messages == [f"{path}: read are the weights under 'model'; 'ema' are there, too"]
    for content, message in (
            ({"g": weights, "d": other}, "but 2 of them; its keys: 'g', 'd'; save model.state"),
            (weights | {f"model.{k}": v for k, v in other.items()}, "more than once, as in model")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load_checkpoint(create("resnet8-16"), path)


def cut_short(path, model, part):
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:int(part * path.stat().st_size)])


@pytest.mark.parametrize(("write", "message"), [
    (lambda path, model: path.write_bytes(b""), "an empty file"),
    (lambda path, model: cut_short(path, model, 0.01), "(damaged|not a check)"),
    (lambda path, model: cut_short(path, model, 0.99), "(damaged|not a check)"),
    (lambda path, model: path.write_text(" <!DOCTYPE html>\n<title>Sign in"), "a web page"),
    (lambda path, model: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:"
                                         "4d7a\nsize 12345\n"), "a Git LFS pointer.*git lfs pull"),
    (lambda path, model: path.write_text("epoch 3"), "neither in the format of torch.save nor"),
    (lambda path, model: path.write_bytes(gzip.compress(b"weights")), "an archive; unpack it"),
    (lambda path, model: np.savez(open(path, "wb"), a=np.ones(2)), "a zip archive of a.npy; unp"),
    (lambda path, model: torch.jit.script(nn.Linear(1, 1)).save(str(path)), "TorchScript.*save mo"),
    (lambda path, model: torch.save(model, path), "frlib.models.BasicBlock.*state_dict.. alone"),
    (lambda path, model: torch.save({"epoch": 3, "loss": 0.5}, path), "its keys: 'epoch', 'loss'"),
    (lambda path, model: torch.save([1, 2], path), "holds no state_dict"),
    (lambda path, model: torch.save({"state_dict": [1]}, path), "holds no state_dict"),
    (lambda path, model: torch.save(model.state_dict() | {"extra.weight": torch.ones(1)}, path),
     r"unexpected extra.weight \(1 misfits\)"),
])
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning",
                            "ignore:.*torch.jit:DeprecationWarning", "ignore:unclosed file")
def test_a_file_that_is_something_else_is_told_what_it_is(tmp_path, write, message):
    path = tmp_path / "weights.pt"
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {re.escape(str(path))}"):
        load_checkpoint(create("resnet8-16"), path)
    write(path, create("resnet8-16"))
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}") as raised:
        load_checkpoint(create("resnet8-16"), path)
    assert "weights_only" not in str(raised.value)


def test_the_published_resnet18_loads_and_classifies(cifar_root):
    package = Path(importlib.util.find_spec("pyautoattack").origin).parent
    model = load_checkpoint(create("resnet18"), package / "examples" / "model_test.pt")
    test = data.load("cifar10", cifar_root, "test", download=False).take(64)
    assert evaluate.accuracy(model, test.x, test.labels, batch_size=32) > 0.85
