"""What a run is made of: one frozen dataclass, filled from a preset file and checked at once.

A preset (notebooks/presets/*.yaml) says what differs from the defaults below, which are the
paper's (arXiv 2212.12732, section 4). Whatever a caller changes on top of the preset becomes part
of the run's label, `at-fr@fr_lambda=0.5`, so that two settings never share a directory; what is
changed in judging becomes part of the result's, `at@judge_images=40`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib.util
import logging
import math
import os
import re
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import yaml

from frlib.run import plain_yaml

log = logging.getLogger("frlib")


class Readings(Mapping):
    """{name: (the training it is read from, which of its checkpoints)}, of all methods.

    Those registered by now (`frlib.methods.readings`); torch is imported at the first look.
    """

    def __getitem__(self, name):
        return _methods().readings()[name]

    def __iter__(self):
        return iter(_methods().readings())

    def __len__(self):
        return len(_methods().readings())


def _methods():
    from frlib import methods

    return methods


METHODS = Readings()
REGULARISED = ("at-fr", "at-sar")
# What each method's own code trains with: `recipe: official`, whatever the preset says. Rice et al.
# 2020 (robust_overfitting), Zhang et al. 2019 (TRADES), Wang et al. 2020 (MART, wide ResNet, its
# last commit, 99b19ea; an older one has 76 epochs and weight decay 2e-4), Wu et al. 2020 (AWP). The
# epochs of the last three count from 1, the milestones here from 0.
_COMMON = {"epochs": 200, "batch_size": 128, "lr": 0.1, "schedule": "step", "momentum": 0.9,
           "weight_decay": 5e-4, "eps": 8 / 255, "step_size": 2 / 255, "steps": 10, "beta": 6.0}
_RICE = {**_COMMON, "milestones": (0.5, 0.75), "attack_mode": "train", "normalise": True,
         "swa_start": 0.5}  # the first drop, as everywhere
_TRADES = {**_COMMON, "epochs": 76, "milestones": (74 / 76,), "eps": 0.031, "step_size": 0.007}
OFFICIAL = {
    "at": _RICE,
    "at-awp": {**_RICE, "awp_gamma": 0.01},
    "trades": {**_TRADES, "weight_decay": 2e-4},
    "mart": {**_TRADES, "epochs": 90, "milestones": (74 / 90, 89 / 90), "weight_decay": 7e-4},
    "trades-awp": {**_COMMON, "milestones": (99 / 200, 149 / 200), "awp_gamma": 0.005,
                   "awp_start_epoch": 9},
}

LONGEST_LABEL = 240  # of the 255 bytes of a file's name, less what "at" may become: "at-fr-swa"

SHOWN = reprlib.Repr()  # a value in an error message, however large or nested it is
SHOWN.maxstring = SHOWN.maxother = 120
SHOWN.maxlevel = 2


GIVEN: dict[str, dict] = {}  # presets that `from_parameters` was given: their settings by name


# What is registered by now; torch is imported when the first such setting is checked.

def methods() -> tuple[str, ...]:
    return tuple(METHODS)


def trainings(averaged: bool = False) -> tuple[str, ...]:
    """The methods that are trained, not read from another; only those that keep an average."""
    found = _methods().METHODS.items()
    return tuple(name for name, method in found if method.averaged or not averaged)


def networks() -> tuple[str, ...]:
    from frlib import models

    return tuple(models.ARCHITECTURES)


def datasets() -> tuple[str, ...]:
    from frlib import data

    return tuple(data.DATASETS)


def transforms() -> tuple[str, ...]:
    from frlib import losses

    return tuple(losses.TRANSFORMS)


def knob(default, doc, *, choices=None, low=None, high=None, group="train"):
    """A field: group "train" decides a training run, "judge" its evaluation, "place" neither.

    choices: a tuple, or a function that gives it, for what can be registered.
    """
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high, "group": group}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Everything that decides a run. Build it with `load`, which checks names, types and ranges."""

    preset: str = knob("smoke", "a file in notebooks/presets, or a path to one", group="place")
    method: str = knob("at", "what is trained, or read from a training", choices=methods)
    recipe: str = knob("preset", "preset: every method under the preset's settings; official: a "
                       "rival's own", choices=("preset", "official"))
    seed: int = knob(0, "seed of weights, order, crops and attacks", low=0)
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

    dataset: str = knob("cifar10", "name of the data set", choices=datasets)
    train_size: int = knob(0, "training images used, 0: all of the split", low=0)
    flip: bool = knob(True, "random horizontal flips, besides the random crops")
    model: str = knob("wrn-34-10", "architecture", choices=networks)
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
                             choices=transforms)
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
    aa_both: bool = knob(False, "AutoAttack on the best and the last checkpoint of a run, not only "
                         "on the one that stands for the method", group="judge")
    judge_batch: int = knob(250, "images per evaluation batch", low=1, group="judge")

    @property
    def trained_as(self) -> str:
        """The method whose training this one is read from ("at-swa" -> "at")."""
        return METHODS[self.method][0]

    def of(self, method: str) -> Config:
        """The same settings for another method; what decides nothing there is as in the preset.

        ValueError: each has a recipe of its own.
        """
        method = _check("method", method)
        if self.recipe == "official" and METHODS[method][0] != self.trained_as:
            raise ValueError(f"recipe = 'official' is that of {self.trained_as}: load {method!r} "
                             "with its own")
        preset = load(self.preset, method=method, seed=self.seed, recipe=self.recipe)
        idle = {key: getattr(preset, key) for key in TRAINING if not decides(key, method)}
        return dataclasses.replace(self, method=method, **idle)

    def sibling(self, label: str) -> Config:
        """The settings of another label: this preset and places, and what this label changes.

        Of that, only what decides something there: with `at-fr@fr_lambda=0.5` goes plain `at`.
        """
        changes = {k: v for k, v in parse_label(self.label).items() if k != "method"}
        found = load(**{**self.group("place", "judge"), "seed": self.seed, **changes,
                        **parse_label(label)})
        return found.of(found.method)

    def group(self, *names: str) -> dict:
        """Plain values of the fields in these groups, as written to disk."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if f.metadata["group"] in names}

    @property
    def label(self) -> str:
        """A run's: the method and what differs from the preset: "at-fr@fr_transform=none"."""
        return self.method + self.changed(TRAINING)

    @property
    def result_label(self) -> str:
        """A result's: the run's label, and what is judged otherwise: "at@judge_images=40"."""
        return self.method + self.changed(TRAINING | JUDGING)

    def changed(self, names) -> str:
        """Which of these settings differ from the preset, as a label ends: "@epochs=3", or ""."""
        said = repr(GIVEN[self.preset]) if self.preset in GIVEN \
            else _preset_file(self.preset).read_text()
        return _changed(self, frozenset(names), said)

    @property
    def is_preset(self) -> bool:
        """Whether every setting that decides a number is the preset's own."""
        own = load(self.preset, method=self.method, seed=self.seed)
        return self.group("train", "judge") == own.group("train", "judge")

    @property
    def preset_name(self) -> str:
        return Path(self.preset).stem


