"""Attacks on a linear model, whose worst case is known on paper, and the contract of all attacks.

For logits W x + b of two classes, the best change within eps moves the margin by
eps * ||w1 - w0||_1 as long as no pixel reaches 0 or 1, so images here stay in [0.2, 0.8].
"""

import pytest
import torch
from torch import nn

from frlib import spectral
from frlib.attacks import cross_entropy, cw, fgsm, margin, pgd, subspace_pgd

EPS = 8 / 255
STEP = {"step_size": 2 / 255, "steps": 10}
ATTACKS = {
    "fgsm": lambda model, x, y, eps=EPS: fgsm(model, x, y, eps=eps),
    "pgd": lambda model, x, y, eps=EPS: pgd(model, x, y, eps=eps, step_size=eps / 4, steps=10),
    "cw": lambda model, x, y, eps=EPS: cw(model, x, y, eps=eps, step_size=eps / 4),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def images(n=16, seed=0):
    """(n, 1, 2, 2) in [0.2, 0.8] and random labels."""
    generator = torch.Generator().manual_seed(seed)
    return (0.2 + 0.6 * torch.rand(n, 1, 2, 2, generator=generator),
            torch.randint(0, 2, (n,), generator=generator))


class Net(nn.Module):
    """A small network with everything an attack could disturb: BatchNorm, dropout, gradients."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(),
                                      nn.Flatten(), nn.Dropout(0.5), nn.Linear(3, 2))

    def forward(self, x):
        return self.body(x)


def snapshot(model):
    return ([module.training for module in model.modules()],
            [p.requires_grad for p in model.parameters()],
            [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            {k: v.clone() for k, v in model.state_dict().items()})


def same(before, after):
    return (before[:2] == after[:2]
            and all(b is a is None or torch.equal(b, a)
                    for b, a in zip(before[2], after[2], strict=True))
            and all(torch.equal(v, after[3][k]) for k, v in before[3].items()))


# --- the closed form


@every_attack
def test_the_margin_moves_by_eps_times_the_l1_norm(tiny, attack):
    x, y = images()
    moved = margin(tiny(attack(tiny, x, y)), y) - margin(tiny(x), y)
    optimum = EPS * tiny.dw.abs().sum()
    assert optimum.item() == pytest.approx(EPS * 8.5)
    torch.testing.assert_close(moved, optimum.expand(len(y)), rtol=0.01, atol=0)


@every_attack
def test_an_example_flips_exactly_when_eps_exceeds_its_radius(tiny, attack):
    x, _ = images()
    y, tested = tiny(x).argmax(1), 0
    for image, label in zip(x.split(1), y.split(1), strict=True):
        radius = (-margin(tiny(image), label) / tiny.dw.abs().sum()).item()
        if radius < 0.19:  # else clipping at 0 or 1 could come into play
            assert tiny(attack(tiny, image, label, 0.99 * radius)).argmax(1) == label
            assert tiny(attack(tiny, image, label, 1.01 * radius)).argmax(1) != label
            tested += 1
    assert tested >= 8


def test_losses_are_what_they_say():
    logits, y = torch.tensor([[1.0, 4.0, 2.0], [0.0, 0.0, 3.0]]), torch.tensor([1, 0])
    torch.testing.assert_close(margin(logits, y), torch.tensor([-2.0, 3.0]))
    torch.testing.assert_close(cross_entropy(logits, y),
                               torch.stack([logits[i].logsumexp(0) - logits[i, y[i]]
                                            for i in range(2)]))
    for given, computed in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32),
                            (torch.float32, torch.float32), (torch.float64, torch.float64)):
        for loss in (margin, cross_entropy):
            assert loss(logits.to(given), y).dtype == computed


# --- the contract


@every_attack
def test_mode_parameters_and_gradients_are_left_alone(attack):
    model = Net().train()
    model.body[1].eval()
    model.body[0].weight.grad = torch.ones_like(model.body[0].weight)
    model.body[5].bias.requires_grad_(False)
    before = snapshot(model)
    x, y = images()
    kept = x.clone()
    attack(model, x, y)
    assert same(before, snapshot(model))
    assert torch.equal(x, kept) and not x.requires_grad
    with pytest.raises(IndexError):
        pgd(model, x, y, eps=EPS, **STEP, loss=lambda logits, y: logits[:, 99])
    assert same(before, snapshot(model))


@every_attack
def test_mode_gradients_and_kind_of_the_model_make_no_difference(tiny, attack):
    """In train mode, under no_grad, from images that carry gradient, as a function: the same."""
    model, (x, y) = Net(), images()

    def attacked(model, x=x):
        torch.manual_seed(1)
        return attack(model, x, y)
    expected = attacked(model.eval())
    assert torch.equal(attacked(model.train()), expected)
    expected = attacked(tiny)
    assert not (expected == x).all()
    with torch.no_grad():
        assert torch.equal(attacked(tiny), expected)
    assert torch.equal(attacked(tiny, x.clone().requires_grad_()), expected)
    assert torch.equal(attacked(lambda x: tiny(x)), expected)


# --- randomness and restarts


def test_a_generator_makes_it_repeat_and_leaves_the_global_one_alone(tiny):
    x, y = images()
    state = torch.get_rng_state()

    def attacked(seed, attack=pgd):
        return attack(tiny, x, y, eps=EPS, step_size=EPS / 50, steps=2,
                      generator=torch.Generator().manual_seed(seed))
    for attack in (pgd, cw):
        assert torch.equal(attacked(3, attack), attacked(3, attack))
        assert not torch.equal(attacked(3, attack), attacked(4, attack))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_start_can_be_switched_off(tiny):
    x, y = images()
    still = {"eps": EPS, "step_size": 0.0, "steps": 1}
    assert torch.equal(pgd(tiny, x, y, **still, random_start=False), x)
    start = pgd(tiny, x, y, **still) - x
    assert (start != 0).all() and start.abs().max() <= EPS and start.std() > 0.4 * EPS


def test_restarts_keep_the_worst_case_of_each_example(tiny):
    x, y = images()
    still = {"eps": EPS, "step_size": 0.0, "steps": 1, "loss": "margin"}
    generator = torch.Generator().manual_seed(5)
    tries = torch.stack([pgd(tiny, x, y, **still, generator=generator) for _ in range(6)])
    margins = torch.stack([margin(tiny(t), y) for t in tries])
    worst = margins.argmax(0)
    assert len(worst.unique()) > 2  # not one restart for all
    out = pgd(tiny, x, y, **still, restarts=6, generator=torch.Generator().manual_seed(5))
    assert torch.equal(out, tries[worst, torch.arange(len(y))])


def test_a_misclassified_restart_beats_a_higher_loss(tiny):
    x, _ = images(64)
    y = tiny(x).argmax(1)
    close = margin(tiny(x), y) > -0.3  # eps 0.05 can move the margin by 0.425
    x, y = x[close], y[close]
    still = {"eps": 0.05, "step_size": 0.0, "steps": 1, "loss": lambda z, y: -margin(z, y)}
    generator = torch.Generator().manual_seed(5)
    broken = torch.stack([tiny(pgd(tiny, x, y, **still, generator=generator)).argmax(1) != y
                          for _ in range(8)])
    assert 0 < broken.sum() < broken.numel()
    out = pgd(tiny, x, y, **still, restarts=8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(tiny(out).argmax(1) != y, broken.any(0))


def test_the_loss_may_be_a_function(tiny):
    x, y = images()
    calls = []

    def away_from_class_one(logits, labels):
        calls.append((logits.shape, torch.equal(labels, y)))
        return -logits[:, 1]
    x_adv = pgd(tiny, x, y, eps=EPS, **STEP, loss=away_from_class_one)
    expected = x - EPS * tiny.fc.weight[1].detach().sign().view(1, 1, 2, 2)
    torch.testing.assert_close(x_adv, expected)
    assert calls == [((16, 2), True)] * 10


def test_train_mode_attacks_with_batch_statistics():
    x, y = images()
    kwargs = {"eps": EPS, "step_size": EPS, "steps": 1, "random_start": False}
    model, twin = Net().eval(), Net().train()
    model.body[4].p = twin.body[4].p = 0.0
    leaf = x.clone().requires_grad_()
    gradient, = torch.autograd.grad(cross_entropy(twin(leaf), y).sum(), leaf)
    x_adv = pgd(model, x, y, **kwargs, mode="train")
    torch.testing.assert_close(x_adv, x + EPS * gradient.sign())
    assert not any(module.training for module in model.modules())
    assert torch.equal(model.body[1].running_mean, twin.body[1].running_mean)
    assert not torch.equal(pgd(model, x, y, **kwargs), x_adv)


# --- errors


X, Y = images(4)
WRONG = {
    "uint8 images": ({"x": (X * 255).byte()}, "float NCHW.*uint8.*divide uint8 images by 255"),
    "above 1": ({"x": X + 0.5}, r"in \[0, 1\].*values from"),
    "0 to 255": ({"x": (X * 255).round()}, r"in \[0, 1\].*values from"),
    "nan": ({"x": torch.where(X == X.max(), torch.nan, X)}, "without NaN"),
    "eps in grey levels": ({"eps": 8}, r"eps = 8: must be in \[0, 1\].*8/255"),
    "step in grey levels": ({"step_size": 2}, r"step_size = 2: must be in \[0, 1\].*2/255"),
    "no steps": ({"steps": 0}, "steps = 0, restarts = 1: both must be at least 1"),
    "no restarts": ({"restarts": 0}, "restarts = 0: both must be at least 1"),
    "int32 labels": ({"y": Y.int()}, r"int64 of shape \(4,\), not torch.int32"),
    "label column": ({"y": Y[:, None]}, r"not torch.int64 of shape \(4, 1\)"),
    "ignored label": ({"y": Y - 100}, "class indices from 0, found -100"),
    "unknown loss": ({"loss": "kl"}, "loss = 'kl': choose 'ce', 'margin' or a function"),
    "unknown mode": ({"mode": "test"}, "mode = 'test': choose 'eval' or 'train'"),
}


SHARED = ("uint8 images", "0 to 255", "eps in grey levels", "int32 labels")  # of every attack


def free(change):
    return change


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_told_what_it_may_be(tiny, name):
    change, message = WRONG[name]
    arguments = {"x": X, "y": Y, "eps": EPS, **STEP} | change
    with pytest.raises(ValueError, match=message):
        pgd(tiny.train(), **arguments)
    assert tiny.training and tiny.fc.training
    x, y, eps = (arguments[name] for name in ("x", "y", "eps"))
    for attack in (*ATTACKS.values(), lambda model, x, y, eps: subspace_pgd(
            model, x, y, project=free, eps=eps, **STEP)) if name in SHARED else ():
        with pytest.raises(ValueError, match=message):
            attack(tiny, x, y, eps)


def test_values_may_go_unchecked_but_shapes_may_not(tiny):
    x, y = torch.full((2, 1, 2, 2), 1.5), torch.zeros(2, dtype=torch.int64)
    assert pgd(tiny, x, y, eps=0.1, step_size=0.1, steps=1, check=False).max() <= 1
    with pytest.raises(ValueError, match="labels must be int64"):
        pgd(tiny, x, y.int(), eps=0.1, step_size=0.1, steps=1, check=False)


def test_a_radius_is_a_number_or_a_text(tiny):
    calls = {fgsm: {}, cw: {"step_size": "2/255"}, pgd: {"step_size": "2/255", "steps": 2},
             subspace_pgd: {"step_size": "2/255", "steps": 2, "project": free}}
    for attack, more in calls.items():
        def attacked(eps, attack=attack, more=more):
            torch.manual_seed(0)
            return attack(tiny, X, Y, eps=eps, **more)
        assert torch.equal(attacked("8/255"), attacked(EPS))
        for eps in ("8", "8/0", "x", None):
            shown = eps if eps == "8" else repr(eps)
            with pytest.raises(ValueError, match=f"eps = {shown}: must be"):
                attacked(eps)


# --- PGD within a subspace


class OneWave(nn.Module):
    """Two logits on (N, 1, 16, 16), plus and minus the inner product with one Fourier wave."""

    def __init__(self, vertical, horizontal):
        super().__init__()
        self.wave = spectral.wave(16, 16, vertical, horizontal)

    def forward(self, x):
        along = (x[:, 0] * self.wave).sum((-2, -1))
        return torch.stack([along, -along], 1)


def band(low, high):
    return lambda change: spectral.band_pass(change, low, high)


def greys(n=6):
    """(n, 1, 16, 16) in [0.3, 0.7], where no attack of eps 0.2 reaches 0 or 1; and labels."""
    generator = torch.Generator().manual_seed(0)
    return (0.3 + 0.4 * torch.rand(n, 1, 16, 16, generator=generator),
            torch.randint(0, 2, (n,), generator=generator))


@pytest.mark.parametrize(("vertical", "horizontal"), [(0, 2), (2, 0)])
def test_within_its_ring_a_wave_is_attacked_by_the_wave_itself(vertical, horizontal):
    """The ring holds this wave, its quarter-turn shift and their transposes, no harmonics. By
    symmetry the best change of peak eps is eps * wave / peak, so the margin moves by
    2 * eps * |wave|^2 / peak, with |wave| = 1."""
    model, (x, y) = OneWave(vertical, horizontal), greys()
    adv = subspace_pgd(model, x, y, project=band(1.5, 2.2), eps=0.1, step_size=0.025, steps=20)
    moved = margin(model(adv), y) - margin(model(x), y)
    optimum = 2 * 0.1 / model.wave.max()
    torch.testing.assert_close(moved, optimum.expand(len(y)), rtol=0.01, atol=0)
    torch.testing.assert_close((adv - x).abs().amax((1, 2, 3)), torch.full((len(y),), 0.1))


@pytest.mark.parametrize("limits", [(0, 1.5), (2.2, 5), (5, torch.inf)])
def test_outside_its_band_a_wave_cannot_be_attacked(limits):
    model, (x, y) = OneWave(0, 2), greys()
    adv = subspace_pgd(model, x, y, project=band(*limits), eps=0.1, step_size=0.025, steps=5)
    torch.testing.assert_close(model(adv), model(x), atol=1e-5, rtol=0)


def test_on_black_images_the_ball_and_the_range_come_before_the_band():
    model, y = OneWave(0, 2), torch.tensor([0, 1])
    x = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    adv = subspace_pgd(model, x, y, project=band(1.5, 2.2), eps=0.1, step_size=0.025, steps=5)
    assert 0 <= adv.min() and adv.max() <= 1 and (adv - x).abs().max() <= 0.1 + 1e-6
    # what is left of a wave without its negative half: of the energy of any such half, half is wave
    share = spectral.energy_shares(adv - x, [1.5, 2.2])[:, 1]
    torch.testing.assert_close(share, torch.full((2,), 0.5), atol=1e-3, rtol=0)
    assert (margin(model(adv), y) > margin(model(x), y)).all()


def test_with_every_direction_free_it_is_pgd():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 9, 2))
    x, y = torch.rand(8, 1, 4, 4), torch.randint(0, 2, (8,))  # some pixels near 0 and 1
    for start in (True, False):
        torch.manual_seed(1)
        expected = pgd(model, x, y, eps=EPS, **STEP, random_start=start)
        torch.manual_seed(1)
        adv = subspace_pgd(model, x, y, project=free, eps=EPS, **STEP,
                           random_start=start)
        torch.testing.assert_close(adv, expected, atol=1e-6, rtol=0)
        assert ((adv - x).abs().amax((1, 2, 3)) > 0.9 * EPS).all()


@pytest.mark.parametrize("eps", [EPS, 0.3, 0.0])
def test_a_confined_attack_keeps_the_contract_of_all(eps):
    model = Net().train()
    before = snapshot(model)
    x, y = torch.rand(32, 1, 2, 2), torch.randint(0, 2, (32,))
    kept = x.clone()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        adv = subspace_pgd(model, x.requires_grad_(), y, project=band(0, 1), eps=eps,
                           step_size=eps / 4, steps=3, generator=generator)
    assert same(before, snapshot(model)) and torch.equal(x, kept)
    assert not adv.requires_grad and adv.shape == x.shape
    assert 0 <= adv.min() and adv.max() <= 1 and (adv - x).abs().max() <= eps + 1e-6
    empty = subspace_pgd(model, x[:0], y[:0], project=band(0, 1), eps=eps, step_size=0.1, steps=1)
    assert empty.shape == (0, 1, 2, 2)
    with pytest.raises(ValueError, match="rounds = 0: must be at least 1"):
        subspace_pgd(model, x, y, project=free, eps=0.1, step_size=0.1, steps=1, rounds=0)
