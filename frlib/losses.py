"""The paper's regulariser: the distance of the DFTs of clean and adversarial logits."""

import torch
from torch import Tensor


def frequency_regularization(logits_adv: Tensor, logits_clean: Tensor, *,
                             transform: str = "class") -> Tensor:
    """Frequency regularisation (FR, later called SAR) of two (N, classes) logit matrices: scalar.

    transform "class" is equation 2 of arXiv 2212.12732: the 1-D DFT over the classes of each
    example, sum of |real| + |imaginary| over the frequencies, mean over the examples.
    transform "batch-class" is the authors' released code: the unnormalised two-sided 2-D DFT over
    (batch, class), mean of |real| and |imaginary| over all entries.
    The DFT is linear, so F(adv) - F(clean) is computed as F(adv - clean). Both logits carry
    gradient. Raises ValueError for shapes that differ, are not 2-D or are empty.
    """
    if logits_adv.ndim != 2 or logits_adv.shape != logits_clean.shape or not logits_adv.numel():
        raise ValueError("logits must be two non-empty (N, classes) matrices of one shape, not "
                         f"{tuple(logits_adv.shape)} and {tuple(logits_clean.shape)}")
    difference = logits_adv.float() - logits_clean.float()
    if transform == "class":
        spectrum = torch.view_as_real(torch.fft.fft(difference, dim=1))
        return spectrum.abs().sum(dim=(1, 2)).mean()
    if transform == "batch-class":
        return torch.view_as_real(torch.fft.fft2(difference)).abs().mean()
    raise ValueError(f"transform = {transform!r}: choose 'class' or 'batch-class'")
