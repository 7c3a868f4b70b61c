"""Spectral functions on inputs whose answer is known on paper."""

import itertools
import math
import re
from functools import partial

import pytest
import torch

from frlib import spectral
from frlib.spectral import (
    amplitude,
    band_pass,
    energy_shares,
    high_pass,
    kernel_roughness,
    kernel_roughnesses,
    low_pass,
    radial_energy,
)

SHAPES = [(2, 3, 32, 32), (2, 3, 9, 9), (2, 1, 8, 13), (1, 2, 7, 12)]


def wave(cycles, n=32, axis=-1):
    """(1, 1, n, n): 0.5 plus a cosine of the given number of cycles along one axis."""
    angle = 2 * math.pi * cycles * torch.arange(n, dtype=torch.float64) / n
    image = (0.5 + 0.5 * angle.cos()).float().expand(n, n)
    return (image if axis == -1 else image.T)[None, None]


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize(("bandwidth", "strength"), [(9, 0), (10, 0.5), (11, 1), (32, 1)])
def test_a_wave_of_five_cycles_passes_from_bandwidth_eleven_on(axis, bandwidth, strength):
    # Bandwidth 10 holds frequency -5 but not +5: the real part passes half the wave.
    x = wave(5, axis=axis)
    expected = 0.5 + strength * (x - 0.5)
    torch.testing.assert_close(low_pass(x, bandwidth), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bandwidth", [3, 4, 6])
def test_low_pass_is_the_filter_of_the_paper_spelled_out(shape, bandwidth):
    x = torch.rand(shape)
    height, width = shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    top, left = height // 2 - bandwidth // 2, width // 2 - bandwidth // 2
    patch = torch.zeros_like(spectrum)
    inside = (..., slice(top, top + bandwidth), slice(left, left + bandwidth))
    patch[inside] = spectrum[inside]
    expected = torch.fft.ifft2(torch.fft.ifftshift(patch, dim=(-2, -1))).real
    torch.testing.assert_close(low_pass(x, bandwidth), expected, atol=1e-6, rtol=0)


def test_a_side_shorter_than_the_bandwidth_is_left_alone():
    x = wave(2, n=32)[..., :6, :]  # constant along its 6 rows, 2 cycles along its 32 columns
    torch.testing.assert_close(low_pass(x, 8), x, atol=1e-6, rtol=0)
    x = torch.rand(1, 1, 6, 1).expand(1, 1, 6, 32)
    torch.testing.assert_close(low_pass(x, 8), x, atol=1e-6, rtol=0)


def test_empty_and_non_contiguous_batches_keep_shape_and_dtype():
    empty = torch.rand(0, 3, 8, 8, dtype=torch.float64)
    for out in (low_pass(empty, 4), high_pass(empty, 4), amplitude(empty)):
        assert out.shape == empty.shape and out.dtype == empty.dtype
    assert energy_shares(empty, [1, 2]).shape == (0, 3) and len(band_pass(empty, 1, 2)) == 0
    x = torch.rand(2, 8, 10, 3).permute(0, 3, 1, 2)
    assert not x.is_contiguous()
    torch.testing.assert_close(low_pass(x, 5), low_pass(x.contiguous(), 5))
    torch.testing.assert_close(amplitude(x), amplitude(x.contiguous()))


@pytest.mark.parametrize(("call", "message"), [
    *((partial(low_pass, bandwidth=b), f"an int in 1..12 for 8x12 images, got {b!r}")
      for b in (0, -1, 13, 4.0, True, None, "4")),
    *((partial(band_pass, low=low, high=high), f"got {low} and {high}")
      for low, high in ((-1, 2), (2, 2), (3, 2), (math.nan, 2))),
    *((partial(energy_shares, edges=edges), f"rising radii above 0, got {edges}")
      for edges in ([0], [4, 4], [5, 2], [math.inf]))])
def test_a_radius_that_cannot_be_is_told_what_it_may_be(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(torch.rand(1, 1, 8, 12))


@pytest.mark.parametrize("function", [
    lambda x: low_pass(x, 2), lambda x: high_pass(x, 2), lambda x: band_pass(x, 1, 2), amplitude,
    radial_energy, lambda x: energy_shares(x, [2])])
def test_only_float_batches_are_images(function):
    with pytest.raises(ValueError, match=r"4-D \(N, C, H, W\), got shape \(3, 8, 8\)"):
        function(torch.rand(3, 8, 8))
    for dtype in (torch.uint8, torch.float16, torch.complex64):
        with pytest.raises(ValueError, match=f"float32.*got {dtype}"):
            function(torch.zeros(1, 3, 8, 8, dtype=dtype))


def test_amplitude_puts_each_frequency_in_its_place():
    out = amplitude(wave(5))[0, 0]
    expected = torch.zeros(32, 32)
    expected[16, 16] = 0.5 * 32  # the mean, times sqrt(H * W)
    expected[16, 16 - 5] = expected[16, 16 + 5] = 0.25 * 32
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_radial_energy_sums_to_the_energy_of_the_image(shape):
    x = torch.rand(shape)
    total = x.square().sum((-2, -1)).mean()
    torch.testing.assert_close(radial_energy(x).sum(), total)


def test_radial_energy_of_a_wave_sits_at_its_radius():
    energy = radial_energy(torch.cat([wave(5), wave(5, axis=-2)]))
    expected = torch.zeros(24)  # radii 0 .. round(16 * sqrt(2)) = 23
    expected[0], expected[5] = 0.25 * 32 ** 2, 0.125 * 32 ** 2
    torch.testing.assert_close(energy, expected, atol=1e-3, rtol=0)


def test_high_and_low_pass_make_the_image():
    x = torch.rand(2, 3, 12, 9)
    torch.testing.assert_close(low_pass(x, 5) + high_pass(x, 5), x)
    torch.testing.assert_close(high_pass(wave(5), 9), wave(5) - 0.5, atol=1e-6, rtol=0)
    torch.testing.assert_close(high_pass(wave(5), 11), torch.zeros(1, 1, 32, 32), atol=1e-6, rtol=0)
    flat = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(high_pass(flat, 1), torch.zeros_like(flat), atol=1e-7, rtol=0)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize(("low", "high", "mean", "strength"), [
    (0, 5, 1, 0), (0, 5.1, 1, 1), (5, 6, 0, 1), (4, 5, 0, 0), (5.1, math.inf, 0, 0)])
def test_a_band_holds_its_lower_edge_and_not_its_upper(axis, low, high, mean, strength):
    expected = 0.5 * mean + strength * (wave(5, axis=axis) - 0.5)
    torch.testing.assert_close(band_pass(wave(5, axis=axis), low, high), expected,
                               atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_bands_are_orthogonal_projections_that_sum_to_the_image(shape):
    x = torch.rand(shape, dtype=torch.float64)
    limits = [0, 1.5, 4, math.inf]
    parts = [band_pass(x, *band) for band in itertools.pairwise(limits)]
    torch.testing.assert_close(sum(parts), x)
    for i, part in enumerate(parts):
        torch.testing.assert_close(band_pass(part, limits[i], limits[i + 1]), part)
        assert part.dtype == x.dtype and part.square().sum() > 0
        for other in parts[:i]:
            assert abs((part * other).sum()) < 1e-9


def test_energy_shares_of_waves_and_flat_images_are_known():
    # of 0.5 + 0.5 cos, a third of the energy is in the wave: 0.125 beside 0.25 per pixel
    x = torch.cat([wave(5), wave(5, axis=-2) - 0.5, wave(12), torch.full((1, 1, 32, 32), 0.3),
                   torch.zeros(1, 1, 32, 32)]).repeat(1, 3, 1, 1)
    third = 1 / 3
    expected = torch.tensor([[2 * third, third, 0], [0, 1, 0], [2 * third, 0, third], [1, 0, 0],
                             [0, 0, 0]])
    torch.testing.assert_close(energy_shares(x, [5, 12]), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(energy_shares(x, [5.1])[:2], torch.tensor([[1.0, 0]] * 2))


@pytest.mark.parametrize(("n", "stride", "expected"), [
    (8, 1, [-4, -3, -2, -1, 0, 1, 2, 3]), (8, 2, [-4, -2, 0, 2]), (8, 3, [-3, 0, 3]),
    (7, 2, [-2, 0, 2]), (5, 9, [0])])
def test_frequencies_are_centred(n, stride, expected):
    assert spectral.frequencies(n, stride) == expected
    assert expected[len(expected) // 2] == 0


def test_a_wave_has_two_frequencies_or_one_and_norm_one():
    for i, j in itertools.product(range(-4, 4), range(-3, 4)):
        image = spectral.wave(8, 7, i, j)
        out = amplitude(image[None, None])[0, 0]
        places = {(i % 8, j % 7), (-i % 8, -j % 7)}
        expected = torch.zeros(8, 7)
        for row, column in places:
            expected[(row + 4) % 8, (column + 3) % 7] = len(places) ** -0.5
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(image, spectral.wave(8, 7, -i, -j))
        assert image[0, 0] == image.max() > 0


def test_roughness_of_known_kernels():
    checkerboard = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    stripes = torch.tensor([[1.0, -1, 1]]).expand(3, 3)
    roughest = torch.outer(*[torch.tensor([1.0, -2, 1])] * 2)
    kernels = torch.stack([torch.ones(3, 3), torch.zeros(3, 3), checkerboard, stripes, roughest])
    expected = torch.tensor([[0, 0, 12 * 4 / 9, 6 * 4 / 9, 6]])
    torch.testing.assert_close(kernel_roughnesses(kernels[None]), expected)
    assert kernel_roughness(kernels[None]) == pytest.approx(expected.mean().item())


@pytest.mark.parametrize("scale", [1e-30, 1e-3, -1.0, 1e30])
def test_roughness_does_not_depend_on_the_scale(scale):
    weight = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(kernel_roughnesses(scale * weight), kernel_roughnesses(weight))


def test_roughness_refuses_what_has_none():
    with pytest.raises(ValueError, match="1x1 kernel has no neighbouring weights"):
        kernel_roughness(torch.ones(4, 3, 1, 1))
    for weight in (torch.ones(3, 3), torch.ones(1, 1, 3, 3, dtype=torch.int64),
                   torch.ones(0, 3, 3, 3)):
        with pytest.raises(ValueError, match=r"\(out, in, kh, kw\)"):
            kernel_roughness(weight)


@pytest.mark.parametrize("pixel", [math.nan, math.inf])
def test_a_bad_pixel_spoils_its_own_channel_visibly_and_no_other(pixel):
    x = torch.rand(2, 2, 5, 4)
    bad = x.clone()
    bad[0, 0, 0, 0] = pixel
    for function in (lambda x: low_pass(x, 1), amplitude):
        good, spoilt = function(x).flatten(0, 1), function(bad).flatten(0, 1)
        assert not spoilt[0].isfinite().any() and torch.equal(spoilt[1:], good[1:])
    assert not radial_energy(bad).isfinite().all()
    bad[0, 0, 0, 0] = torch.nan  # as a kernel
    assert kernel_roughnesses(bad).isnan().tolist() == [[True, False], [False, False]]
