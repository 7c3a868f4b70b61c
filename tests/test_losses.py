"""The regulariser and its rivals against their definitions, written out in float64."""

import math

import pytest
import torch

from frlib import losses
from frlib.losses import cross_entropy, frequency_regularization, kl, mart, trades

TRANSFORMS = tuple(losses.TRANSFORMS)
SHAPES = [(3, 7), (1, 10), (5, 1)]


def logits(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * 3 for _ in range(2)]


def dft(n):
    """The matrix of the transform: exp(-2 pi i j k / n)."""
    phases = 2 * math.pi * torch.outer(torch.arange(n), torch.arange(n)).double() / n
    return torch.complex(phases.cos(), -phases.sin())


def parts(z):
    """|real| + |imaginary|, of every entry."""
    return z.real.abs() + z.imag.abs()


def by_class(d):
    """Equation 2: per example the sum over frequencies, then the mean over examples."""
    return parts(d.to(torch.complex128) @ dft(d.shape[1])).sum(1).mean()


ORDER = {n: torch.randperm(n, generator=torch.Generator().manual_seed(0)) for n in range(11)}
DEFINITIONS = {  # of the differences (N, classes), float64
    "class": by_class,
    # the released code: mean over every real and imaginary part of the 2-D transform
    "batch-class": lambda d: parts(dft(len(d)) @ d.to(torch.complex128)
                                   @ dft(d.shape[1])).mean() / 2,
    "none": lambda d: d.abs().sum(1).mean(),
    "permuted": lambda d: by_class(d[:, ORDER[d.shape[1]]]),  # the same order at every call
    "orthogonal": lambda d: (d @ losses.random_rotation_matrix(d.shape[1])).abs().sum(1).mean(),
    "l2": lambda d: (d.to(torch.complex128) @ dft(d.shape[1])).abs().square().sum(1).sqrt().mean(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_value_and_gradients_are_those_of_the_definition(transform, shape):
    adv, clean = (z.requires_grad_() for z in logits(shape))
    value = frequency_regularization(adv, clean, transform=transform)
    assert value.shape == () and frequency_regularization(adv, adv, transform=transform) == 0
    if transform == "class":
        assert value == frequency_regularization(adv, clean)
    change = (adv - clean).detach().double().requires_grad_()
    expected = DEFINITIONS[transform](change)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    got_adv, got_clean = torch.autograd.grad(value, (adv, clean))
    wanted, = torch.autograd.grad(expected, change)
    assert wanted.abs().max() > 0
    torch.testing.assert_close(got_adv.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got_clean, -got_adv)


def test_the_controls_order_and_rotation_are_fixed_and_do_what_they_say():
    for size in (1, 4, 10, 100):
        matrix = losses.random_rotation_matrix(size)
        assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-9)
        assert torch.equal(matrix, losses.random_rotation_matrix(size))
    one = torch.zeros(1, 10)
    one[0, 3] = 1  # a single logit: every order of the classes has the same spectrum
    terms = {name: frequency_regularization(one, 0 * one, transform=name).item()
             for name in ("class", "permuted", "none", "orthogonal", "l2")}
    assert terms["permuted"] == pytest.approx(terms["class"], rel=1e-5)
    assert terms["none"] == 1 and terms["l2"] == pytest.approx(10 ** 0.5)
    assert 1 < terms["orthogonal"] < 10 ** 0.5


def test_half_precision_logits_are_computed_in_float32():
    adv, clean = (z.half() for z in logits((4, 10)))
    value = frequency_regularization(adv, clean)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_class(adv.double() - clean.double()).item(), rel=1e-5)


def test_an_unknown_transform_names_the_choices():
    with pytest.raises(ValueError, match="unknown transform 'dct': choose one of class, "):
        frequency_regularization(*logits((2, 3)), transform="dct")


# --- the rivals

RIVALS = {"trades": trades, "mart": mart}


def softmax(z):
    return z.exp() / z.exp().sum(1, keepdim=True)


def kl_written(clean, adv):
    p, q = softmax(clean), softmax(adv)
    return (p * (p.log() - q.log())).sum(1)


def trades_written(clean, adv, y, beta=6.0):
    p, n = softmax(clean), len(y)
    natural = sum(-p[i, y[i]].log() for i in range(n)) / n
    return natural + beta * sum(kl_written(clean, adv)) / n


def mart_written(clean, adv, y, beta=6.0):
    p, q, total = softmax(clean), softmax(adv), 0
    for i, true in enumerate(y.tolist()):
        wrong = max((c for c in range(q.shape[1]) if c != true), key=lambda c: q[i, c].item())
        boosted = -q[i, true].log() - (1.0001 - q[i, wrong] + 1e-12).log()
        distance = (p[i] * (p[i].log() - (q[i] + 1e-12).log())).sum()
        total = total + boosted + beta * distance * (1.0000001 - p[i, true])
    return total / len(y)


WRITTEN = {"trades": trades_written, "mart": mart_written}


def batch(dtype=torch.float64, seed=0):
    """Clean and attacked logits (6, 5) and labels: half of the attacks fail, half succeed."""
    generator = torch.Generator().manual_seed(seed)
    clean, adv = (2 * torch.randn(6, 5, generator=generator, dtype=torch.float64).to(dtype)
                  for _ in range(2))
    y = adv.argmax(1)
    y[3:] = (y[3:] + 1) % 5
    return clean.requires_grad_(), adv.requires_grad_(), y


