"""Forty test images of CIFAR-10, the first four of each class, so that figures need no download.

They stand in photographs.npz beside this module as in the official test batch
(https://www.cs.toronto.edu/~kriz/cifar.html), byte by byte.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("photographs.npz")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def photographs() -> dict[str, np.ndarray]:
    """{"images": uint8 (40, 3, 32, 32), "labels": int64 (40,), "indices": int64 (40,)}.

    By class, then by `indices`, their places in the test set.
    """
    with np.load(FILE, allow_pickle=False) as stored:
        return {key: stored[key] for key in ("images", "labels", "indices")}


def write(test, path: Path = FILE, count: int = 4) -> None:
    """Make the file of the first `count` images a class of the official test `Split`."""
    labels = test.labels.numpy()
    indices = np.concatenate([np.flatnonzero(labels == k)[:count] for k in range(len(CLASSES))])
    np.savez_compressed(path, images=test.images.numpy()[indices], labels=labels[indices],
                        indices=indices)
