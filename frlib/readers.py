"""Readers of data sets, the built-in entries of `frlib.data.register`.

Each takes (root, train, download) and returns (images, labels, classes) of the whole training or
test set: uint8 images (N, 3, H, W), or for files a function that decodes the chosen ones; int64
labels (N,); the names of the labels.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

log = logging.getLogger("frlib")
TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


def digits(root, train, download):
    from sklearn.datasets import load_digits  # an import only this dataset needs

    bundle = load_digits()
    order = np.random.RandomState(0).permutation(len(bundle.target))
    cut = len(order) - len(order) // 5
    chosen = order[:cut] if train else order[cut:]
    small = torch.from_numpy(bundle.images[chosen]).float()[:, None] / 16
    images = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = (images * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
    return images, torch.from_numpy(bundle.target[chosen]).long(), [str(i) for i in range(10)]


def cifar(title, root, train, download):
    from torchvision import datasets

    dataset = getattr(datasets, title.replace("-", ""))
    meta = dataset.meta["filename"], dataset.meta["md5"]
    files = [(root / dataset.base_folder / name, md5)
             for name, md5 in [*dataset.train_list, meta, *dataset.test_list]]
    data = _official(dataset, title, root, files, dataset.base_folder, download, train=train)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(data.targets), data.classes


def svhn(root, train, download):
    from torchvision.datasets import SVHN

    split = "train" if train else "test"
    _, name, md5 = SVHN.split_list[split]
    data = _official(SVHN, "SVHN", root, [(root / name, md5)], name, download, split=split)
    images = torch.from_numpy(np.ascontiguousarray(data.data))
    return images, torch.from_numpy(data.labels), [str(i) for i in range(10)]


def _official(dataset, title, root, files, landmark, download, **which):
    """torchvision's dataset(root, **which), once its files, (path, MD5), are there and whole.

    Processes that find them otherwise wait for each other: one downloads, for all.
    """
    damaged, missing = _faults(files)
    failure = None
    if download and (damaged or missing):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".download.lock"):
                damaged, missing = _faults(files)
                if missing and not damaged:
                    dataset(str(root), download=True, **which)
                    missing = []
        except (OSError, RuntimeError) as error:
            failure = error
    if damaged:
        raise RuntimeError(f"damaged {title} file (MD5 differs): {', '.join(damaged)}; "
                           "delete it and fetch the official one again")
    if missing:
        why = f" and the download failed ({failure})" if failure else ""
        raise FileNotFoundError(
            f"{title} is not complete under {root} (no {', '.join(missing)}){why}; set data_root "
            f"to the folder that holds {landmark}") from failure
    return dataset(str(root), download=False, **which)


def _faults(files):
    """Of files, (path, MD5): the paths of those with another sum, the names of those missing."""
    from torchvision.datasets.utils import check_integrity

    damaged = [str(path) for path, md5 in files
               if path.is_file() and not check_integrity(str(path), md5)]
    return damaged, [path.name for path, _ in files if not path.is_file()]


def tiny_imagenet(root, train, download):
    files, labels, classes = _tiny_imagenet(root, train)
    return partial(_decode, files, (64, 64)), labels, classes


def _tiny_imagenet(root, train):
    """Paths, labels and class names of the training or the val images."""
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
    return files, labels, [words.get(wnid, wnid) for wnid in wnids]


def tiny_imagenet_files(root):
    """What decides the images and labels of Tiny ImageNet."""
    folder = root / "tiny-imagenet-200"
    tables = [folder / "wnids.txt", folder / "val" / "val_annotations.txt"]
    return [*tables, *_tiny_imagenet(root, True)[0], *_tiny_imagenet(root, False)[0]]


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


def folder(root, train, download):
    files, labels, classes = _tree(root / "train")
    test_files, test_labels, test_classes = _tree(root / "test")
    if classes != test_classes:
        ours, theirs = set(classes), set(test_classes)
        raise ValueError(f"train and test under {root} must have the same classes: only in train "
                         f"{sorted(ours - theirs)}, only in test {sorted(theirs - ours)}")
    sizes = [_size(path) for path in (*files, *test_files)]
    usual = Counter(sizes).most_common(1)[0][0]
    for path, size in zip((*files, *test_files), sizes, strict=True):
        _check_size(path, size, usual)
    if not train:
        order = np.random.RandomState(0).permutation(len(test_files))
        files, labels = test_files[order], test_labels[order]
    return partial(_decode, files, usual), labels, classes


def folder_files(root):
    """The images of a folder data set: names and contents decide it."""
    return [path for side in ("train", "test") for path in _tree(root / side)[0]]


def _tree(folder, index=None):
    """Paths, labels and names of folder/<class>/**, sorted; index, {class: label}, may be given.

    As torchvision's ImageFolder reads it, but for hidden files and folders, which are left out.
    Links are followed. Visible files that are no images are counted and told, unless `index` is
    given. FileNotFoundError for a class without images, ValueError for a link in a circle.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: set data_root to the folder that holds "
                                "train/<class>/ and test/<class>/ with the images")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    classes = [name for name in names if (folder / name).is_dir()] if index is None else index
    left_out = Counter(Path(name).suffix for name in names if (folder / name).is_file())
    files, labels, empty = [], [], []
    for label, name in enumerate(classes):
        found = _visible(folder, name)
        images = [path for path in found if path.lower().endswith(IMG_EXTENSIONS)]
        left_out.update(Path(path).suffix for path in found
                        if not path.lower().endswith(IMG_EXTENSIONS))
        files += images
        labels += [label] * len(images)
        empty += [] if images else [name]
    if empty or not files:
        what = f"found none of class {', '.join(empty)}" if empty else "no class has a folder there"
        raise FileNotFoundError(f"images are missing in {folder}: {what} (images are "
                                f"{', '.join(IMG_EXTENSIONS)})")
    if left_out and index is None:
        kinds = ", ".join(f"{count} {suffix or 'without suffix'}"
                          for suffix, count in left_out.most_common())
        _tell(f"{folder}: {left_out.total()} files are left out ({kinds}); images of a class are "
              f"{', '.join(IMG_EXTENSIONS)}")
    return np.array(files, dtype=object), torch.tensor(labels), list(classes)


@cache
def _tell(text):
    log.warning(text)  # once in a process, however often the folder is read


def _visible(folder, name):
    """Paths of the files below folder/<name>, without hidden ones, in torchvision's order."""
    walk = []
    for place, inner, files in os.walk(folder / name, followlinks=True):
        _refuse_circle(folder, Path(place))
        inner[:] = [each for each in inner if not each.startswith(".")]
        walk.append((place, [each for each in files if not each.startswith(".")]))
    return [os.path.join(place, each) for place, files in sorted(walk) for each in sorted(files)]


def _refuse_circle(top, place):
    """ValueError when `place`, below `top`, is a link to a folder that it was reached through."""
    if place.is_symlink():
        target = place.resolve()
        for above in place.parents:
            if above.resolve().is_relative_to(target):
                raise ValueError(f"{place} is a link to {target}, which holds it: its images would "
                                 "be read over and over; remove the link")
            if above == top:
                return


def _decode(files, size, chosen):
    """The chosen files as uint8 (N, 3, H, W), all of size (W, H)."""
    files = files[chosen]
    images = np.empty((len(files), 3, size[1], size[0]), np.uint8)
    for i, path in enumerate(tqdm(files, desc="images", disable=None)):
        _check_size(path, _size(path), size)
        with _opened(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.has_transparency_data \
                    and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                raise ValueError(f"{path} is transparent in places: give it a background")
            images[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return torch.from_numpy(images)


def _size(path):
    """(W, H) as seen, once turned as its EXIF says. ValueError for more than 8 bits a channel."""
    with _opened(path) as image:
        # a TIFF has its size turned already; elsewhere only a tag before the pixels counts
        exif = image.getexif() if "exif" in image.info and image.format != "TIFF" else {}
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        mode, size = image.mode, image.size[::-1] if turned else image.size
    if mode[0] in "IF":
        raise ValueError(f"{path} has {mode} pixels: 8-bit images are needed")
    return size


def _check_size(path, size, usual):
    if size != usual:
        raise ValueError(f"{path} is {size[0]} x {size[1]} pixels, not {usual[0]} x {usual[1]}: "
                         "all images must have one size")


@contextmanager
def _opened(path):
    """A PIL image, not yet decoded; whatever goes wrong with it is a RuntimeError with its path."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except Exception as error:  # PIL raises many kinds for damaged headers
        raise RuntimeError(f"unreadable image {path} ({error}); replace it") from error
