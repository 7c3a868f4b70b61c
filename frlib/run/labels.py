"""Labels: a method and what differs from the preset, "at-fr@fr_lambda=0.5". Read and written here.

A run's label names its folder, so that two settings never share one; what is changed in judging
becomes part of the result's label, "at@judge_images=40".
"""

from __future__ import annotations

import re

import yaml

from frlib.run import plain_yaml
from frlib.run.settings import FIELDS, JUDGING, READ_FROM, SHOWN, TRAINING, check

LONGEST = 240  # of the 255 bytes of a file's name, less what "at" may become: "at-fr-swa"


def split(label: str) -> tuple[str, list[str]]:
    """Its method and what it changes: "at@epochs=3,lr=0.2" -> ("at", ["epochs=3", "lr=0.2"])."""
    method, _, changes = label.partition("@")
    return method, [change for change in changes.split(",") if change]


def join(method: str, changes: list[str]) -> str:
    """The label of which `split` gives these."""
    return method + "@" * bool(changes) + ",".join(changes)


def parse_label(label: str) -> dict:
    """The settings a label stands for: "at-fr@epochs=3" -> {"method": "at-fr", "epochs": 3}.

    A label names files and stands in commands, so it is plain: ValueError for other characters,
    and for a setting that decides neither a training nor its judgement.
    """
    if not isinstance(label, str) or not re.fullmatch(r"[\w.,=+/@-]*", label, re.ASCII):
        raise ValueError(f"label {SHOWN.repr(label)}: must be method@key=value,..., of letters, "
                         "digits and . , = + - / _ alone")
    method, changes = split(label)
    values = {"method": method}
    for change in changes:
        key, _, text = change.partition("=")
        if key in values:
            raise ValueError(f"label {label!r}: {key} is given twice")
        if key in FIELDS and key not in TRAINING | JUDGING:
            raise ValueError(f"label {label!r}: {key} is no part of a label, give it by itself")
        many = key in FIELDS and isinstance(FIELDS[key].default, tuple)
        values[key] = [_scalar(key, t) for t in text.split("+")] if many else _scalar(key, text)
    return {key: check(key, value) for key, value in values.items()}


def _scalar(key: str, text: str):
    """A value of a label, read as plain YAML, to which 1e-05 would be text: here a number."""
    try:
        return float(text) if re.fullmatch(r"\d+e-?\d+", text) else plain_yaml.read(text)
    except (yaml.YAMLError, ValueError) as error:  # the latter for no such date, or a long number
        raise ValueError(f"{key} = {SHOWN.repr(text)}: not a plain value") from error


def run_label(label: str) -> str:
    """The run a result is read from: "at-swa@epochs=3,judge_images=40" -> "at@epochs=3"."""
    method, changes = split(label)
    return join(READ_FROM.get(method, (method,))[0],
                [change for change in changes if change.partition("=")[0] not in JUDGING])


def ending(settings: dict, base: dict, preset: str) -> str:
    """What differs from `base`, the values of a preset, as a label ends: "@epochs=3", or "".

    ValueError, naming the preset, for more than the name of a folder holds.
    """
    found = join("", [f"{k}={as_text(v)}" for k, v in settings.items() if v != base[k]])
    if len(found) > LONGEST:
        raise ValueError(f"settings that differ from preset {preset} make a label of "
                         f"{len(found)} characters; a folder's name holds {LONGEST}: "
                         "write them into a preset of your own")
    return found


def as_text(value) -> str:
    """A value as it stands in a label: short, without commas or slashes."""
    if isinstance(value, float):
        return repr(value)  # exact, so that a label reads back as the same setting
    if isinstance(value, tuple):
        return "+".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_with_labels(key: str, value):
    """`settings.check`, and of the lists `runs` and `ablations` each label, too.

    ValueError for one that cannot be read, and for a run that is read from another training.
    """
    value = check(key, value)
    for label in value if key in ("runs", "ablations") else ():
        method = parse_label(label)["method"]
        if key == "runs" and READ_FROM[method][0] != method:
            training = label.replace(method, READ_FROM[method][0], 1)
            raise ValueError(f"runs lists {label!r}, which is read from a training and is none "
                             f"itself: list {training!r}")
    return value
