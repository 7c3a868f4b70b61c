"""A run's settings, checked: a preset file, and what a caller changes on top of it.

A preset (notebooks/presets/*.yaml) says what differs from the defaults, which are the paper's
(`frlib.run.settings`). Whatever a caller changes becomes part of the run's label.
"""

from __future__ import annotations

import ast
import dataclasses
import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from frlib.run import presets
from frlib.run.labels import check_with_labels, ending, parse_label
from frlib.run.recipes import OFFICIAL
from frlib.run.settings import JUDGING, READ_FROM, SHOWN, TRAINING, Settings, check, decides

log = logging.getLogger("frlib")
STARTS = ("fr_start_epoch", "awp_start_epoch")  # epochs from which on a part of the loss acts


@dataclass(frozen=True)
class Config(Settings):
    """Everything that decides a run. Build it with `load`, which checks names, types and ranges."""

    @property
    def trained_as(self) -> str:
        """The method whose training this one is read from ("at-swa" -> "at")."""
        return READ_FROM[self.method][0]

    def of(self, method: str) -> Config:
        """The same settings for another method; what decides nothing there is as in the preset.

        ValueError: each has a recipe of its own.
        """
        method = check("method", method)
        if self.recipe == "official" and READ_FROM[method][0] != self.trained_as:
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

    @cached_property
    def label(self) -> str:
        """A run's: the method and what differs from the preset: "at-fr@fr_transform=none"."""
        return self.method + self.changed(TRAINING)

    @cached_property
    def result_label(self) -> str:
        """A result's: the run's label, and what is judged otherwise: "at@judge_images=40"."""
        return self.method + self.changed(TRAINING | JUDGING)

    def changed(self, names) -> str:
        """Which of these settings differ from the preset, as a label ends: "@epochs=3", or ""."""
        preset = load(self.preset, method=self.method, seed=self.seed)
        base = load(self.preset, method=self.method, seed=self.seed, recipe=self.recipe)
        base = {**base.group("train", "judge"), "recipe": preset.recipe}
        ours = {k: v for k, v in self.group("train", "judge").items() if k in names}
        return ending(ours, base, self.preset_name)

    @property
    def is_preset(self) -> bool:
        """Whether every setting that decides a number is the preset's own."""
        own = load(self.preset, method=self.method, seed=self.seed)
        return self.group("train", "judge") == own.group("train", "judge")

    @property
    def preset_name(self) -> str:
        return Path(self.preset).stem


def load(preset: str = "smoke", **changes) -> Config:
    """A checked Config: the paper's defaults, then the preset's settings, then `changes`.

    A change of None means "as the preset says". With recipe "official" the method's own settings
    (OFFICIAL) replace the preset's. Raises ValueError naming the key and what it may be, and the
    preset's file if it stands there, for an unknown key, a wrong type or a value out of range;
    FileNotFoundError for an unknown preset.
    """
    presets.load_plugin(changes.get("plugin"))
    values = presets.read(preset)
    name = Path(preset).stem
    if name in presets.shipped() and str(preset) != name:
        ours, theirs = (_checked(found).group("train", "judge")
                        for found in (values, presets.read(name)))
        if other := [key for key in ours if ours[key] != theirs[key]]:
            raise ValueError(f"{preset}: the book has a preset {name!r} with other settings "
                             f"({', '.join(other)}); give the file another name, so that the "
                             "runs of the two stay apart")
    changes = {k: v for k, v in changes.items() if v is not None}
    if {**values, **changes}.get("recipe") == "official":
        method = check("method", {**values, **changes}.get("method", Config.method))
        if READ_FROM[method][0] not in OFFICIAL:
            raise ValueError(f"recipe = 'official': only for {', '.join(OFFICIAL)}, "
                             f"not for {method!r}")
        values |= OFFICIAL[READ_FROM[method][0]]
    return _checked(values | changes)


def _checked(values: dict) -> Config:
    config = Config(**{key: check_with_labels(key, value) for key, value in values.items()})
    for key in STARTS:
        if decides(key, config.method) and getattr(config, key) >= config.epochs:
            raise ValueError(f"{key} = {getattr(config, key)}: a training of {config.epochs} "
                             f"epochs would end before it: choose 0 to {config.epochs - 1}")
    return config


def trainings(averaged: bool = False) -> tuple[str, ...]:
    """The methods that are trained, not read from another; only those that keep an average."""
    from frlib import methods

    found = methods.METHODS.items()
    return tuple(name for name, method in found if method.averaged or not averaged)


def check_labels(config: Config) -> None:
    """ValueError for a listed label that is not written as its run is called: nobody finds it."""
    for label in config.runs + config.ablations:
        right = load(config.preset, **parse_label(label))
        right = right.of(right.method).label
        if label != right:
            raise ValueError(f"preset {config.preset_name} lists {label!r}: write {right!r}, as "
                             "its run is called")


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
    presets.refuse_called("settings", settings)
    if "method" in values:
        raise ValueError(f"method = {SHOWN.repr(values['method'])}: a notebook has its own; give "
                         "`methods`, where it has that parameter")
    if settings and isinstance(name, str) and name not in presets.shipped() \
            and not name.endswith((".yaml", ".yml")) and re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        if presets.GIVEN.get(name) != settings:
            log.warning("preset %r is none of the book's (%s): what its settings leave out is the "
                        "default of frlib/run/settings.py, as in the paper", name,
                        ", ".join(presets.shipped()))
        presets.GIVEN[name], settings = {**settings}, {}
    presets.refuse_called(Config.preset if name is None else name)
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
    if not found:  # not in IPython
        names = {name for name in namespace if not name.startswith("_")} - {"In", "Out"}
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    return {k: v for k, v in namespace.items() if k in names and isinstance(v, plain)}


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
