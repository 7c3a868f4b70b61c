"""Presets and plugins: the files that settings come from."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from pathlib import Path

import yaml

from frlib.run import own_code, plain_yaml
from frlib.run.labels import check_with_labels
from frlib.run.places import project_root, resolve
from frlib.run.settings import SHOWN, Settings

GIVEN: dict[str, dict] = {}  # presets that `from_parameters` was given: their settings by name


CALLED = {  # what a command or a notebook always gives, so that a preset's would be overruled
    "seed": "--seed (the pipeline: `seeds`)", "method": "--run (the pipeline: `runs`)",
    "data_root": "--data-root (the pipeline: data=)",
    "runs_dir": "--runs-dir (the pipeline: runs=)"}


KEPT = ("results", "notebooks")  # folders of runs_dir that hold no runs


def shipped() -> dict[str, Path]:
    """Names and files of the presets that come with the book."""
    folder = Path(__file__).resolve().parents[2] / "notebooks" / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read(preset: str) -> dict:
    """The values that a preset sets, before the defaults and before any change."""
    if str(preset) in GIVEN:
        content, name = GIVEN[str(preset)], preset
    else:
        path = file_of(preset)
        content, name = _read_file(path), preset if str(preset) in shipped() else str(path)
    return {"judge_eps": content.get("eps", Settings.eps), **content, "preset": name}


def file_of(preset: str) -> Path:
    """The file of a preset: of a name, or of a path from the root or else the current folder."""
    known, name = shipped(), str(preset)
    if name in known:
        return known[name]
    a_path = name.endswith((".yaml", ".yml"))
    places = dict.fromkeys([resolve(name), Path(name).expanduser().absolute()] if a_path else [])
    for path in places:
        if path.is_file():
            if not re.fullmatch(r"[\w.+-]+", path.name, re.ASCII):
                raise ValueError(f"{path}: a preset's name is that of folders, too: rename the "
                                 "file to letters, digits and . + - _ alone")
            if path.stem in KEPT:
                raise ValueError(f"{path}: a preset's runs lie in a folder of its name, and "
                                 f"runs_dir has another folder {path.stem!r}: rename the file")
            return path
    sought = f" (there is no {' and no '.join(map(str, places))})" if places else ""
    raise FileNotFoundError(f"unknown preset {SHOWN.repr(name)}: choose one of {', '.join(known)}, "
                            f"or give the path of a .yaml file{sought}")


def _read_file(path: Path) -> dict:
    """The checked `settings` of a preset file; ValueError naming the file."""
    try:
        content = plain_yaml.read(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"preset", "settings"} \
            or not isinstance(content["settings"], dict) \
            or not all(isinstance(key, str) for key in content["settings"]):
        raise ValueError(f"{path}: a preset holds two keys, `preset: {path.stem}` and `settings:`")
    if content["preset"] != path.stem:
        raise ValueError(f"{path} says `preset: {content['preset']}`, but a preset is called as "
                         f"its file: write `preset: {path.stem}`, or rename the file")
    try:
        load_plugin(content["settings"].get("plugin"))
        return {key: check_with_labels(key, value) for key, value in content["settings"].items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def refuse_called(preset: str, settings: dict | None = None) -> None:
    """ValueError for a setting of a preset, or of `settings` in its place, that a command or a
    notebook overrules; `frlib.run.config.load` by itself does not."""
    for key in CALLED.keys() & (read(preset) if settings is None else settings).keys():
        raise ValueError(f"{preset} sets {key}, which a command or a notebook overrules: "
                         f"leave it out, and give {CALLED[key]}")


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
    own_code.loaded(path)
    spec = importlib.util.spec_from_file_location(f"frlib_plugin_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
