"""What a run is made of: one frozen dataclass, filled from a preset file and checked at once.

A preset (notebooks/presets/*.yaml) says what differs from the defaults below, which are the
paper's (arXiv 2212.12732, section 4). Whatever a caller changes on top of the preset becomes part
of the run's label, `at-fr@fr_lambda=0.5`, so that two settings never share a directory.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import reprlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import yaml

METHODS = {  # name: the training run it is read from, and which of its checkpoints
    "natural": ("natural", "best"),
    "at": ("at", "best"),
    "at-swa": ("at", "swa-best"),
    "at-fr": ("at-fr", "best"),
    "at-fr-swa": ("at-fr", "swa-best"),
    "at-sar": ("at-sar", "best"),  # the second paper's names of FR and FR-SWA
    "at-sar-wa": ("at-sar", "swa-best"),
    "trades": ("trades", "best"),
    "mart": ("mart", "best"),
    "at-awp": ("at-awp", "best"),
    "trades-awp": ("trades-awp", "best"),
}
DATASETS = ("digits", "cifar10", "cifar100", "svhn", "tiny-imagenet", "folder")
MODELS = ("resnet18", "preactresnet18", "wrn-34-10", "wrn-28-10", "resnet18-16", "resnet18-32",
          "resnet8-16", "resnet8-32")
# What each method's own code trains with: `recipe: official`, whatever the preset says. Rice et al.
# 2020 (robust_overfitting), Zhang et al. 2019 (TRADES), Wang et al. 2020 (MART, wide ResNet), Wu et
# al. 2020 (AWP). The epochs of the last three count from 1, the milestones here from 0.
_COMMON = {"epochs": 200, "batch_size": 128, "lr": 0.1, "schedule": "step", "momentum": 0.9,
           "weight_decay": 5e-4, "eps": 8 / 255, "step_size": 2 / 255, "steps": 10, "beta": 6.0}
_RICE = {**_COMMON, "milestones": (0.5, 0.75), "attack_mode": "train", "normalise": True,
         "swa_start": 0.5}  # the first drop, as everywhere
_TRADES = {**_COMMON, "epochs": 76, "milestones": (74 / 76,), "eps": 0.031, "step_size": 0.007}
OFFICIAL = {
    "at": _RICE,
    "at-awp": {**_RICE, "awp_gamma": 0.01},
    "trades": {**_TRADES, "weight_decay": 2e-4},
    "mart": {**_TRADES, "weight_decay": 7e-4},
    "trades-awp": {**_COMMON, "milestones": (99 / 200, 149 / 200), "awp_gamma": 0.005,
                   "awp_start_epoch": 9},
}


SHOWN = reprlib.Repr()  # a value in an error message, however large or nested it is
SHOWN.maxstring = SHOWN.maxother = 120
SHOWN.maxlevel = 2


def knob(default, doc, *, choices=None, low=None, high=None, group="train"):
    """A field: group "train" decides a training run, "judge" its evaluation, "place" neither."""
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high, "group": group}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Everything that decides a run. Build it with `load`, which checks names, types and ranges."""

    preset: str = knob("smoke", "a file in notebooks/presets, or a path to one", group="place")
    method: str = knob("at", "what is trained, or read from a training", choices=tuple(METHODS))
    recipe: str = knob("preset", "preset: every method under the preset's settings; official: a "
                       "rival's own", choices=("preset", "official"))
    seed: int = knob(0, "seed of weights, order, crops and attacks", low=0)
    data_root: str = knob("data", "folder of the datasets", group="place")
    runs_dir: str = knob("runs", "folder of runs and results", group="place")
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

    dataset: str = knob("cifar10", "name of the data set", choices=DATASETS)
    train_size: int = knob(0, "training images used, 0: all of the split", low=0)
    flip: bool = knob(True, "random horizontal flips, besides the random crops")
    model: str = knob("wrn-34-10", "architecture", choices=MODELS)
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
                             "logit pairing", choices=("class", "batch-class", "none"))
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
                      "compiled attacks; false: the plain loop, in float32", group="place")
    precision: str = knob("auto", "passes in training, scores are always float32; auto: bfloat16 "
                          "where the processor has it; on a GPU for attacks alone", group="place",
                          choices=("auto", "float32", "bfloat16"))

    judge_eps: float = knob(8 / 255, "radius of the attacks that judge: the preset's eps, whatever "
                            "that of a run", low=0, high=1, group="judge")
    judge_images: int = knob(0, "test images for FGSM, PGD-20 and C&W, 0: all", low=0,
                             group="judge")
    aa_images: int = knob(0, "test images for AutoAttack, 0: all", low=0, group="judge")
    judge_batch: int = knob(250, "images per evaluation batch", low=1, group="judge")

    @property
    def trained_as(self) -> str:
        """The method whose training this one is read from ("at-swa" -> "at")."""
        return METHODS[self.method][0]

    def of(self, method: str) -> Config:
        """The same settings for another method. ValueError: each has a recipe of its own."""
        method = _check("method", method)
        if self.recipe == "official" and METHODS[method][0] != self.trained_as:
            raise ValueError(f"recipe = 'official' is that of {self.trained_as}: load {method!r} "
                             "with its own")
        return dataclasses.replace(self, method=method)

    def sibling(self, label: str) -> Config:
        """The settings of another label: this preset and places, and what this label changes."""
        changes = {k: v for k, v in parse_label(self.label).items() if k != "method"}
        return load(**{**self.group("place", "judge"), "seed": self.seed, **changes,
                       **parse_label(label)})

    def group(self, *names: str) -> dict:
        """Plain values of the fields in these groups, as written to disk."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if f.metadata["group"] in names}

    @property
    def label(self) -> str:
        """The method and what differs from the preset: "at-fr@fr_transform=batch-class"."""
        preset = load(self.preset, method=self.method, seed=self.seed)
        base = load(self.preset, method=self.method, seed=self.seed, recipe=self.recipe)
        base = {**base.group("train"), "recipe": preset.recipe}
        changed = {k: v for k, v in self.group("train").items() if v != base[k]}
        changes = ",".join(f"{k}={_text(v)}" for k, v in changed.items())
        return f"{self.method}@{changes}" if changes else self.method

    @property
    def is_preset(self) -> bool:
        """Whether every setting that decides a number is the preset's own."""
        own = load(self.preset, method=self.method, seed=self.seed)
        return self.group("train", "judge") == own.group("train", "judge")

    @property
    def preset_name(self) -> str:
        return Path(self.preset).stem


