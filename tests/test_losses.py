"""The regulariser against its definition, written out as sums of cosines and sines in float64."""

import math

import pytest
import torch

from frlib.losses import frequency_regularization

TRANSFORMS = ("class", "batch-class")
SHAPES = [(4, 10), (3, 7), (1, 10), (5, 1)]


def logits(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * 3 for _ in range(2)]


def dft_terms(rows, wave_of):
    """|real| + |imaginary| of sum_t rows[t] * exp(-2 pi i phase) per frequency, term by term."""
    terms = []
    for phases in wave_of:
        real = sum(v * math.cos(2 * math.pi * p) for v, p in zip(rows, phases, strict=True))
        imaginary = sum(-v * math.sin(2 * math.pi * p) for v, p in zip(rows, phases, strict=True))
        terms.append(abs(real) + abs(imaginary))
    return terms


def by_class(adv, clean):
    """Equation 2: per example the sum over frequencies, then the mean over examples."""
    classes = adv.shape[1]
    waves = [[k * c / classes for c in range(classes)] for k in range(classes)]
    per_example = [sum(dft_terms((a - b).tolist(), waves))
                   for a, b in zip(adv.double(), clean.double(), strict=True)]
    return sum(per_example) / len(per_example)


def by_batch_and_class(adv, clean):
    """The released code: mean over every real and imaginary part of the 2-D transform."""
    n, classes = adv.shape
    waves = [[m * i / n + k * c / classes for i in range(n) for c in range(classes)]
             for m in range(n) for k in range(classes)]
    terms = dft_terms((adv.double() - clean.double()).flatten().tolist(), waves)
    return sum(terms) / (2 * n * classes)


DEFINITIONS = {"class": by_class, "batch-class": by_batch_and_class}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_value_is_the_definition_spelled_out(transform, shape):
    adv, clean = logits(shape)
    value = frequency_regularization(adv, clean, transform=transform)
    assert value.shape == ()
    assert value.item() == pytest.approx(DEFINITIONS[transform](adv, clean), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_both_logits_carry_the_gradient_of_the_definition(transform, shape):
    adv, clean = (z.requires_grad_() for z in logits(shape))
    value = frequency_regularization(adv, clean, transform=transform)
    got_adv, got_clean = torch.autograd.grad(value, (adv, clean))

    def definition(z):
        return DEFINITIONS[transform](z, clean.detach())
    base, step = adv.detach().double(), 1e-7
    expected = torch.zeros_like(base)
    for index in torch.cartesian_prod(*map(torch.arange, shape)).view(-1, 2).tolist():
        nudge = torch.zeros_like(base)
        nudge[tuple(index)] = step
        expected[tuple(index)] = (definition(base + nudge) - definition(base - nudge)) / (2 * step)
    assert expected.abs().max() > 0
    torch.testing.assert_close(got_adv.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got_clean, -got_adv)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equal_logits_cost_nothing_and_scale_comes_out(transform):
    adv, clean = logits((4, 10))
    assert frequency_regularization(adv, adv.clone(), transform=transform) == 0
    one = frequency_regularization(adv, clean, transform=transform)
    five = frequency_regularization(5 * adv, 5 * clean, transform=transform)
    assert five.item() == pytest.approx(5 * one.item(), rel=1e-5) and one > 0
    assert frequency_regularization(clean, adv, transform=transform).item() \
        == pytest.approx(one.item(), rel=1e-6)


def test_the_paper_and_the_code_differ_by_twice_the_classes_for_one_example():
    adv, clean = logits((1, 10))  # one example: both transforms are the same, sum against mean
    ratio = frequency_regularization(adv, clean) \
        / frequency_regularization(adv, clean, transform="batch-class")
    assert ratio.item() == pytest.approx(2 * 10, rel=1e-5)


def test_a_constant_difference_sits_in_the_zero_frequency():
    clean = torch.zeros(4, 10)
    # class: only frequency 0, of size 10 * 0.5; batch-class: one entry of 40 * 0.5 among 80
    assert frequency_regularization(clean + 0.5, clean).item() == pytest.approx(5)
    assert frequency_regularization(clean + 0.5, clean, transform="batch-class").item() \
        == pytest.approx(0.25)


def test_the_class_reading_is_the_default_and_does_not_mix_examples():
    adv, clean = logits((6, 10))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    mixed = frequency_regularization(adv[order], clean[order])
    assert mixed.item() == pytest.approx(frequency_regularization(adv, clean).item(), rel=1e-6)
    each = [frequency_regularization(adv[i:i + 1], clean[i:i + 1]).item() for i in range(6)]
    assert mixed.item() == pytest.approx(sum(each) / 6, rel=1e-5)


def test_half_precision_logits_are_computed_in_float32():
    adv, clean = (z.half() for z in logits((4, 10)))
    value = frequency_regularization(adv, clean)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_class(adv, clean), rel=1e-5)


@pytest.mark.parametrize("shapes", [((4, 10), (4, 9)), ((4, 10), (1, 10)), ((10,), (10,)),
                                    ((2, 4, 10), (2, 4, 10)), ((0, 10), (0, 10))])
def test_wrong_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"two non-empty \(N, classes\) matrices"):
        frequency_regularization(*map(torch.zeros, shapes))


def test_an_unknown_transform_names_the_choices():
    with pytest.raises(ValueError, match="transform = 'dct': choose 'class' or 'batch-class'"):
        frequency_regularization(*logits((2, 3)), transform="dct")
