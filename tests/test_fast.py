"""The frozen copy is the same function, and leaves its original alone."""

import pytest
import torch
from conftest import KINDS, randomise
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from frlib import fast, models
from frlib.fast import freeze
from frlib.models import create

every_kind = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)


@every_kind
@torch.no_grad()
def test_frozen_is_the_same_function(build):
    model, x = randomise(build()).eval(), torch.rand(2, 3, 32, 32)
    frozen, expected = freeze(model), model(x)
    torch.testing.assert_close(frozen(x), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.01  # or anything would agree
    kept, all_of_them = (sum(isinstance(m, nn.BatchNorm2d) for m in each.modules())
                         for each in (frozen, model))
    assert kept < all_of_them
    assert torch.equal(freeze(model, fast=False)(x), expected)  # the plain copy, bitwise


class TwoSided(nn.Module):
    """A block whose ReLU does not own its input, which an in-place one would spoil."""

    def __init__(self, w_in, w, stride):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(w_in, w // 2, 3, stride, 1), nn.BatchNorm2d(w // 2)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return torch.cat([functional.relu(y), functional.relu(-y)], 1)


@torch.no_grad()
def test_a_network_of_ours_with_a_block_of_the_readers_is_left_as_it_is():
    model = randomise(models.ResNet(TwoSided, (1, 1), 8, 10, None, None)).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(freeze(model)(x), model(x), atol=1e-6, rtol=1e-5)


def pruned(model):
    prune.l1_unstructured(model.conv1, "weight", 0.5)


def hooked(model):
    model.register_forward_pre_hook(lambda _, inputs: (1 - inputs[0],))


def replaced(model):
    model.forward = functional.softplus


@torch.no_grad()
@pytest.mark.parametrize("change", [pruned, hooked, replaced])
def test_a_network_of_ours_that_does_something_else_keeps_doing_it(change):
    model = randomise(create("resnet8-16")).eval()
    x = torch.rand(2, 3, 32, 32)
    plain = model(x)
    change(model)
    torch.testing.assert_close(freeze(model)(x), model(x), atol=1e-5, rtol=1e-5)
    assert model(x).shape != plain.shape or not torch.allclose(model(x), plain, atol=1e-3)


def test_freezing_leaves_the_original_alone():
    model = randomise(create("resnet8-16")).train()
    model.bn1.eval()
    model.linear.bias.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    asks = [p.requires_grad for p in model.parameters()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    frozen = freeze(model)
    frozen(torch.rand(2, 3, 32, 32))
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == asks
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.training
    assert not any(m.training for m in frozen.modules() if not list(m.children()))
    with torch.no_grad():
        before = frozen(torch.ones(1, 3, 32, 32))
        model.linear.weight.zero_()
        assert torch.equal(frozen(torch.ones(1, 3, 32, 32)), before)  # a copy, not a view


class Branching(nn.Module):
    """torch.fx cannot trace a branch on the input."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        if x.mean() > 0.5:
            x = 1 - x
        return self.norm(self.conv(x)).mean((2, 3))


def test_a_model_that_cannot_be_traced_is_frozen_unfolded():
    model = randomise(Branching()).train()
    frozen = freeze(model)
    assert model.training and not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())
    with torch.no_grad():
        for x in (torch.rand(2, 3, 8, 8) / 4, 1 - torch.rand(2, 3, 8, 8) / 4):
            torch.testing.assert_close(frozen(x), model.eval()(x))


@every_kind
@torch.no_grad()
def test_a_refreshed_copy_is_a_new_copy(build):
    """In place: every tensor stays where a compiled network knows it to be."""
    frozen, model = freeze(build()), randomise(build())
    places = [tensor.data_ptr() for tensor in frozen.state_dict().values()]
    assert frozen.refresh(model) is frozen
    expected = freeze(model).state_dict()
    assert expected and all(torch.equal(v, expected[k]) for k, v in frozen.state_dict().items())
    assert [tensor.data_ptr() for tensor in frozen.state_dict().values()] == places


@torch.no_grad()
def test_bfloat16_passes_give_float32_logits_that_are_near():
    model, x = randomise(create("resnet8-16")), torch.rand(4, 3, 32, 32)
    exact, near = (freeze(model, precision=p)(x) for p in ("float32", "bfloat16"))
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).abs().max() < 0.05 * exact.abs().max()
    with pytest.raises(ValueError, match="precision = 'half': choose 'float32' or 'bfloat16'"):
        freeze(model, precision="half")


def test_a_frozen_model_comes_back_as_it_is_and_so_does_a_function():
    model = freeze(create("resnet8-16"))
    assert freeze(model) is model

    def function(x):
        return x.mean((2, 3))
    assert freeze(function) is function


def test_a_network_that_cannot_be_compiled_is_used_as_it_is(caplog):
    def backend(graph, inputs):
        raise OSError("no compiler")
    frozen, x = freeze(create("resnet8-16")), torch.rand(2, 3, 32, 32)
    expected = frozen(x)
    frozen.net.compile(backend=backend)
    for _ in range(2):
        assert torch.equal(frozen(x), expected)
    warning, = (record for record in caplog.records if record.name == "frlib")
    assert "no compiler" in warning.getMessage()
    assert frozen.refresh(create("resnet8-16")) is frozen


@pytest.mark.parametrize(("listing", "expected"), [
    ("model name : x\nflags\t\t: fpu avx2 avx512f\n", False),
    ("flags\t\t: fpu avx512_bf16\n", True), ("flags : amx_tile amx_bf16\n", True),
    ("Features : fp asimd\n", False), (None, False)])
def test_the_processor_is_asked(monkeypatch, asked, listing, expected):
    def read(path):
        if listing is None:
            raise FileNotFoundError(path)
        return listing
    monkeypatch.setattr(fast.Path, "read_text", read)
    assert asked("cpu") is expected
