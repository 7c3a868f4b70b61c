"""The frequency view: filters, image spectra, waves, and how rough a convolution kernel is.

Images are float NCHW tensors. Every transform here is `norm="ortho"`, so energy means the same in
space and in frequency (Parseval), and a frequency is counted in cycles per image side.
"""

import math

import torch
from torch import Tensor


def low_pass(x: Tensor, bandwidth: int) -> Tensor:
    """Keep the central `bandwidth` x `bandwidth` frequencies of each channel and zero the rest.

    x: (N, C, H, W), float32 or float64; N may be 0. Returns the same shape and dtype, and lets
    gradients through. bandwidth: 1 (only the mean is left) to max(H, W) (no filter at all); on an
    image that is not square, a side shorter than the bandwidth keeps all its frequencies.

    With the zero frequency moved to index n // 2, the patch starts at n // 2 - bandwidth // 2. An
    even bandwidth below n therefore holds the frequency -bandwidth / 2 without its positive twin,
    and the inverse transform is complex. As in the paper's filter we keep its real part, which
    amounts to passing that frequency and its twin at half strength. The result can leave [0, 1]
    by ringing at edges; it is not clamped.

    Raises ValueError for a tensor that is no float NCHW batch and for a bandwidth out of range.
    Source: the filter of Table 1 (arXiv 2212.12732).
    """
    _check_images(x)
    height, width = x.shape[-2:]
    largest = max(height, width)
    if type(bandwidth) is not int or not 1 <= bandwidth <= largest:
        raise ValueError(f"bandwidth must be an int in 1..{largest} for {height}x{width} images, "
                         f"got {bandwidth!r}")

    def kept(n: int) -> Tensor:
        frequency = _frequencies(n, x.device)
        return (-(bandwidth // 2) <= frequency) & (frequency < bandwidth - bandwidth // 2)

    patch = torch.fft.ifftshift(kept(height)[:, None] & kept(width))
    return _ifft2(_fft2(x) * patch).real


def high_pass(x: Tensor, bandwidth: int) -> Tensor:
    """What `low_pass` takes away, x - low_pass(x, bandwidth): the same shape, dtype and errors.

    The mean goes too, for every bandwidth, so the result lies around 0, not in [0, 1].
    """
    return x - low_pass(x, bandwidth)


def band_pass(x: Tensor, low: float, high: float) -> Tensor:
    """Keep the frequencies whose radius r, in cycles per image side, has low <= r < high.

    x: (N, C, H, W), float32 or float64; N may be 0. Returns the same shape and dtype, and lets
    gradients through. A frequency and its twin have the same radius, so the result is real by
    itself, and the filter is an orthogonal projection: applied twice it is applied once. The zero
    frequency, the mean, is in the band that starts at 0; `high` may be math.inf.

    Raises ValueError for a tensor that is no float NCHW batch, and unless 0 <= low < high.
    """
    _check_images(x)
    if not 0 <= low < high:
        raise ValueError(f"a band needs radii 0 <= low < high, got {low} and {high}")
    kept = torch.fft.ifftshift(_ring(x, low, high))
    return _ifft2(_fft2(x) * kept).real


def energy_shares(x: Tensor, edges) -> Tensor:
    """The share of each image's energy in radial bands: (N, C, H, W) -> (N, len(edges) + 1).

    edges: rising radii above 0, in cycles per image side. The first band goes from 0 (the mean is
    in it) up to, but without, the first edge; the last band has no end. A row sums to 1, its
    channels taken together; an image of zeros has shares of 0.

    Raises ValueError for a tensor that is no float NCHW batch and for edges that do not rise.
    """
    limits = [0.0, *edges, math.inf]
    bands = list(zip(limits, limits[1:], strict=False))
    if any(not low < high for low, high in bands):
        raise ValueError(f"edges must be rising radii above 0, got {limits[1:-1]}")
    energy = amplitude(x).square().sum(1)
    within = torch.stack([(energy * _ring(x, *band)).sum((-2, -1)) for band in bands], 1)
    total = within.sum(1, keepdim=True)
    return within / total.where(total > 0, 1.0)


def frequencies(n: int, stride: int = 1) -> list[int]:
    """Every `stride`-th of the n frequencies of a side, in cycles, in centred order with 0.

    For n = 32 and stride 4: -16, -12, ..., 12. Raises ValueError for a stride below 1.
    """
    if type(stride) is not int or stride < 1:
        raise ValueError(f"stride = {stride!r}: must be a whole number from 1")
    return [f for f in range(-(n // 2), (n + 1) // 2) if f % stride == 0]


def wave(height: int, width: int, vertical: int, horizontal: int) -> Tensor:
    """The cosine of a frequency as an image: (height, width), float32, L2 norm 1.

    Its energy sits at (vertical, horizontal) cycles per side and at the twin (-vertical,
    -horizontal), which gives the same image. Source: the Fourier basis of Yin et al.
    (1906.08988), with the crest on the first pixel.
    """
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    turns = (vertical * rows % height).double() / height + (horizontal * columns % width) / width
    cosine = (2 * math.pi * turns).cos()
    return (cosine / cosine.norm()).float()


def amplitude(x: Tensor) -> Tensor:
    """The amplitude spectrum |FFT| of each channel, zero frequency at (H // 2, W // 2).

    x: (N, C, H, W), float32 or float64; N may be 0. Returns the same shape and dtype, at least 0;
    the centre holds sqrt(H * W) times the channel's mean. Raises ValueError for anything else.
    Source: the spectra of figure 2 (arXiv 2212.12732), which shows their logarithm.
    """
    _check_images(x)
    return torch.fft.fftshift(_fft2(x).abs(), dim=(-2, -1))


def radial_energy(x: Tensor) -> Tensor:
    """How the energy of an average channel is spread over frequency radii.

    x: (N, C, H, W), float32 or float64, N and C at least 1. Returns a 1-D tensor whose entry r
    sums |FFT|^2 over the frequencies whose distance from zero rounds to r cycles per image side,
    averaged over batch and channels. Its sum is the mean of `x.square().sum((-2, -1))`.

    Raises ValueError for a tensor that is no float NCHW batch and for an empty one.
    """
    _check_images(x)
    if x.numel() == 0:
        raise ValueError(f"radial_energy needs at least one image, got shape {tuple(x.shape)}")
    radius = _radii(x).round().long().flatten()
    energy = amplitude(x).square().mean((0, 1)).flatten()
    return energy.new_zeros(int(radius.max()) + 1).index_add(0, radius, energy)


def kernel_roughnesses(weight: Tensor) -> Tensor:
    """One roughness per kernel of a convolution: weight (out, in, kh, kw) -> (out, in).

    The squared differences between horizontal and vertical neighbours, summed, over the squared
    norm. This is the Rayleigh quotient of the grid's Laplacian, so it does not depend on the
    kernel's scale. 0 for a constant (or all-zero) kernel; at most 6 for 3x3 and below 8 for any
    size; 5.33 for the 3x3 checkerboard. The mean is not removed: it is the kernel's lowest
    frequency, and a kernel made mostly of it is smooth. Compare kernels of the same size only.

    Raises ValueError for a weight that is not 4-D floating point, is empty, or is 1x1.
    Source: puts a number on figure 1 (arXiv 2212.12732), where it is judged by eye.
    """
    if weight.ndim != 4 or not weight.is_floating_point() or weight.numel() == 0:
        raise ValueError("weight must be a floating-point (out, in, kh, kw) tensor, not empty, "
                         f"got {weight.dtype} of shape {tuple(weight.shape)}")
    if weight.shape[-2:] == (1, 1):
        raise ValueError("a 1x1 kernel has no neighbouring weights, so no roughness")
    # Dividing by the largest weight first keeps kernels that weight decay has all but erased
    # from underflowing when squared; the norm is then at least 1, or 0 for an all-zero kernel.
    largest = weight.float().abs().amax((-2, -1), keepdim=True)
    kernel = weight.float() / largest.where(largest > 0, 1.0)
    steps = sum(kernel.diff(dim=dim).square().sum((-2, -1)) for dim in (-2, -1))
    return steps / kernel.square().sum((-2, -1)).clamp_min(1.0)


def kernel_roughness(weight: Tensor) -> float:
    """The mean of `kernel_roughnesses(weight)` over all kernels; lower is smoother."""
    return kernel_roughnesses(weight.detach()).mean().item()


def _fft2(x: Tensor) -> Tensor:
    """Complex, of the same shape; of no images too, for which some builds' MKL raises."""
    return torch.fft.fft2(x, norm="ortho") if x.numel() else x + 0j


def _ifft2(spectrum: Tensor) -> Tensor:
    return torch.fft.ifft2(spectrum, norm="ortho") if spectrum.numel() else spectrum


def _frequencies(n: int, device: torch.device) -> Tensor:
    """The n integer frequencies in centred order: -(n // 2), ..., 0, ..., (n - 1) // 2."""
    return torch.arange(n, device=device) - n // 2


def _radii(x: Tensor) -> Tensor:
    """(H, W): the distance of every frequency from zero, in cycles per side, in centred order."""
    vertical, horizontal = (_frequencies(n, x.device) for n in x.shape[-2:])
    return torch.hypot(vertical[:, None].float(), horizontal.float())


def _ring(x: Tensor, low: float, high: float) -> Tensor:
    """(H, W), bool, in centred order: whether the radius of a frequency is in [low, high)."""
    radius = _radii(x)
    return (low <= radius) & (radius < high)


def _check_images(x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"images must be 4-D (N, C, H, W), got shape {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"images must be float32 (or float64), got {x.dtype}")
