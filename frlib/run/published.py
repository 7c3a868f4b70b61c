"""Published checkpoints that this library's architectures can hold, and how to read them.

The names are RobustBench's (github.com/RobustBench/robustbench), for CIFAR-10 and L-infinity. Here
stand only those whose network is one of `frlib.models`, layer for layer: no other activation,
width or shortcut. Architecture and normalisation come from its robustbench/model_zoo/cifar10.py
(as of commits 011e54c and ec26a6c; that of Chen2024Data from the copy of a later one in
abhhfcgjk/ufbrp, 1c44d65), accuracies from the table of its README.md (dc70160), those of
Cui2023Decoupled and Chen2024Data from model_info/cifar10/Linf/ (6beba02, 34dda3a).
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from frlib import models
from frlib.run.places import resolve

DATASET = "cifar10"  # that all known checkpoints were trained and scored on


@dataclass(frozen=True)
class Entry:
    """The network of a checkpoint and what it is known to score, None where nothing is known.

    clean and autoattack: accuracies in % on the 10,000 test images, the second at radius `eps`;
    mean and std: of the normalisation inside the network, None for one that takes [0, 1].
    """

    architecture: str
    clean: float | None = None
    autoattack: float | None = None
    eps: float = 8 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


KNOWN = {
    "Standard": Entry("wrn-28-10", 94.78, 0.00),
    "Carmon2019Unlabeled": Entry("wrn-28-10", 89.69, 59.53),
    "Hendrycks2019Using": Entry("wrn-28-10", 87.11, 54.92, mean=(0.5,) * 3, std=(0.5,) * 3),
    "Sehwag2020Hydra": Entry("wrn-28-10", 88.98, 57.14),
    "Wang2020Improving": Entry("wrn-28-10", 87.50, 56.29),
    "Wu2020Adversarial_extra": Entry("wrn-28-10", 88.25, 60.04),
    # the field "eps" of its model_info says 8/255, the footnote beside it 0.031, as here
    "Zhang2020Geometry": Entry("wrn-28-10", 89.36, 59.64, eps=0.031),
    "Sridhar2021Robust": Entry("wrn-28-10", 89.46, 59.66),
    "Zhang2019Theoretically": Entry("wrn-34-10", 84.92, 53.08, eps=0.031),
    "Zhang2019You": Entry("wrn-34-10", 87.20, 44.83),
    "Chen2020Efficient": Entry("wrn-34-10", 85.32, 51.12, mean=(0.4914, 0.4822, 0.4465),
                               std=(0.2471, 0.2435, 0.2616)),
    "Cui2020Learnable_34_10": Entry("wrn-34-10", 88.22, 52.86, eps=0.031),
    "Huang2020Self": Entry("wrn-34-10", 83.48, 53.34, eps=0.031),
    "Sitawarin2020Improving": Entry("wrn-34-10", 86.84, 50.72),
    "Wu2020Adversarial": Entry("wrn-34-10", 85.36, 56.17),
    "Zhang2020Attacks": Entry("wrn-34-10", 84.52, 53.51),
    "Addepalli2021Towards_WRN34": Entry("wrn-34-10", 85.32, 58.04),
    "Chen2021LTD_WRN34_10": Entry("wrn-34-10", 85.21, 56.94),
    "Sehwag2021Proxy": Entry("wrn-34-10", 86.68, 60.27),
    "Addepalli2022Efficient_WRN_34_10": Entry("wrn-34-10", 88.71, 57.81),
    "Jia2022LAS-AT_34_10": Entry("wrn-34-10", 84.98, 56.26),
    "Cui2023Decoupled_WRN-34-10": Entry("wrn-34-10", 85.31, 57.09),
    "Chen2024Data_WRN_34_10": Entry("wrn-34-10", 86.54, 57.30),
    "Addepalli2021Towards_RN18": Entry("resnet18", 80.24, 51.06),
    "Sehwag2021Proxy_R18": Entry("resnet18", 84.59, 55.54),
    "Addepalli2022Efficient_RN18": Entry("resnet18", 85.71, 52.48),
}


def find(name: str) -> Entry:
    """The entry of a known name, or of "mine:resnet18": any network of ours on [0, 1] inputs.

    Raises ValueError, with names that are near, for an unknown name or architecture.
    """
    own, colon, architecture = name.partition(":")
    if not colon and name in KNOWN:
        return KNOWN[name]
    if colon and architecture in models.ARCHITECTURES and re.fullmatch(r"[\w-][\w.-]*", own):
        return Entry(architecture)
    wanted, choices = (architecture, models.ARCHITECTURES) if colon else (name, KNOWN)
    near = difflib.get_close_matches(wanted, choices, n=3)
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near and wanted not in near else ""
    raise ValueError(
        f"unknown checkpoint {name!r}{hint}; give a name of frlib.run.published.KNOWN, or "
        "'<letters, digits, _, ->:<architecture>', as 'mine:resnet18', for a file of "
        f"your own; architectures: {', '.join(models.ARCHITECTURES)}"
    )


def given(name: str, file: str | Path | dict) -> tuple[Entry, Path]:
    """The entry and the path of one of {name: file}, where a file is its path or says more.

    {"path": "mine.pt", "mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]} names the
    normalisation, for images in [0, 1], of a file of your own that does not hold it. Raises what
    `find` raises, and ValueError for another key, or a mean or std that cannot be.
    """
    entry = find(name)
    if isinstance(file, str | Path):
        return entry, resolve(file)
    inside = {key: file[key] for key in ("mean", "std") if key in file}
    if not isinstance(file.get("path"), str | Path) or set(file) - {"path", *inside}:
        raise ValueError(f"checkpoint {name!r}: {file!r} must be a path, or {{'path': ..., "
                         "'mean': [r, g, b], 'std': [r, g, b]}")
    if inside and name in KNOWN:
        raise ValueError(f"checkpoint {name!r}: its normalisation is known; give its path alone")
    if len(inside) == 1:
        raise ValueError(f"checkpoint {name!r}: give both mean and std, or neither")
    for key, values in inside.items():
        if not _can_be(key, values):
            span = "in [0, 1]" if key == "mean" else "above 0"
            raise ValueError(f"checkpoint {name!r}: {key} = {values!r}: must be three numbers "
                             f"{span}, of images in [0, 1]; divide those of 0 to 255 by 255")
    inside = {key: tuple(map(float, values)) for key, values in inside.items()}
    return replace(entry, **inside), resolve(file["path"])


def _can_be(key: str, values) -> bool:
    """Whether these are three numbers: a "mean" in [0, 1], a "std" above 0 and finite."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        return False
    if not all(type(value) in (int, float) for value in values):
        return False
    if key == "mean":
        return all(0 <= value <= 1 for value in values)
    return all(0 < value < math.inf for value in values)


def load(name: str, file: str | Path | dict, num_classes: int = 10) -> nn.Module:
    """The network `name` (see `find`) with the weights of the `file` (see `given`), in eval mode.

    A known name is normalised as the table says, whatever its file holds; a file of your own as
    `file` says, else by the mean and std (or mu and sigma) in it, if it has them. Raises what
    `given` and `models.load_checkpoint` raise.
    """
    entry, path = given(name, file)
    inside = {"mean": entry.mean, "std": entry.std}
    if name not in KNOWN and entry.mean is None:
        weights = models.read_weights(path)
        inside = {ours: weights[theirs].flatten().tolist() for ours, theirs in
                  (("mean", "mean"), ("mean", "mu"), ("std", "std"), ("std", "sigma"))
                  if theirs in weights}
    try:
        model = models.create(entry.architecture, num_classes=num_classes, **inside)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return models.load_checkpoint(model, path).eval()


def doubts(name: str, correct: int, total: int, classes: int) -> list[str]:
    """What a clean accuracy says against the file: [] unless it is far too low.

    Too low is what chance gives, or five points below the published figure, each with three
    standard errors of `total` images.
    """
    def error(share):
        return 3 * (share * (1 - share) / total) ** 0.5

    share, published = correct / max(total, 1), find(name).clean
    if total and share < 1 / classes + error(1 / classes):
        found = f"no better than chance among {classes} classes"
    elif total and published and share < published / 100 - 0.05 - error(published / 100):
        found = f"published are {published:.2f} %"
    else:
        return []
    advice = "is it the file of another network?" if name in KNOWN else \
        "a network trained on normalised images needs their mean and std: {'path': ..., " \
        "'mean': [r, g, b], 'std': [r, g, b]}"
    return [f"clean accuracy is {100 * share:.1f} % on {total} images, {found}: {advice}"]


def label(name: str) -> str:
    """Where results of a checkpoint stand: "mine:resnet18" -> "published-mine-resnet18"."""
    return f"published-{name.replace(':', '-')}"


def check(checkpoints: dict, dataset: str) -> None:
    """Whether {name: file} can be judged on this data set: raises, and reads no weights.

    ValueError for what is no such dict (see `given`), an unknown name, or a known one and other
    data than it was trained on; FileNotFoundError for a missing file.
    """
    if not isinstance(checkpoints, dict) or not all(
            isinstance(name, str) and isinstance(file, str | Path | dict)
            for name, file in checkpoints.items()):
        raise ValueError(f"checkpoints = {checkpoints!r}: must be a dict {{name: path}}")
    for name, file in checkpoints.items():
        _, path = given(name, file)
        if name in KNOWN and dataset != DATASET:
            raise ValueError(f"checkpoint {name!r} was trained on {DATASET}; it cannot be judged "
                             f"on {dataset}: choose a preset with dataset: {DATASET}")
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint at {path} (for {name!r})")
