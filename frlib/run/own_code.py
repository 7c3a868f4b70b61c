"""A reader's own code behind a run or a result: a checksum, so that edited code is noticed.

Of this library's code, the versions of `frlib.run.provenance` tell.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from functools import partial
from pathlib import Path

from frlib import evaluate, losses, methods, models

LIBRARY = Path(models.__file__).parent
PLAIN = (str, int, float, bool, tuple, type(None))


def of_training(config) -> str:
    """The checksum of what is a reader's own in a training: its method, network or transform."""
    method = methods.METHODS[config.trained_as]
    return checksum(method.attack, method.loss, models.ARCHITECTURES[config.model],
                    losses.TRANSFORMS[config.fr_transform])


def of_attacks() -> dict[str, str]:
    """{name: checksum} of the attacks of a reader's own that judge."""
    found = {name: checksum(attack) for name, attack in evaluate.ATTACKS.items()}
    return {name: value for name, value in found.items() if value}


def checksum(*functions) -> str:
    """SHA-256 of the code of functions or classes; "" if all are this library's, or an installed
    package's.

    That is the whole file that defines one, with the files beside it that it imports, or in a
    notebook, which has none, its own lines; and the plain arguments of a `functools.partial`.
    """
    parts = [part for function in functions for part in _code(function)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def _code(function) -> list[str]:
    given = []
    while isinstance(function, partial):
        given += [value for value in (*function.args, *sorted(function.keywords.items()))
                  if isinstance(value, PLAIN)]
        function = function.func
    function = inspect.unwrap(function)
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function)
    try:
        file = Path(inspect.getsourcefile(function) or "")
        if file.is_relative_to(LIBRARY) or "site-packages" in file.parts:
            return []
        code = "\n".join(_with_imports(file, {}).values()) if file.is_file() \
            else inspect.getsource(function)
    except (OSError, TypeError):  # written in C, or typed at a prompt
        return []
    return [code, repr(given)]


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