def gradients(value, *inputs):
    return torch.autograd.grad(value, inputs)


def test_the_divergence_is_the_definition_per_example():
    clean, adv, _ = batch()
    torch.testing.assert_close(kl(clean, adv), kl_written(clean, adv), rtol=1e-10, atol=0)
    torch.testing.assert_close(gradients(kl(clean, adv).sum(), clean, adv),
                               gradients(kl_written(clean, adv).sum(), clean, adv),
                               rtol=1e-9, atol=1e-12)


def test_the_divergence_of_equal_logits_is_zero_and_so_are_its_gradients():
    clean, adv, _ = batch(torch.float32)
    same = clean.detach().clone().requires_grad_()
    assert (kl(clean, same) == 0).all()
    for gradient in gradients(kl(clean, same).sum(), clean, same):
        assert gradient.abs().max() < 1e-6
    assert (kl(clean, adv) > 0).all() and kl(clean, adv).shape == (6,)


@pytest.mark.parametrize("beta", [None, 0.5])
@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_its_definition_and_nothing_is_detached(name, beta):
    given = {} if beta is None else {"beta": beta}  # of itself 6
    clean, adv, y = batch()
    value, expected = (table[name](clean, adv, y, **given) for table in (RIVALS, WRITTEN))
    assert value.shape == () and value.dtype == torch.float64
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    got, wanted = gradients(value, clean, adv), gradients(expected, clean, adv)
    assert all(gradient.abs().max() > 1e-3 for gradient in wanted)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_marts_constants_keep_its_logarithm_and_its_weight_above_zero():
    """The attack moves all mass to a wrong class: 1 - p', 1 - p[y] and p'[y] alone would be 0."""
    clean, adv = torch.tensor([[[60.0, 0.0]], [[0.0, 60.0]]], dtype=torch.float64)
    y = torch.tensor([0])
    assert mart(clean, adv, y, beta=0.0).item() \
        == pytest.approx(60 - math.log(1e-4 + 1e-12), rel=3e-12)
    second = mart(clean, adv, y, beta=1e6) - mart(clean, adv, y, beta=0.0)
    assert second.item() == pytest.approx(1e6 * -math.log(1e-12) * 1e-7, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*RIVALS, "kl"])
def test_rivals_of_low_precision_logits_are_computed_in_float32(name, dtype):
    clean, adv, y = batch(dtype)
    exact = clean.detach().double(), adv.detach().double()
    if name == "kl":
        value, expected = kl(clean, adv).sum(), kl_written(*exact).sum()
    else:
        value, expected = RIVALS[name](clean, adv, y), WRITTEN[name](*exact, y)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("true", [0, 1, 2])
@pytest.mark.parametrize("adv_gap", [200.0, -200.0])
@pytest.mark.parametrize("clean_gap", [200.0, -200.0])
@pytest.mark.parametrize("name", [*RIVALS, "kl"])
def test_a_probability_that_underflows_costs_no_nan(name, clean_gap, adv_gap, true):
    clean, adv = (torch.tensor([[gap, 0.0, 0.0]]).requires_grad_() for gap in (clean_gap, adv_gap))
    y = torch.tensor([true])
    value = kl(clean, adv).sum() if name == "kl" else RIVALS[name](clean, adv, y)
    assert value.isfinite() and value >= -math.log(1.0001) - 1e-6  # what MART's constant allows
    assert all(gradient.isfinite().all() for gradient in gradients(value, clean, adv))


@pytest.mark.parametrize("label", [-100, -1, 3])
@pytest.mark.parametrize("name", ["cross_entropy", *RIVALS])
def test_a_label_that_is_no_class_is_an_error(name, label):
    logits, y = torch.zeros(2, 3), torch.tensor([0, label])
    with pytest.raises((IndexError, RuntimeError), match=f"{label} is out of bounds"):
        cross_entropy(logits, y) if name == "cross_entropy" else RIVALS[name](logits, logits, y)


@pytest.mark.parametrize("shapes", [((4, 10), (4, 9)), ((4, 10), (1, 10)), ((4,), (4,)),
                                    ((2, 4, 10), (2, 4, 10)), ((0, 10), (0, 10))])
def test_what_are_no_two_matrices_of_one_shape_is_refused(shapes):
    clean, adv = map(torch.zeros, shapes)
    y = torch.zeros(len(clean), dtype=torch.int64)
    for loss in (frequency_regularization, lambda *z: trades(*z, y), lambda *z: mart(*z, y)):
        with pytest.raises(ValueError, match=r"two non-empty \(N, classes\) matrices"):
            loss(clean, adv)


@pytest.mark.parametrize("which", [0, 1])
def test_a_nan_logit_makes_every_loss_nan_and_never_a_number(which):
    pair, y = logits((3, 4)), torch.ones(3, dtype=torch.int64)
    pair[which][0, 0] = torch.nan
    assert frequency_regularization(*pair).isnan()
    assert trades(*pair, y).isnan() and mart(*pair, y).isnan()
