"""The rivals in training: every detail that decides their numbers, against steps made by hand."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import thinned, write_preset
from torch import nn

from frlib import attacks, data, losses, models, train
from frlib.methods import METHODS
from frlib.run import config
from frlib.run.recipes import OFFICIAL

# the passes of one step in train mode: c, the clean images; a, the attacked ones
PASSES = {"natural": "c", "at": "a", "at-fr": "ac", "at-sar": "ac", "mart": "ca", "trades": "cac",
          "at-awp": "a", "trades-awp": "acc"}
TRAINED = tuple(PASSES)


@pytest.fixture(scope="module", autouse=True)
def preset(own_root):
    write_preset(own_root, "methods", train_size=32, batch_size=16, epochs=2, lr=0.1,
                 step_size="8/255", swa_start=0.0, fast=False)


@pytest.fixture(scope="module")
def digits():
    return thinned("digits", "", "train").take(16)


def settings(method, **changes):
    return config.load("methods.yaml", method=method, **changes)


def new_model(c):
    torch.manual_seed(0)
    return models.create(c.model)


def one_epoch(c, digits, model=None, epoch=0):
    """The model after one step of an epoch, and the terms that the step logs."""
    model = model or new_model(c)
    terms = train.train_epoch(model, train._optimizer(model, c), digits,
                              torch.Generator().manual_seed(0), c, epoch)
    return model, terms


def attacked(monkeypatch):
    """Puts 1 - x in the attack's place; returns what it is called with."""
    calls = []

    def pgd(model, x, y, **settings):
        calls.append({"model": model, "x": x, "y": y, **settings})
        return 1 - x
    monkeypatch.setattr(attacks, "pgd", pgd)
    return calls


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


def batches_seen(model):
    return model.bn1.num_batches_tracked.item()


# --- AWP's step on the weights


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(4 * 16, 5)).double()


X = torch.linspace(0, 1, 8 * 3 * 36, dtype=torch.float64).view(8, 3, 6, 6).sin()
Y = torch.arange(8) % 5


def ce(model):
    return F.cross_entropy(model(X), Y)


@pytest.mark.parametrize(("gamma", "frozen"), [(0.01, set()), (0.2, set()), (0.1, {"0.weight"})])
def test_each_layer_moves_by_gamma_of_its_norm_along_its_gradient(net, gamma, frozen):
    """Uphill; biases, BatchNorm and what is not trained stand still, and so do old gradients."""
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    ce(net).backward()
    grads = {name: p.grad.clone() for name, p in net.named_parameters() if p.requires_grad}
    before, loss = state(net), ce(copy.deepcopy(net))
    with losses.perturb_weights(net, ce, gamma=gamma):
        moved = {name for name, value in state(net).items() if not torch.equal(value, before[name])}
        assert moved == {"0.weight", "4.weight"} - frozen
        for name in moved:
            step = net.get_parameter(name).detach() - before[name]
            gradient = grads[name]
            assert (step.norm() / before[name].norm()).item() == pytest.approx(gamma, rel=1e-5)
            torch.testing.assert_close(step / step.norm(), gradient / gradient.norm())
        assert ce(copy.deepcopy(net)) > loss
        assert all(torch.equal(net.get_parameter(name).grad, grads[name]) for name in grads)


def test_the_gradient_is_taken_once_on_a_copy_as_it_is(net):
    seen = []

    def loss(model):
        seen.append(model)
        assert model is not net and model.training and same(state(model), state(net))
        return ce(model)
    net.train()
    statistics, grads = state(net[1]), [p.grad for p in net.parameters()]
    with losses.perturb_weights(net, loss, gamma=0.1):
        assert len(seen) == 1 and seen[0][1].num_batches_tracked == 1
        assert same(state(net[1]), statistics)
        assert grads == [p.grad for p in net.parameters()] == [None] * 6


def test_afterwards_the_weights_are_bitwise_back_even_after_an_error(net):
    before = state(net.eval())
    with pytest.raises(ZeroDivisionError), losses.perturb_weights(net, ce, gamma=0.1):
        inside = copy.deepcopy(net)
        ce(net).backward()
        raise ZeroDivisionError
    assert same(state(net), before)
    ce(inside).backward()
    for p, moved in zip(net.parameters(), inside.parameters(), strict=True):
        assert p.grad.abs().max() > 0 and torch.equal(p.grad, moved.grad)


def test_a_zero_gradient_moves_nothing(net):
    before = state(net.eval())
    with losses.perturb_weights(net, lambda m: 0 * m(X).sum(), gamma=0.1):
        assert same(state(net), before)


