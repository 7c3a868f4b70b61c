"""Datasets as two tensors: uint8 images (N, 3, H, W) and int64 labels (N,), kept on the device.

Every training set is split by one rule, a fixed permutation (seed 42, as in the paper's released
code): its first 90 % train, the rest validate. The test set is never used to choose anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from frlib import readers
from frlib.registry import Registry

SPLITS = ("train", "val", "test")
DATASETS = Registry("dataset")  # {name: (reader, files)}, what `register` was given


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, 3, H, W); labels: int64 (N,); classes: the names of the labels."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int, setting: str = "") -> Split:
        """The first `count` examples, all for 0. ValueError, naming the setting, for too many."""
        if not 0 <= count <= len(self):
            advice = f"; set {setting} to no more, or to 0 for all" if setting else ""
            raise ValueError(f"{count} images asked for, the split has {len(self)}{advice}")
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


def register(name: str, reader: Callable, *, files: Callable | None = None,
             replace: bool = False) -> None:
    """Make `reader` the data set `name`, for `load` and for every setting `dataset`.

    reader(root: Path, train: bool, download: bool) -> (images, labels, classes) of the whole
    training or test set: uint8 (N, 3, H, W), or a function of the chosen indices that returns
    them; int64 (N,), counted from 0; the names of the labels. files(root) -> the paths whose names
    and contents decide all that, none for a set that is what its name says; without it, `listing`
    reads the images. ValueError for a name that is taken; `replace` as in `Registry.add`.
    """
    DATASETS.add(name, (reader, files), replace=replace)


def _nothing(root):
    return ()


register("digits", readers.digits, files=_nothing)
register("cifar10", partial(readers.cifar, "CIFAR-10"), files=_nothing)
register("cifar100", partial(readers.cifar, "CIFAR-100"), files=_nothing)
register("svhn", readers.svhn, files=_nothing)
register("tiny-imagenet", readers.tiny_imagenet, files=readers.tiny_imagenet_files)
register("folder", readers.folder, files=readers.folder_files)
DATASETS.close()


def load(name: str, root: str | Path, split: str, *, val_fraction: float = 0.1, seed: int = 42,
         download: bool = True) -> Split:
    """The split "train", "val" or "test" of a dataset.

    The rule is one for all: with n training images and order = RandomState(`seed`).permutation(n)
    of numpy, the first n - round(n * `val_fraction`) of that order train, the rest validate. The
    test split depends on neither.

    - "digits": scikit-learn's embedded set (1,797 images of 8 x 8), resized to 32 x 32 and
      repeated over three channels; a fixed fifth of it is the test split.
    - "cifar10", "cifar100" (fine labels), "svhn" (without "extra"): the official files in `root`,
      checked by MD5 and downloaded when absent, if `download`.
    - "tiny-imagenet": the published zip, unzipped by hand in `root`; 64 x 64.
      Its test images have no labels, so its val folder, in the order of val_annotations.txt, is
      our test split. Labels count the sorted lines of wnids.txt; the names are from words.txt.
    - "folder": `root`/train/<class>/* and `root`/test/<class>/*, 8-bit images of one size, turned
      as their EXIF says; hidden files and folders are left out. Labels count the sorted class
      names. The test images come in the order of RandomState(0), for the first of them to be a
      fair sample.

    Greyscale files become three equal channels. Raises ValueError for an unknown name or split,
    images of several sizes or classes that do not match; FileNotFoundError when the data is
    neither there nor to be had; RuntimeError naming a damaged file.
    """
    reader, _ = DATASETS.find(name)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction = {val_fraction}: must be in [0, 1)")
    images, labels, classes = reader(Path(root).expanduser(), split != "test", download)
    chosen = slice(None)
    if split != "test":
        order = np.random.RandomState(seed).permutation(len(labels))
        cut = len(labels) - round(len(labels) * val_fraction)
        chosen = order[:cut] if split == "train" else order[cut:]
    images = images(chosen) if callable(images) else images[chosen]
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)
            and (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
            and images.ndim == 4 and images.shape[1] == 3 and len(images) == len(labels[chosen])
            and all(0 <= label < len(classes) for label in labels.unique().tolist())):
        raise ValueError(f"dataset {name!r}: its reader must give uint8 images (N, 3, H, W), and N "
                         "int64 labels from 0 to below the number of classes")
    return Split(images, labels[chosen], tuple(classes))


def listing(name: str, root: str | Path) -> str:
    """A short hash of the images and labels of a data set that has no published sums.

    "" for the others: they are what their name says. Raises what `load` raises for what is missing.
    """
    root, digest = Path(root).expanduser(), hashlib.sha256()
    files = DATASETS[name][1]
    if files is None:
        for split in ("train", "test"):
            digest.update(load(name, root, split, val_fraction=0).checksum.encode())
    elif paths := files(root):
        for path in map(Path, paths):
            digest.update(f"{path.relative_to(root)}\0".encode(errors="surrogateescape"))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    else:
        return ""
    return "sha256:" + digest.hexdigest()[:16]


def to_float(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) to float32 in [0, 1]."""
    return images.float().div_(255)


def batches(split: Split, batch_size: int, generator: torch.Generator, *,
            flip: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled, augmented (x, y) batches; a last batch of one image is left out,
    since BatchNorm cannot take it.

    x: float32 in [0, 1] after `augment`. The generator lives on the split's device.
    """
    order = torch.randperm(len(split), generator=generator, device=split.labels.device)
    for chosen in order.split(batch_size):
        if len(chosen) > 1:
            x = augment(to_float(split.images[chosen]), generator, flip=flip)
            yield x, split.labels[chosen]


def augment(x: Tensor, generator: torch.Generator, *, padding: int = 4,
            flip: bool = True) -> Tensor:
    """Random crop after zero padding, then a random flip, each image its own: (N, C, H, W)."""
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