FIELDS = {f.name: f for f in dataclasses.fields(Config)}
PATHS = {"data_root": "data", "runs_dir": "runs"}  # folders, and what the pipeline calls them
TRAINING, JUDGING = ({name for name, f in FIELDS.items() if f.metadata["group"] == group}
                     - {"method", "seed"} for group in ("train", "judge"))  # a label may change


@functools.lru_cache(maxsize=1000)
def _changed(config: Config, names: frozenset, said: str) -> str:
    """`Config.changed`, remembered as long as the preset says the same, since it is asked often."""
    preset = load(config.preset, method=config.method, seed=config.seed)
    base = load(config.preset, method=config.method, seed=config.seed, recipe=config.recipe)
    base = {**base.group("train", "judge"), "recipe": preset.recipe}
    changes = ",".join(f"{k}={_text(v)}" for k, v in config.group("train", "judge").items()
                       if k in names and v != base[k])
    if len(changes) > LONGEST_LABEL:
        raise ValueError(f"settings that differ from preset {config.preset_name} make a label of "
                         f"{len(changes)} characters; a folder's name holds {LONGEST_LABEL}: "
                         "write them into a preset of your own")
    return "@" + changes if changes else ""


def decides(key: str, method: str) -> bool:
    """Whether a setting decides any number of the training that a method is read from."""
    known = _methods()
    return key not in known.OPTIONAL or key in known.METHODS[METHODS[method][0]].uses


