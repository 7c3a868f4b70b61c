"""Which code a number depends on, as a short hash that changes when that code does."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path


def code_fingerprint(*entries: str, modules: tuple[str, ...],
                     folder: Path = Path(__file__).parent) -> str:
    """A hash over the functions `entries` ("train.train") and all they use within `modules`.

    Every top-level function, class and constant that is named, directly or by way of others, counts
    with its statements; its comments, docstrings and layout do not, nor does what is never named.
    A module that is named as a whole ("spectral"; getattr(losses, method)) counts with all of it.
    Names are found in the text of `folder`/<module>.py; nothing is executed.
    """
    code = {name: _definitions(ast.parse((folder / f"{name}.py").read_text())) for name in modules}
    todo, used = [], {}
    for entry in entries:
        module, _, name = entry.partition(".")
        todo += [(module, name)] if name else [(module, name) for name in code[module]]
    while todo:
        module, name = todo.pop()
        node = code[module][name]
        if (module, name) not in used and not isinstance(node, ast.Import | ast.ImportFrom):
            used[module, name] = ast.unparse(node)
            todo += _named(node, module, code)
    text = "\n".join(f"{'.'.join(key)}: {used[key]}" for key in sorted(used))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _definitions(tree: ast.Module) -> dict[str, ast.AST]:
    """Top-level names and what defines them, without docstrings; for imports, the import."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: node for target in targets for name in ast.walk(target)
                      if isinstance(name, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner):
                    inner.body = inner.body[1:] or [ast.Pass()]
    return found


def _named(node: ast.AST, module: str, code: dict) -> set[tuple[str, str]]:
    """The (module, name) pairs within `code` that `node`, which stands in `module`, names."""
    found, imported = set(), {}
    for name, where in code[module].items():
        if isinstance(where, ast.ImportFrom) and where.module == "frlib" and name in code:
            imported[name] = None  # the module itself
        elif isinstance(where, ast.ImportFrom) and (where.module or "").startswith("frlib."):
            imported[name] = where.module.removeprefix("frlib.")
    attributes = {id(inner.value): inner.attr for inner in ast.walk(node)
                  if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name)}
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Name) or inner.id not in code[module]:
            continue
        if inner.id not in imported:
            found.add((module, inner.id))
        elif (home := imported[inner.id]) is None:
            names = [attributes[id(inner)]] if id(inner) in attributes else code[inner.id]
            found |= {(inner.id, name) for name in names}
        elif home in code:
            found.add((home, inner.id))
    return found