def test_awp_trains_with_the_gradient_at_the_perturbed_weights(digits, monkeypatch):
    """One whole step by hand: ascend, pass, go back, decay the true weights, descend."""
    calls = attacked(monkeypatch)
    c = settings("at-awp", awp_gamma=0.1, weight_decay=0.1)
    first, moved = new_model(c), new_model(c)
    model, _ = one_epoch(c, digits)
    assert torch.equal(calls[0]["x"], calls[0]["x"].clamp(0, 1))
    x_adv, y = 1 - calls[0]["x"], calls[0]["y"]

    ascent = new_model(c)
    F.cross_entropy(ascent(x_adv), y).backward()
    with torch.no_grad():
        for p, up in zip(moved.parameters(), ascent.parameters(), strict=True):
            if p.ndim > 1:
                p += 0.1 * p.norm() / up.grad.norm() * up.grad
    F.cross_entropy(moved(x_adv), y).backward()
    for p, w, at in zip(model.parameters(), first.parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(p, w - 0.1 * (at.grad + 0.1 * w))
    for name, buffer in moved.named_buffers():  # BatchNorm saw the perturbed weights, once
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer)


# --- the passes of a step


@pytest.mark.parametrize(("method", "modes"), [
    ("natural", "T"), ("at", "eeT"), ("at-fr", "eeTT"), ("mart", "eeTT"), ("trades", "eeeTTT"),
    ("at-awp", "eecT"), ("trades-awp", "eeecccTTT")])  # c: a pass of AWP's copy
def test_attacks_meet_the_model_in_eval_mode_and_training_in_train_mode(method, modes, digits):
    c, seen = settings(method, steps=2), []
    model = new_model(c)
    model.register_forward_pre_hook(lambda m, _: seen.append(
        "e" if not m.training else "T" if m is model else "c"))
    one_epoch(c, digits, model)
    assert "".join(seen) == modes


def test_with_attack_mode_train_the_attack_moves_batchnorm_too(digits):
    for method, clean in (("at", 0), ("trades", 1)):  # TRADES attacks from a clean pass
        c = settings(method, attack_mode="train", steps=3)
        model = one_epoch(c, digits)[0]
        assert batches_seen(model) == clean + 3 + len(PASSES[method])


OBJECTIVES = {
    "natural": lambda clean, adv, y: F.cross_entropy(adv, y),
    "at": lambda clean, adv, y: F.cross_entropy(adv, y),
    "at-fr": lambda clean, adv, y: F.cross_entropy(adv, y)
    + 0.5 * losses.frequency_regularization(adv, clean),
    "at-sar": lambda clean, adv, y: F.cross_entropy(adv, y)
    + 0.5 * losses.frequency_regularization(adv, clean),
    "trades": lambda clean, adv, y: losses.trades(clean, adv, y, beta=3.0),
    "mart": lambda clean, adv, y: losses.mart(clean, adv, y, beta=3.0),
    "at-awp": lambda clean, adv, y: F.cross_entropy(adv, y),
    "trades-awp": lambda clean, adv, y: losses.trades(clean, adv, y, beta=3.0),
}


@pytest.mark.parametrize("method", TRAINED)
def test_objective_and_gradient_are_those_of_its_passes_and_so_is_batchnorm(method, digits):
    c = settings(method, beta=3.0, fr_lambda=0.5)
    model = new_model(c).train()
    twin, x, y = copy.deepcopy(model), data.to_float(digits.images), digits.labels
    x_adv = x if method == "natural" else 1 - x
    loss, terms = METHODS[method].loss(model, x, x_adv, y, c, 0)
    logits = {which: twin({"c": x, "a": x_adv}[which]) for which in PASSES[method]}
    expected = OBJECTIVES[method](logits.get("c"), logits.get("a", logits.get("c")), y)
    assert same(state(model), state(twin))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close([p.grad for p in model.parameters()],
                               [p.grad for p in twin.parameters()], rtol=1e-4, atol=1e-6)
    name = {"trades": "loss_trades", "trades-awp": "loss_trades", "mart": "loss_mart"}
    assert name.get(method, "loss_ce") in terms
    assert ("loss_fr" in terms) == (method in ("at-fr", "at-sar"))


# --- the attack in training


@pytest.mark.parametrize("method", TRAINED[1:])
def test_each_method_starts_where_its_own_code_does(method, digits, monkeypatch):
    calls = attacked(monkeypatch)
    one_epoch(settings(method, steps=7, eps=0.1, step_size=0.02), digits)
    call, = calls
    assert call["random_start"] == ("gaussian" if method in ("trades", "mart", "trades-awp")
                                    else True)
    assert (call["eps"], call["step_size"], call["steps"], call["mode"]) == (0.1, 0.02, 7, "eval")
    assert callable(call["loss"]) if "trades" in method else call["loss"] == "ce"
    assert isinstance(call["generator"], torch.Generator)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("method", ["trades", "trades-awp"])
