"""Which results may stand in one table: those whose settings agree, but for what is compared.

Two methods are compared under the same settings; what decides only one of them (lambda of AT-FR
beside AT) is its own. Whatever else was changed stands in a result's label, `at-fr@epochs=3`.
"""

from __future__ import annotations

from collections.abc import Iterable

from frlib.run.config import Config
from frlib.run.folder import as_stored, with_defaults
from frlib.run.labels import split
from frlib.run.recipes import OFFICIAL
from frlib.run.settings import FIELDS, READ_FROM, SHOWN, decides

DATA = {"train": ("training data", "train_size"), "test": ("test data", "judge_images")}


def settings(result: dict) -> dict:
    """What decided a result, {setting: value}, and the checksums of its data and of a reader's own
    code; {} for figures.

    A setting that is not there did not exist yet, and had the effect of its default. Without the
    method and the seed, and without settings that decide nothing of this method.
    """
    found = {k: v for k, v in result.get("config", {}).items() if k in FIELDS}
    method = found.get("method")
    if isinstance(method, str) and method in READ_FROM:
        found = {k: v for k, v in with_defaults(found).items() if decides(k, method)}
    if found:
        found.setdefault("judge_eps", found.get("eps"))
        data = result.get("data", {})
        found |= {name: data.get(part) for part, (name, _) in DATA.items()}
        found |= {f"code of attack {name}": s for name, s in result.get("own_code", {}).items()}
        if result.get("trained_by"):
            found[_code_of(method)] = result["trained_by"]
    return {k: v for k, v in as_stored(found).items()
            if v is not None and k not in ("method", "seed")}


def changed(label: str, official: bool = False) -> set[str]:
    """The settings that a label changes: {"epochs"} of "at@epochs=3"; those of a recipe, too."""
    method, changes = split(label)
    keys = {change.partition("=")[0] for change in changes} & FIELDS.keys()
    if official or "recipe" in keys:
        keys |= OFFICIAL.get(READ_FROM.get(method, ("",))[0], {}).keys()
    if keys & {"model", "fr_transform"}:  # which may be a reader's own, too
        keys.add(_code_of(method))
    return keys | {name for name, size in DATA.values() if {"dataset", size} & keys}


def _code_of(method: str) -> str:
    """What the checksum of a reader's own code in a training of this method is called."""
    return f"code of {READ_FROM.get(method, (method,))[0]}"


def agree(named: Iterable[tuple[str, dict]], then: str) -> None:
    """ValueError naming two of these and what differs, unless all {setting: value} agree.

    A setting that one of them lacks is no difference. `then`: how the message ends.
    """
    first = {}  # {setting: (its value, the name of the first that has it)}
    for name, settings in named:
        for key, value in settings.items():
            first.setdefault(key, (value, name))
        differing = [key for key in settings if first[key][0] != settings[key]]
        if not differing:
            continue
        other = first[differing[0]][1]
        what = [f"{key} = {SHOWN.repr(settings[key])} and {SHOWN.repr(first[key][0])}"
                for key in differing if first[key][1] == other]
        raise ValueError(f"{name} and {other} are of two experiments: {', '.join(what)}; {then}")


def of_one_experiment(results: dict, preset: Config | None = None) -> None:
    """ValueError for collected results that differ in more than their labels say.

    From each other and, if given, from the settings of their preset.
    """
    named = [(result.get("file", f"{label}, seed {seed}"), label, result)
             for label, seeds in results.items() for seed, result in seeds.items()]
    if preset:
        content = preset.group("train", "judge")
        del content["method"]  # it stands for every method
        named = [(f"preset {preset.preset_name}", preset.trained_as, {"config": content}), *named]
    found = []
    for name, label, result in named:
        decided = settings(result)
        but = changed(label, decided.get("recipe") == "official")
        found.append((name, {k: v for k, v in decided.items() if k not in but}))
    agree(found, "what is not of this preset belongs elsewhere: give one of the two presets "
                 "another name, or move its results away; if your own code has changed, make the "
                 "older ones again with --redo")
