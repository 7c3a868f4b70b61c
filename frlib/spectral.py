"""The frequency view: a low-pass filter, image spectra, and how rough a convolution kernel is.

Images are float NCHW tensors. Every transform here is `norm="ortho"`, so energy means the same in
space and in frequency (Parseval), and a frequency is counted in cycles per image side.
"""

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
    return torch.fft.ifft2(_fft2(x) * patch, norm="ortho").real


def amplitude(x: Tensor) -> Tensor:
    """The amplitude spectrum |FFT| of each channel, zero frequency at (H // 2, W // 2).

    x: (N, C, H, W), float32 or float64. Returns the same shape and dtype, at least 0; the centre
    holds sqrt(H * W) times the channel's mean. Raises ValueError for anything else.
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
    vertical, horizontal = (_frequencies(n, x.device) for n in x.shape[-2:])
    distance = torch.hypot(vertical[:, None].float(), horizontal.float())
    radius = distance.round().long().flatten()
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
    return torch.fft.fft2(x, norm="ortho")


def _frequencies(n: int, device: torch.device) -> Tensor:
    """The n integer frequencies in centred order: -(n // 2), ..., 0, ..., (n - 1) // 2."""
    return torch.arange(n, device=device) - n // 2


def _check_images(x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"images must be 4-D (N, C, H, W), got shape {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"images must be float32 (or float64) in [0, 1], got {x.dtype}")
