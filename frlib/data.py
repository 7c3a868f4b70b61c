"""Datasets as two tensors: uint8 images (N, 3, H, W) and int64 labels (N,), kept on the device.

Every training set is split by one rule, a fixed permutation (seed 42, as in the paper's released
code): its first 90 % train, the rest validate. The test set is never used to choose anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

NAMES = ("digits", "cifar10", "cifar100", "svhn", "tiny-imagenet", "folder")
SPLITS = ("train", "val", "test")
TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


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
        if not 0 <= count <= len(self):
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

    The rule is one for all: with n training images and order = RandomState(`seed`).permutation(n)
    of numpy, the first n - round(n * `val_fraction`) of that order train, the rest validate. The
    test split depends on neither.

    - "digits": scikit-learn's embedded set (1,797 images of 8 x 8), resized to 32 x 32 and
      repeated over three channels; a fixed fifth of it is the test split.
    - "cifar10", "cifar100" (fine labels), "svhn" (without "extra"): the official files in `root`,
      checked by MD5 and downloaded when absent, if `download`.
    - "tiny-imagenet": the published zip (TINY_IMAGENET), unzipped by hand in `root`; 64 x 64.
      Its test images have no labels, so its val folder, in the order of val_annotations.txt, is
      our test split. Labels count the sorted lines of wnids.txt; the names are from words.txt.
    - "folder": `root`/train/<class>/* and `root`/test/<class>/*, 8-bit images of one size. Labels
      count the sorted class names. The test images come in the order of RandomState(0), for the
      first of them to be a fair sample.

    Greyscale files become three equal channels. Raises ValueError for an unknown name or split,
    images of several sizes or classes that do not match; FileNotFoundError when the data is
    neither there nor to be had; RuntimeError naming a damaged file.
    """
    if name not in NAMES:
        raise ValueError(f"unknown dataset {name!r}: choose one of {', '.join(NAMES)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction = {val_fraction}: must be in [0, 1)")
    read = {"digits": _digits, "cifar10": partial(_cifar, "CIFAR-10"),
            "cifar100": partial(_cifar, "CIFAR-100"), "svhn": _svhn,
            "tiny-imagenet": _tiny_imagenet, "folder": _folder}[name]
    images, labels, classes = read(Path(root).expanduser(), split != "test", download)
    chosen = slice(None)
    if split != "test":
        order = np.random.RandomState(seed).permutation(len(labels))
        cut = len(labels) - round(len(labels) * val_fraction)
        chosen = order[:cut] if split == "train" else order[cut:]
    images = images(chosen) if callable(images) else images[chosen]
    return Split(images, labels[chosen], tuple(classes))


def listing(name: str, root: str | Path) -> str:
    """A short hash of the names and sizes of the files of a data set that has no published sums.

    "" for the others: they are what their name says. FileNotFoundError when a folder is missing.
    """
    folders = {"folder": ("train", "test"), "tiny-imagenet": ("tiny-imagenet-200",)}.get(name, ())
    files, root = [], Path(root).expanduser()
    for folder in folders:
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{name}: no folder {root / folder}")
        files += sorted((str(file.relative_to(root)), file.stat().st_size)
                        for file in (root / folder).rglob("*") if file.is_file())
    return hashlib.sha256(repr(files).encode()).hexdigest()[:12] if folders else ""


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


# Each reader below takes (root, train, download) and returns (images, labels, classes) of the whole
# training or test set; images is a tensor, or for files a function that decodes the chosen ones.


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


def _cifar(title, root, train, download):
    from torchvision import datasets

    dataset = getattr(datasets, title.replace("-", ""))
    meta = dataset.meta["filename"], dataset.meta["md5"]
    files = [(root / dataset.base_folder / name, md5)
             for name, md5 in [*dataset.train_list, meta, *dataset.test_list]]
    data = _official(dataset, title, root, files, dataset.base_folder, download, train=train)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(data.targets), data.classes


def _svhn(root, train, download):
    from torchvision.datasets import SVHN

    split = "train" if train else "test"
    _, name, md5 = SVHN.split_list[split]
    data = _official(SVHN, "SVHN", root, [(root / name, md5)], name, download, split=split)
    images = torch.from_numpy(np.ascontiguousarray(data.data))
    return images, torch.from_numpy(data.labels), [str(i) for i in range(10)]