def test_trades_ascends_the_divergence_from_the_clean_prediction(method, fast, digits, monkeypatch):
    calls = attacked(monkeypatch)
    c = settings(method, fast=fast)
    before = new_model(c).eval()
    one_epoch(c, digits)
    logits = torch.randn(16, 10).requires_grad_()
    value = calls[0]["loss"](logits, calls[0]["y"])
    with torch.no_grad():
        p = before(calls[0]["x"]).double().exp()
        p /= p.sum(1, keepdim=True)
    q = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    expected = (p * (p / q).log()).sum(1).float()
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), logits),
                               torch.autograd.grad(expected.sum(), logits), rtol=1e-3, atol=1e-5)


def gaussian(x, eps=8 / 255, seed=0):
    """Where an attack starts: one step of length 0."""
    return attacks.pgd(lambda x: x.flatten(1)[:, :2], x, torch.zeros(len(x), dtype=torch.int64),
                       eps=eps, step_size=0, steps=1, random_start="gaussian",
                       generator=torch.Generator().manual_seed(seed))


def test_the_gaussian_start_is_a_thousandth_of_normal_noise():
    x = torch.full((4, 3, 32, 32), 0.5)
    noise = (gaussian(x) - x) * 1000
    assert abs(noise.mean()) < 0.03 and noise.std().item() == pytest.approx(1, abs=0.03)
    for reach, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):  # uniform noise has none beyond
        assert (noise.abs() < reach).float().mean().item() == pytest.approx(share, abs=0.015)
    assert torch.equal(gaussian(x), gaussian(x))
    assert not torch.equal(gaussian(x), gaussian(x, seed=1))


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_the_gaussian_start_is_clipped_only_after_the_first_pass(grey):
    x, eps, seen = torch.full((2, 3, 16, 16), grey), 0.0005, []

    def model(x):
        seen.append(x.detach().clone())
        return x.flatten(1)[:, :2]

    attacks.pgd(model, x, torch.tensor([0, 1]), eps=eps, step_size=0, steps=2,
                random_start="gaussian", generator=torch.Generator().manual_seed(0))
    first, second = seen
    assert (first - x).std().item() == pytest.approx(0.001, rel=0.1)
    torch.testing.assert_close(second, first.clamp(grey - eps, grey + eps).clamp(0, 1))
    start = gaussian(x, eps)
    assert torch.equal(start, second) and start.unique().numel() > 10


# --- when a part begins, and what is one and the same


@pytest.mark.parametrize(("method", "until", "key"), [
    ("at-awp", "at", "awp_start_epoch"),  # TRADES-AWP passes the batches in an order of its own
    ("at-fr", "at", "fr_start_epoch"), ("at-sar", "at", "fr_start_epoch")])
def test_until_its_first_epoch_a_method_is_the_one_it_adds_to(method, until, key, digits):
    late = settings(method, **{key: 2}, epochs=4)
    for epoch in (0, 1, 2, 3):
        plain = state(one_epoch(settings(until, epochs=4), digits, epoch=epoch)[0])
        assert same(state(one_epoch(late, digits, epoch=epoch)[0]), plain) == (epoch < 2)


def test_sar_is_fr_under_its_second_name():
    fr, sar = (METHODS[name] for name in ("at-fr", "at-sar"))
    assert replace(sar, averaged=fr.averaged) == fr and sar.averaged == "at-sar-wa"


# --- the official recipes


@pytest.mark.parametrize(("method", "drops"), [
    ("trades", {74: 0.1}), ("mart", {74: 0.1, 89: 0.01}), ("at", {100: 0.1, 150: 0.01}),
    ("at-awp", {100: 0.1, 150: 0.01}), ("trades-awp", {99: 0.1, 149: 0.01})])
def test_an_official_learning_rate_drops_where_its_code_does(method, drops):
    c = config.load("paper", method=method, recipe="official")
    wanted = [0.1 * ([1.0] + [share for first, share in drops.items() if epoch >= first])[-1]
              for epoch in range(c.epochs)]
    for within in (0, 0.5, 0.99):
        assert [train.learning_rate(c, epoch + within) for epoch in range(c.epochs)] \
            == pytest.approx(wanted, rel=1e-9)
    if c.epochs == 76:
        assert sum(rate < 0.05 for rate in wanted) == 2


def test_under_the_official_recipe_awp_waits_for_its_tenth_epoch(digits):
    official = {"awp_start_epoch": OFFICIAL["trades-awp"]["awp_start_epoch"]}
    plain = [one_epoch(settings("trades", epochs=10), digits, epoch=e)[1] for e in (8, 9)]
    awp = [one_epoch(settings("trades-awp", **official, epochs=10), digits, epoch=e)[1]
           for e in (8, 9)]
    assert awp[0] == plain[0] and awp[1] != plain[1]
