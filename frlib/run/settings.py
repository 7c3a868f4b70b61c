"""The settings of a run, one by one: what each means, its type, its default and its range.

The defaults are the paper's (arXiv 2212.12732, section 4). `frlib.run.config` makes a run of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from frlib import data, losses, methods, models

SHOWN = reprlib.Repr()  # a value in an error message, however large or nested it is
SHOWN.maxstring = SHOWN.maxother = 120
SHOWN.maxlevel = 2
LARGEST_SEED = 2**63 - 1  # of torch's generators


class Readings(Mapping):
    """{name: (the training it is read from, which of its checkpoints)}, of the methods registered
    by now: see `frlib.methods.readings`."""

    def __getitem__(self, name):
        return methods.readings()[name]

    def __iter__(self):
        return iter(methods.readings())

    def __len__(self):
        return len(methods.readings())


READ_FROM = Readings()
REGULARISED = ("at-fr", "at-sar")


def knob(default, doc, *, choices=None, low=None, high=None, group="train"):
    """A field: group "train" decides a training run, "judge" its evaluation, "place" neither.

    Two of "place" decide how it is computed, `fast` and `precision`: a run that was begun with one
    precision does not go on with another (`frlib.run.training`).

    choices: a tuple, or a registry, in which a reader may have entries of his own.
    """
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high, "group": group}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run, unchecked: `frlib.run.config.load` checks it."""

    preset: str = knob("smoke", "a file in notebooks/presets, or a path to one", group="place")
    method: str = knob("at", "what is trained, or read from a training", choices=READ_FROM)
    recipe: str = knob("preset", "preset: every method under the preset's settings; official: a "
                       "rival's own", choices=("preset", "official"))
    seed: int = knob(0, "seed of weights, order, crops and attacks", low=0, high=LARGEST_SEED)
    data_root: str = knob("data", "folder of the datasets", group="place")
    runs_dir: str = knob("runs", "folder of runs and results", group="place")
    plugin: str = knob("", "a Python file that registers what is your own, imported before the "
                       "settings are read", group="place")
    device: str = knob("auto", "auto: the GPU where there is one", group="place",
                       choices=("auto", "cpu", "cuda"))
    threads: int = knob(0, "CPU threads, 0: torch's own choice", low=0, group="place")
    runs: tuple = knob((), "labels of the runs that the pipeline trains", group="place")
    ablations: tuple = knob((), "results that differ in one choice of the ledger, for `make "
                            "ablations`", group="place")
    seeds: tuple = knob((0,), "seeds that the pipeline runs", group="place")
    job_gpus: int = knob(0, "GPUs that a cluster job asks for to train; above 1, they share every "
                         "batch; to judge, it asks for one", low=0, group="place")
    job_cpus: int = knob(4, "CPUs that it asks for where threads is 0", low=1, group="place")
    job_memory: int = knob(4, "GiB of memory that it asks for", low=1, group="place")
    job_minutes: int = knob(240, "its time limit; a killed run goes on from its checkpoint", low=1,
                            group="place")

    dataset: str = knob("cifar10", "name of the data set", choices=data.DATASETS)
    train_size: int = knob(0, "training images used, 0: all of the split", low=0)
    flip: bool = knob(True, "random horizontal flips, besides the random crops")
    model: str = knob("wrn-34-10", "architecture", choices=models.ARCHITECTURES)
    normalise: bool = knob(False, "subtract the training images' mean, divide by their deviation, "
                           "inside the model")

    epochs: int = knob(100, "passes over the training images", low=1)
    batch_size: int = knob(128, "images per step", low=2)
    lr: float = knob(0.1, "peak learning rate", low=0, high=10)
    schedule: str = knob("step", "step: x0.1 at each milestone; one-cycle: up, then down to 0",
                         choices=("step", "one-cycle"))
    milestones: tuple = knob((0.75, 0.9), "learning-rate drops, as shares of the epochs")
    momentum: float = knob(0.9, "of SGD", low=0, high=1)
    weight_decay: float = knob(5e-4, "of SGD, on every parameter", low=0, high=1)

    eps: float = knob(8 / 255, "attack radius, L-infinity, images in [0, 1]", low=0, high=1)
    step_size: float = knob(2 / 255, "PGD step in training", low=0, high=1)
    steps: int = knob(10, "PGD steps in training", low=1)
    attack_mode: str = knob("eval", "the model's mode while it is attacked in training",
                            choices=("eval", "train"))

    fr_lambda: float = knob(0.1, "weight of the frequency regularisation", low=0)
    fr_transform: str = knob("class", "class: equation 2; batch-class: the released code; none: "
                             "logit pairing; permuted, orthogonal, l2: controls",
                             choices=losses.TRANSFORMS)
    fr_start_epoch: int = knob(0, "first epoch with the regularisation", low=0)
    swa_start: float = knob(0.75, "share of the epochs after which weights are averaged",
                            low=0, high=1)
    swa_batchnorm: str = knob("reestimate", "statistics of the average: reestimate them, or take "
                              "the running ones of the last weights",
                              choices=("reestimate", "running"))
    beta: float = knob(6.0, "weight of the second term of TRADES and MART", low=0)
    awp_gamma: float = knob(0.01, "AWP's step, as a share of a layer's norm", low=0)
    awp_start_epoch: int = knob(0, "first epoch with AWP", low=0)

    curve_images: int = knob(0, "validation and test images of the per-epoch curves, 0: all", low=0)
    curve_steps: int = knob(10, "PGD steps of the per-epoch curves", low=1)
    fast: bool = knob(True, "channels-last, BatchNorm folded while attacking; on a GPU also "
                      "compiled attacks; false: the plain loop", group="place")
    precision: str = knob("auto", "passes in training, scores are always float32; auto: bfloat16 "
                          "where the processor has it", group="place",
                          choices=("auto", "float32", "bfloat16"))

    judge_eps: float = knob(8 / 255, "radius of the attacks that judge: the preset's eps, whatever "
                            "that of a run", low=0, high=1, group="judge")
    judge_images: int = knob(0, "test images for FGSM, PGD-20 and C&W, 0: all", low=0,
                             group="judge")
    aa_images: int = knob(0, "test images for AutoAttack, 0: all", low=0, group="judge")
    aa_both: bool = knob(False, "AutoAttack on the best and the last checkpoint of a run, not only "
                         "on the one that stands for the method", group="judge")
    judge_batch: int = knob(250, "images per evaluation batch", low=1, group="judge")

    def group(self, *names: str) -> dict:
        """Plain values of the fields in these groups, as written to disk."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if f.metadata["group"] in names}


FIELDS = {f.name: f for f in dataclasses.fields(Settings)}
PATHS = {"data_root": "data", "runs_dir": "runs"}  # folders, and what the pipeline calls them
TRAINING, JUDGING = ({name for name, f in FIELDS.items() if f.metadata["group"] == group}
                     - {"method", "seed"} for group in ("train", "judge"))  # a label may change


def decides(key: str, method: str) -> bool:
    """Whether a setting decides any number of the training that a method is read from."""
    uses = methods.METHODS[READ_FROM[method][0]].uses
    return key not in methods.OPTIONAL or key in uses


def refuse_idle(told: str, keys, method: str) -> None:
    """ValueError for a setting among `keys` that decides nothing of the training that a method is
    read from. told: what gives them, with which the message begins."""
    for key in keys:
        if not decides(key, method):
            users = ", ".join(name for name in READ_FROM if decides(key, name))
            raise ValueError(f"{told} {key}: it decides nothing of {method}; --run may be one of "
                             f"{users}")


def check(key: str, value):
    """`value` as the type of field `key`, or a ValueError that names key, value and choices."""
    if key not in FIELDS:
        near = difflib.get_close_matches(key, FIELDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown parameter {key!r}{hint}; known: {', '.join(FIELDS)}")
    kind, meta = type(FIELDS[key].default), FIELDS[key].metadata
    if kind is float and isinstance(value, str):
        try:
            if len(value) > 100 or re.search(r"e[-+]?[\d_]{4}", value, re.IGNORECASE):
                raise ValueError("its exact value may not fit in memory")
            value = float(Fraction(value))  # "8/255"
        except (ValueError, ZeroDivisionError, OverflowError):
            raise ValueError(f"{key} = {SHOWN.repr(value)}: must be a number or a fraction "
                             "'a/b'") from None
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    shown = f"{key} = {SHOWN.repr(value)}"
    if type(value) is not kind:
        hint = "; write a folder whose name reads as a number as './name'" if key in PATHS else ""
        raise ValueError(f"{shown}: must be of type {kind.__name__} ({meta['doc']}){hint}")
    if key in PATHS and not value:
        raise ValueError(f"{shown}: must name a folder ({meta['doc']})")
    choices = meta["choices"]
    if choices and value not in choices:
        raise ValueError(f"{shown}: choose one of {', '.join(choices)}")
    low, high = meta["low"], meta["high"]
    if kind in (int, float) and not ((low is None or value >= low) and abs(value) != math.inf
                                     and (high is None or value <= high)):
        hint = f"; for {value:g} of 255 grey levels write '{value:g}/255'" \
            if key in ("eps", "step_size") and value > 1 else ""
        span = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise ValueError(f"{shown}: must be {span} ({meta['doc']}){hint}")
    if key in ("eps", "judge_eps") and not value:
        raise ValueError(f"{shown}: must be above 0: there is no attack without a radius")
    if key == "milestones" and not (value and all(type(m) in (int, float) and 0 < m <= 1
                                                  for m in value)):
        raise ValueError(f"{shown}: one or more shares of the epochs, each in (0, 1]; 1 is after "
                         "the last")
    if key == "seeds" and not (value and all(type(s) is int and 0 <= s <= LARGEST_SEED
                                             for s in value)):
        raise ValueError(f"{shown}: a list of whole numbers from 0 to {LARGEST_SEED}")
    return value
