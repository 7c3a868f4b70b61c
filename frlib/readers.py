"""Readers of data sets, the built-in entries of `frlib.data.register`.

Each takes (root, train, download) and returns (images, labels, classes) of the whole training or
test set: uint8 images (N, 3, H, W), or for files a function that decodes the chosen ones; int64
labels (N,); the names of the labels.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm

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


def tiny_imagenet(root, train, download):
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


def folder(root, train, download):
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