def run_label(label: str) -> str:
    """The run a result is read from: "at-swa@epochs=3,judge_images=40" -> "at@epochs=3"."""
    method, _, changes = label.partition("@")
    kept = [change for change in changes.split(",") if change.partition("=")[0] not in JUDGING]
    return METHODS.get(method, (method,))[0] + "@" * any(kept) + ",".join(kept)


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
    (OFFICIAL) replace the preset's. Raises ValueError naming the key and what it may be, and the
    preset's file if it stands there, for an unknown key, a wrong type or a value out of range;
    FileNotFoundError for an unknown preset.
    """
    load_plugin(changes.get("plugin"))
    values = _preset(preset)
    name = Path(preset).stem
    if name in presets() and str(preset) != name:
        ours, theirs = (Config(**{key: _check(key, value) for key, value in found.items()})
                        .group("train", "judge") for found in (values, _preset(name)))
        if other := [key for key in ours if ours[key] != theirs[key]]:
            raise ValueError(f"{preset}: the book has a preset {name!r} with other settings "
                             f"({', '.join(other)}); give the file another name, so that the "
                             "runs of the two stay apart")
    changes = {k: v for k, v in changes.items() if v is not None}
    if {**values, **changes}.get("recipe") == "official":
        method = _check("method", {**values, **changes}.get("method", Config.method))
        if METHODS[method][0] not in OFFICIAL:
            raise ValueError(f"recipe = 'official': only for {', '.join(OFFICIAL)}, "
                             f"not for {method!r}")
        values |= OFFICIAL[METHODS[method][0]]
    values |= changes
    return Config(**{key: _check(key, value) for key, value in values.items()})


def load_plugin(path: str | Path | None) -> None:
    """Import a Python file of a reader's own, once; "" and None: none.

    It registers methods, networks, data sets or attacks (`register` of `frlib.methods`,
    `frlib.models` and `frlib.data`, `frlib.evaluate.register_attack`). ValueError for one that is
    neither below the project's root nor in the current folder, or no Python file.
    """
    if path is None or path == "":
        return
    shown = f"plugin = {SHOWN.repr(path)}"
    if not isinstance(path, str | Path):
        raise ValueError(f"{shown}: must be the path of a Python file")
    try:
        places = [resolve(str(path)), Path(path).expanduser().absolute()]
        found = next((place.resolve() for place in places if place.is_file()), None)
    except (OSError, RuntimeError, ValueError):  # a name that no file can have
        found = None
    if found is None or found.suffix != ".py":
        raise ValueError(f"{shown}: there is no such Python file, neither in {project_root()} nor "
                         "in the current folder")
    _import(found)


@functools.cache
def _import(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"frlib_plugin_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise


def check_labels(config: Config) -> None:
    """ValueError for a listed label that is not written as its run is called: nobody finds it."""
    for label in config.runs + config.ablations:
        right = load(config.preset, **parse_label(label))
        right = right.of(right.method).label
        if label != right:
            raise ValueError(f"preset {config.preset_name} lists {label!r}: write {right!r}, as "
                             "its run is called")


def parse_label(label: str) -> dict:
    """The settings a label stands for: "at-fr@epochs=3" -> {"method": "at-fr", "epochs": 3}.

    A label names files and stands in commands, so it is plain: ValueError for other characters,
    and for a setting that decides neither a training nor its judgement.
    """
    if not isinstance(label, str) or not re.fullmatch(r"[\w.,=+/@-]*", label, re.ASCII):
        raise ValueError(f"label {SHOWN.repr(label)}: must be method@key=value,..., of letters, "
                         "digits and . , = + - / _ alone")
    method, _, changes = label.partition("@")
    values = {"method": method}
    for change in filter(None, changes.split(",")):
        key, _, text = change.partition("=")
        if key in FIELDS and key not in TRAINING | JUDGING:
            raise ValueError(f"label {label!r}: {key} is no part of a label, give it by itself")
        many = key in FIELDS and isinstance(FIELDS[key].default, tuple)
        values[key] = [_scalar(key, t) for t in text.split("+")] if many else _scalar(key, text)
    return {key: _check(key, value) for key, value in values.items()}


def _scalar(key: str, text: str):
    """A value of a label, read as plain YAML, to which 1e-05 would be text: here a number."""
    try:
        return float(text) if re.fullmatch(r"\d+e-?\d+", text) else plain_yaml.read(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter for no such date, or a long number
        raise ValueError(f"{key} = {SHOWN.repr(text)}: not a plain value") from error


def a_list(name: str, value, choices=None) -> list:
    """`value`, a notebook's own parameter, as a list; one by itself makes a list of one.

    choices: a range, or names; None: any text. ValueError, naming what is wanted, for a value that
    is none of them, and for no numbers; no names are none.
    """
    values = list(value) if isinstance(value, list | tuple) else [value]
    kind = int if isinstance(choices, range) else str
    right = all(type(v) is kind and (choices is None or v in choices) for v in values)
    if right and (values or kind is str):
        return values
    wanted = "texts" if choices is None else f"whole numbers from {choices[0]} to {choices[-1]}" \
        if kind is int else f"some of {', '.join(choices)}"
    raise ValueError(f"{name} = {SHOWN.repr(value)}: must be a list of {wanted}")


def from_parameters(namespace: dict, *, method: str, own: tuple = ()) -> Config:
    """The Config of a notebook, from the plain variables of its parameters cell.

    Call it with `globals()` after the parameters: every public variable of theirs must be a
    field of Config, `settings` (a dict of them, as a preset file has it) or one of the notebook's
    `own` names; so a misspelt papermill parameter stops the notebook before any work. What later
    cells define is not read.

    With a `preset` that is none of the book's and no file, `settings` are that preset: what they
    leave out is as in the paper. With any other `preset` they are changes of it.
    """
    values = {k: v for k, v in _parameters(namespace).items() if k not in own}
    settings = values.pop("settings", None) or {}
    if not isinstance(settings, dict):
        raise ValueError(f"settings = {settings!r}: must be a dict of parameters, as a preset "
                         "holds it")
    name = values.get("preset")
    if settings and isinstance(name, str) and name not in presets() \
            and not name.endswith((".yaml", ".yml")) and re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        if GIVEN.get(name) != settings:
            log.warning("preset %r is none of the book's (%s): what its settings leave out is the "
                        "default of frlib/run/config.py, as in the paper", name,
                        ", ".join(presets()))
        GIVEN[name], settings = {**settings}, {}
    return load(**{"method": method, **settings, **{k: v for k, v in values.items()
                                                    if v is not None}})


def _parameters(namespace: dict) -> dict:
    """The public variables of plain types that the parameters were given in.

    In IPython, whose `In` holds the cells that ran: those that were assigned in the last cell that
    assigns `preset`, and in cells beside or after it that do nothing but assign, as papermill's.
    Elsewhere: all.
    """
    names, found = set(), False
    for source in reversed(namespace.get("In") or ()):
        assigned, alone = _assigned(source)
        if found and not alone:
            break
        if alone or "preset" in assigned:
            names |= assigned
        found = found or "preset" in assigned
    return {k: v for k, v in namespace.items()
            if (k in names if found else not k.startswith("_") and k not in ("In", "Out"))
            and isinstance(v, (str, int, float, bool, list, tuple, dict, type(None)))}


def _assigned(source: str) -> tuple[set[str], bool]:
    """The names that a cell assigns at its top level, and whether it does nothing else."""
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set(), False
    assigns = [line for line in lines if isinstance(line, ast.Assign | ast.AnnAssign)]
    names = {node.id for line in assigns for node in ast.walk(line)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name for name in names if not name.startswith("_")}, \
        bool(assigns) and len(assigns) == len(lines)


def _preset(preset: str) -> dict:
    """The values that a preset sets, before the defaults and before any change."""
    if str(preset) in GIVEN:
        content, name = GIVEN[str(preset)], preset
    else:
        path = _preset_file(preset)
        content, name = _read_preset(path), preset if str(preset) in presets() else str(path)
    return {"judge_eps": content.get("eps", Config.eps), **content, "preset": name}


def _preset_file(preset: str) -> Path:
    """The file of a preset: of a name, or of a path from the root or else the current folder."""
    known, name = presets(), str(preset)
    if name in known:
        return known[name]
    a_path = name.endswith((".yaml", ".yml"))
    places = dict.fromkeys([resolve(name), Path(name).expanduser().absolute()] if a_path else [])
    for path in places:
        if path.is_file():
            if not re.fullmatch(r"[\w.+-]+", path.name, re.ASCII):
                raise ValueError(f"{path}: a preset's name is that of folders, too: rename the "
                                 "file to letters, digits and . + - _ alone")
            return path
    sought = f" (there is no {' and no '.join(map(str, places))})" if places else ""
    raise FileNotFoundError(f"unknown preset {SHOWN.repr(name)}: choose one of {', '.join(known)}, "
                            f"or give the path of a .yaml file{sought}")


def _read_preset(path: Path) -> dict:
    """The checked `settings` of a preset file; ValueError naming the file."""
    try:
        content = plain_yaml.read(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"preset", "settings"} \
            or not isinstance(content["settings"], dict) \
            or not all(isinstance(key, str) for key in content["settings"]):
        raise ValueError(f"{path}: a preset holds two keys, `preset: {path.stem}` and `settings:`")
    try:
        load_plugin(content["settings"].get("plugin"))
        return {key: _check(key, value) for key, value in content["settings"].items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
        hint = "; write a folder whose name reads as a number as './name'" if key in PATHS else ""
        raise ValueError(f"{shown}: must be of type {kind.__name__} ({meta['doc']}){hint}")
    if key in PATHS and not value:
        raise ValueError(f"{shown}: must name a folder ({meta['doc']})")
    choices = meta["choices"]() if callable(meta["choices"]) else meta["choices"]
    if choices and value not in choices:
        raise ValueError(f"{shown}: choose one of {', '.join(choices)}")
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
    for label in value if key in ("runs", "ablations") else ():
        method = parse_label(label)["method"]
        if key == "runs" and METHODS[method][0] != method:
            training = label.replace(method, METHODS[method][0], 1)
            raise ValueError(f"runs lists {label!r}, which is read from a training and is none "
                             f"itself: list {training!r}")
    return value


def _text(value) -> str:
    """A value as it stands in a label: short, without commas or slashes."""
    if isinstance(value, float):
        return repr(value)  # exact, so that a label reads back as the same setting
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
