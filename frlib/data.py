"""Datasets as two tensors: uint8 images (N, 3, H, W) and int64 labels (N,), kept on the device.

The training set is split by a fixed permutation (seed 42, as in the paper's released code): its
first 90 % train, the rest validate. The official test set is never used to choose anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NAMES = ("digits", "cifar10")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, 3, H, W); labels: int64 (N,); classes: the names of the labels."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> Split:
        """The first `count` examples, all for 0. Raises ValueError when there are fewer."""
        if count > len(self):
            raise ValueError(f"{count} images asked for, the split has {len(self)}")
        end = count or len(self)
        return Split(self.images[:end], self.labels[:end], self.classes)

    def to(self, device) -> Split:
        return Split(self.images.to(device), self.labels.to(device), self.classes)

    @property
    def x(self) -> Tensor:
        """The images as float32 in [0, 1]."""
        return to_float(self.images)

    @property
    def checksum(self) -> str:
        """SHA-256 over images and labels, to name the data a result comes from."""
        digest = hashlib.sha256(self.images.cpu().contiguous().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        return digest.hexdigest()


def load(name: str, root: str | Path, split: str, *, val_fraction: float = 0.1, seed: int = 42,
         download: bool = True) -> Split:
    """The split "train", "val" or "test" of a dataset.

    "cifar10" is the official set under `root`/cifar-10-batches-py, MD5-checked by torchvision and
    downloaded when absent. "digits" is scikit-learn's embedded set (1,797 images of 8 x 8),
    resized to 32 x 32 and repeated over three channels; a fixed fifth of it is the test split.
    Raises ValueError for an unknown name or split, FileNotFoundError when the data is neither
    there nor to be had, RuntimeError naming a damaged file.
    """
    if name not in NAMES:
        raise ValueError(f"unknown dataset {name!r}: choose one of {', '.join(NAMES)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction = {val_fraction}: must be in [0, 1)")
    read = {"digits": _digits, "cifar10": _cifar10}[name]
    images, labels, classes = read(Path(root).expanduser(), split != "test", download)
    if split != "test":
        order = np.random.RandomState(seed).permutation(len(labels))
        cut = len(labels) - round(len(labels) * val_fraction)
        chosen = torch.from_numpy(order[:cut] if split == "train" else order[cut:])
        images, labels = images[chosen], labels[chosen]
    return Split(images, labels, tuple(classes))


def to_float(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) to float32 in [0, 1]."""
    return images.float().div_(255)


def batches(split: Split, batch_size: int, generator: torch.Generator, *,
            flip: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled, augmented (x, y) batches; a last batch of one image is left out.

    x: float32 in [0, 1] after `augment`, which BatchNorm cannot take one at a time. The generator
    lives on the split's device.
    """
    order = torch.randperm(len(split), generator=generator, device=split.labels.device)
    for chosen in order.split(batch_size):
        if len(chosen) > 1:
            yield augment(to_float(split.images[chosen]), generator, flip=flip), split.labels[chosen]


def augment(x: Tensor, generator: torch.Generator, *, padding: int = 4, flip: bool = True) -> Tensor:
    """Random crop after zero padding, then a random horizontal flip, each image its own: (N, C, H, W)."""
    n, _, h, w = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator, device=x.device)
    rows = top + torch.arange(h, device=x.device)
    columns = left + torch.arange(w, device=x.device)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator, device=x.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, [padding] * 4).permute(0, 2, 3, 1)
    each = torch.arange(n, device=x.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _digits(root, train, download):
    from sklearn.datasets import load_digits  # an import only this dataset needs

    bundle = load_digits()
    order = np.random.RandomState(0).permutation(len(bundle.target))
    cut = len(order) - len(order) // 5
    chosen = order[:cut] if train else order[cut:]
    small = torch.from_numpy(bundle.images[chosen]).float()[:, None] / 16
    images = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = (images * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return images, torch.from_numpy(bundle.target[chosen]).long(), [str(i) for i in range(10)]


def _cifar10(root, train, download):
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    files = [(root / CIFAR10.base_folder / name, md5)
             for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list]]
    damaged = [str(path) for path, md5 in files
               if path.is_file() and not check_integrity(str(path), md5)]
    if damaged:
        raise RuntimeError(f"damaged CIFAR-10 file (MD5 differs): {', '.join(damaged)}; "
                           "delete it and fetch the official archive again")
    missing = [path.name for path, _ in files if not path.is_file()]
    if missing:
        where = f"CIFAR-10 is not complete under {root} (no {', '.join(missing)})"
        advice = "set data_root to the folder that holds cifar-10-batches-py"
        if not download:
            raise FileNotFoundError(f"{where}; {advice}")
        try:
            CIFAR10(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"{where} and the download failed ({error}); {advice}") \
                from error
    data = CIFAR10(str(root), train=train, download=False)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(data.targets), data.classes