def _official(dataset, title, root, files, landmark, download, **which):
    """torchvision's dataset(root, **which), once its files, (path, MD5), are there and whole."""
    from torchvision.datasets.utils import check_integrity

    damaged = [str(path) for path, md5 in files
               if path.is_file() and not check_integrity(str(path), md5)]
    if damaged:
        raise RuntimeError(f"damaged {title} file (MD5 differs): {', '.join(damaged)}; "
                           "delete it and fetch the official one again")
    missing = [path.name for path, _ in files if not path.is_file()]
    if missing:
        where = f"{title} is not complete under {root} (no {', '.join(missing)})"
        advice = f"set data_root to the folder that holds {landmark}"
        if not download:
            raise FileNotFoundError(f"{where}; {advice}")
        try:
            return dataset(str(root), download=True, **which)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"{where} and the download failed ({error}); {advice}") \
                from error
    return dataset(str(root), download=False, **which)


def _tiny_imagenet(root, train, download):
    folder = root / "tiny-imagenet-200"
    table = folder / "val" / "val_annotations.txt"
    for path in (folder / "wnids.txt", folder / "words.txt", folder / "train", table):
        if not path.exists():
            raise FileNotFoundError(f"Tiny ImageNet is not complete under {root} (no {path}): "
                                    f"fetch {TINY_IMAGENET} and unzip it there")
    wnids = sorted((folder / "wnids.txt").read_text().split())
    index = {wnid: label for label, wnid in enumerate(wnids)}
    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
    words = {wnid: text.split(",")[0] for wnid, _, text in (s.partition("\t") for s in lines)}
    files, labels = _tree(folder / "train", index)[:2] if train else _annotated(table, index)
    return partial(_decode, files, (64, 64)), labels, [words.get(wnid, wnid) for wnid in wnids]


def _annotated(table, index):
    """Paths and labels of val/images, in the order of val_annotations.txt."""
    rows = [line.split("\t")[:2] for line in table.read_text().splitlines()]
    for n, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in index:
            raise ValueError(f"{table}, line {n}: must be an image, a wnid of wnids.txt and a box")
    folder = table.parent / "images"
    odd = {name for name, _ in rows} ^ {path.name for path in folder.glob("*.JPEG")}
    if odd:
        raise FileNotFoundError(f"{table} and {folder} must list the same images, {min(odd)} is "
                                f"in one alone: unzip {TINY_IMAGENET} again")
    files = np.array([str(folder / name) for name, _ in rows], dtype=object)
    return files, torch.tensor([index[wnid] for _, wnid in rows])


def _folder(root, train, download):
    files, labels, classes = _tree(root / "train")
    test_files, test_labels, test_classes = _tree(root / "test")
    if classes != test_classes:
        ours, theirs = set(classes), set(test_classes)
        raise ValueError(f"train and test under {root} must have the same classes: only in train "
                         f"{sorted(ours - theirs)}, only in test {sorted(theirs - ours)}")
    size = None
    for path in (*files, *test_files):
        with _opened(path, size) as image:
            size = image.size
    if not train:
        order = np.random.RandomState(0).permutation(len(test_files))
        files, labels = test_files[order], test_labels[order]
    return partial(_decode, files, size), labels, classes


def _tree(folder, index=None):
    """Paths, labels and names of folder/<class>/*, sorted; index, {class: label}, may be given."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: set data_root to the folder that holds "
                                "train/<class>/ and test/<class>/ with the images")
    try:
        index = find_classes(folder)[1] if index is None else index
        found = make_dataset(str(folder), index, IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"images are missing in {folder}: {error}") from error
    files, labels = zip(*found, strict=True)
    return np.array(files, dtype=object), torch.tensor(labels), list(index)


def _decode(files, size, chosen):
    """The chosen files as uint8 (N, 3, H, W), all of size (W, H)."""
    files = files[chosen]
    images = np.empty((len(files), 3, size[1], size[0]), np.uint8)
    for i, path in enumerate(tqdm(files, desc="images", disable=None)):
        with _opened(path, size) as image:
            images[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return torch.from_numpy(images)


@contextmanager
def _opened(path, size=None):
    """A PIL image of size (W, H), not yet decoded; errors in reading it name the file."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"{path} has {image.mode} pixels: 8-bit images are needed")
            if size and image.size != size:
                raise ValueError(f"{path} is {image.width} x {image.height} pixels, not "
                                 f"{size[0]} x {size[1]}: all images must have one size")
            yield image
    except (OSError, SyntaxError) as error:  # the latter is what PIL says of a broken PNG
        raise RuntimeError(f"unreadable image {path} ({error}); replace it") from error