FIELDS = {f.name: f for f in dataclasses.fields(Config)}
TRAINING = {name for name, f in FIELDS.items()  # what a label may change
            if f.metadata["group"] == "train"} - {"method", "seed"}


def criterion(method: str) -> str:
    """The accuracy that chooses a checkpoint: under PGD, on validation images.

    For natural training it is the clean one: its PGD accuracy is highest before it has learnt.
    """
    return "val_clean" if method == "natural" else "val_pgd"


def project_root() -> Path:
    """The folder that holds frlib/ and notebooks/; relative paths start here.

    The variable FRLIB_ROOT moves it, as the tests do to keep their runs to themselves.
    """
    return Path(os.environ.get("FRLIB_ROOT", Path(__file__).resolve().parents[2]))


def resolve(path: str) -> Path:
    """A path as given if absolute, else below the project's root."""
    return project_root() / Path(path).expanduser()


def presets() -> dict[str, Path]:
    """Names and files of the presets that come with the book."""
    folder = Path(__file__).resolve().parents[2] / "notebooks" / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(preset: str = "smoke", **changes) -> Config:
    """A checked Config: the paper's defaults, then the preset's settings, then `changes`.

    A change of None means "as the preset says". With recipe "official" the method's own settings
    (OFFICIAL) replace the preset's. Raises ValueError naming the key and what it may
    be for an unknown key, a wrong type or a value out of range; FileNotFoundError for an unknown
    preset.
    """
    values = {**_read_preset(preset), "preset": preset}
    values.setdefault("judge_eps", values.get("eps", Config.eps))
    changes = {k: v for k, v in changes.items() if v is not None}
    if {**values, **changes}.get("recipe") == "official":
        method = _check("method", {**values, **changes}.get("method", Config.method))
        if METHODS[method][0] not in OFFICIAL:
            raise ValueError(f"recipe = 'official': only for {', '.join(OFFICIAL)}, "
                             f"not for {method!r}")
        values |= OFFICIAL[METHODS[method][0]]
    values |= changes
    config = Config(**{key: _check(key, value) for key, value in values.items()})
    for label in config.runs + config.ablations:
        parse_label(label)
    return config


def check_labels(config: Config) -> None:
    """ValueError for a listed label that is not written as its run is called: nobody finds it."""
    for label in config.runs + config.ablations:
        right = load(config.preset, **parse_label(label)).label
        if label != right:
            raise ValueError(f"preset {config.preset_name} lists {label!r}: write {right!r}, as "
                             "its run is called")


