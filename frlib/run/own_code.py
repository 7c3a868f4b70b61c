"""A reader's own code behind a run or a result: a checksum, so that edited code is noticed.

Of this library's code, the versions of `frlib.run.provenance` tell.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
from functools import partial
from pathlib import Path

from frlib import evaluate, losses, methods, models

LIBRARY = Path(models.__file__).parent
PLAIN = (str, int, float, bool, type(None))
LOADED: dict[Path, str] = {}  # files of a reader's, and the text that was loaded


def of_training(config) -> str:
    """The checksum of what is a reader's own in a training: its method, network or transform."""
    return _of(config.trained_as, config.model, config.fr_transform)


def _of(*names: str) -> str:
    """`of_training`, of the names of a method, a network and a transform; "" if one is not known.
    """
    used = list(zip((methods.METHODS, models.ARCHITECTURES, losses.TRANSFORMS), names, strict=True))
    if not all(name in registry for registry, name in used):
        return ""
    return checksum(*(registry[name] for registry, name in used if name not in registry.builtin))


def of_attacks() -> dict[str, str]:
    """{name: checksum} of the attacks of a reader's own that judge."""
    return {name: checksum(attack) for name, attack in evaluate.ATTACKS.items()
            if name not in evaluate.ATTACKS.builtin}


def edited(result: dict) -> list[str]:
    """Which of a reader's own code behind a result is not as it was, as far as it is loaded."""
    before, now = result.get("own_code", {}), of_attacks()
    found = [f"your attack {name!r} has changed" for name in before.keys() & now.keys()
             if before[name] != now[name]]
    trained, config = result.get("trained_by"), result.get("config", {})
    if trained:
        method, _ = methods.readings().get(config.get("method"), ("", ""))
        today = _of(method, config.get("model"), config.get("fr_transform", "class"))
        found += ["your own code of its training has changed"] * (today not in ("", trained))
    return found


def loaded(file: Path) -> None:
    """Take down the text of a file that is about to be imported, and of those that it imports."""
    LOADED.update(_with_imports(file, {}))


def checksum(*entries) -> str:
    """SHA-256 of the code of registered entries, as functions, classes or methods; "" for none.

    That is the whole file that defines one, with the files beside it that it imports, or in a
    notebook, which has none, its own lines; of a function of this library, or of an installed
    package, its name; the arguments of a `functools.partial`, and the plain values that a function
    closes over, an object holds or a notebook's function finds among its globals. ValueError for a
    plugin's file that was edited since it was loaded, since the code that runs is not the file's.
    """
    parts = [part for entry in entries for part in _code(entry)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def _code(entry) -> list[str]:
    if isinstance(entry, PLAIN):
        return [repr(entry)]
    if isinstance(entry, list | tuple):
        return [part for one in entry for part in _code(one)]
    if isinstance(entry, dict):
        return _code(list(entry.items()))
    if isinstance(entry, partial):
        return _code((entry.func, *entry.args, *sorted(entry.keywords.items())))
    if isinstance(entry, methods.Method):
        return _code([getattr(entry, field.name) for field in dataclasses.fields(entry)])
    entry = inspect.unwrap(entry) if callable(entry) else entry
    values = [f"{name} = {value!r}" for name, value in sorted(_values(entry).items())
              if isinstance(value, PLAIN)]
    if not (inspect.isroutine(entry) or inspect.isclass(entry)):
        entry = type(entry)
    try:
        file = Path(inspect.getsourcefile(entry) or "")
        if file.is_relative_to(LIBRARY) or "site-packages" in file.parts:
            return [f"{entry.__module__}.{entry.__qualname__}", *values]
        text = _unedited(file).values() if file.is_file() else [inspect.getsource(entry)]
        return [*text, *values]
    except (OSError, TypeError):  # written in C, or typed at a prompt
        return [entry.__qualname__, *values]


def _values(entry) -> dict:
    """What decides a function or object beside its source: the values that it closes over, the
    attributes of an object, and of a notebook's function the globals that it uses."""
    if inspect.isfunction(entry):
        found = inspect.getclosurevars(entry)
        in_file = Path(entry.__code__.co_filename).is_file()
        return {**({} if in_file else found.globals), **found.nonlocals}
    if inspect.isroutine(entry) or inspect.isclass(entry):
        return {}
    return getattr(entry, "__dict__", {})


def _unedited(file: Path) -> dict[Path, str]:
    """`_with_imports`; ValueError where one of the files is not as it was loaded."""
    texts = _with_imports(file, {})
    for one, text in texts.items():
        if LOADED.get(one, text) != text:
            raise ValueError(f"{one} was edited after it was loaded, and what runs here is the "
                             "code of before: restart the kernel")
    return texts


def _with_imports(file: Path, found: dict[Path, str]) -> dict[Path, str]:
    """`found`, {file: text}, with a file and those in its folder that it imports, and so on."""
    if file in found:
        return found
    found[file] = file.read_text()
    for node in ast.walk(ast.parse(found[file])):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            beside = file.parent / f"{name.partition('.')[0]}.py"
            if beside.is_file():
                _with_imports(beside, found)
    return found