def parse_label(label: str) -> dict:
    """The settings a label stands for: "at-fr@epochs=3" -> {"method": "at-fr", "epochs": 3}.

    A label names files and stands in commands, so it is plain: ValueError for other characters,
    and for a setting that does not decide a training.
    """
    if not isinstance(label, str) or not re.fullmatch(r"[\w.,=+/@-]*", label, re.ASCII):
        raise ValueError(f"label {SHOWN.repr(label)}: must be method@key=value,..., of letters, "
                         "digits and . , = + - / _ alone")
    method, _, changes = label.partition("@")
    values = {"method": method}
    for change in filter(None, changes.split(",")):
        key, _, text = change.partition("=")
        if key in FIELDS and key not in TRAINING:
            raise ValueError(f"label {label!r}: {key} is no part of a label, give it by itself")
        many = key in FIELDS and isinstance(FIELDS[key].default, tuple)
        values[key] = [_scalar(key, t) for t in text.split("+")] if many else _scalar(key, text)
    return {key: _check(key, value) for key, value in values.items()}


def _scalar(key: str, text: str):
    """A value of a label, read as plain YAML, to which 1e-05 would be text: here a number."""
    try:
        return float(text) if re.fullmatch(r"\d+e-?\d+", text) else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter for no such date, or a long number
        raise ValueError(f"{key} = {SHOWN.repr(text)}: not a plain value") from error


def from_parameters(namespace: dict, *, method: str, own: tuple = ()) -> Config:
    """The Config of a notebook, from the plain variables of its parameters cell.

    Call it with `globals()` right after the parameters: every public variable there must be a
    field of Config, `settings` (a dict of them, as a preset file has it) or one of the notebook's
    `own` names; so a misspelt papermill parameter stops the notebook before any work.
    """
    plain = {k: v for k, v in namespace.items()
             if not k.startswith("_") and k not in ("In", "Out")
             and isinstance(v, (str, int, float, bool, list, tuple, dict, type(None)))}
    first = namespace.setdefault("_frlib_parameters", frozenset(plain))  # a re-run sees more names
    values = {k: v for k, v in plain.items() if k not in own and (k in first or k in FIELDS)}
    settings = values.pop("settings", None) or {}
    if not isinstance(settings, dict):
        raise ValueError(f"settings = {settings!r}: must be a dict of parameters, as a preset "
                         "holds it")
    return load(**{"method": method, **settings, **{k: v for k, v in values.items()
                                                    if v is not None}})


def _read_preset(preset: str) -> dict:
    """The `settings` of a preset file, parsed as plain YAML: nothing in it is executed."""
    path = presets().get(str(preset))
    if path is None and str(preset).endswith((".yaml", ".yml")):
        path = resolve(preset)
    if path is None or not path.is_file():
        raise FileNotFoundError(f"unknown preset {preset!r}: choose one of "
                                f"{', '.join(presets())}, or give the path of a .yaml file")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"preset", "settings"} \
            or not isinstance(content["settings"], dict) \
            or not all(isinstance(key, str) for key in content["settings"]):
        raise ValueError(f"{path}: a preset holds two keys, `preset: {path.stem}` and `settings:`")
    return content["settings"]


def _check(key: str, value):
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
        raise ValueError(f"{shown}: must be of type {kind.__name__} ({meta['doc']})")
    if meta["choices"] and value not in meta["choices"]:
        raise ValueError(f"{shown}: choose one of {', '.join(meta['choices'])}")
    low, high = meta["low"], meta["high"]
    if kind in (int, float) and not ((low is None or value >= low) and abs(value) != math.inf
                                     and (high is None or value <= high)):
        hint = f"; for {value:g} of 255 grey levels write '{value:g}/255'" \
            if key in ("eps", "step_size") and value > 1 else ""
        span = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise ValueError(f"{shown}: must be {span} ({meta['doc']}){hint}")
    if key == "milestones" and not all(type(m) in (int, float) and 0 < m <= 1 for m in value):
        raise ValueError(f"{shown}: shares of the epochs, each in (0, 1]")
    if key == "seeds" and not (value and all(type(s) is int and s >= 0 for s in value)):
        raise ValueError(f"{shown}: a list of whole numbers from 0")
    return value


def _text(value) -> str:
    """A value as it stands in a label: short, without commas or slashes."""
    if isinstance(value, float):
        return repr(value)  # exact, so that a label reads back as the same setting
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
