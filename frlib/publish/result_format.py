"""What a result file may hold, as far as pages read it: a wrong number is refused, not shown."""

from __future__ import annotations

import re

from frlib.run.files import unpack_flags


def a_number(value) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15  # so neither NaN nor infinite


def numbers_alone(value) -> bool:
    """A number, or nested lists and dicts of numbers; None where one is missing.

    The keys of the outermost dict are labels; deeper ones may be names of classes.
    """
    if isinstance(value, dict) and not all(map(a_label, value)):
        return False
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
        elif value is not None and not a_number(value):
            return False
    return True


def a_label(value) -> bool:
    """What a network, an attack or a bandwidth is called: nothing that Markdown could read."""
    plain = r"[\w.,=+@ -]{1,255}"
    return isinstance(value, str) and re.fullmatch(plain, value, re.ASCII) is not None


def a_text(value) -> bool:
    return isinstance(value, str) and len(value) <= 2000


def a_name(value) -> bool:
    """A model, a version, a date: nothing that could mean something else in Markdown."""
    return isinstance(value, str) and re.fullmatch(r"[\w .+:-]{1,80}", value, re.ASCII) is not None


def a_score(value) -> bool:
    """{"correct", "total", "flags"}: a flag for each image, as many set as are correct."""
    try:
        right = int(unpack_flags(value["flags"], value["total"]).sum())
        return value["total"] > 0 and value["correct"] == right and \
            isinstance(value.get("stages", {}), dict) and numbers_alone(value.get("stages"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def a_table(value) -> bool:
    """{input: {bandwidth: score}}, or None."""
    return value is None or not misfit(value, {...: {...: a_score}})


_MADE = {"commit": a_name, "device": a_text, "threads": a_number, "date": a_name,
         "versions": {...: a_name}}
MADE = {**_MADE, "earlier": [_MADE]}
SHAPE = {  # as far as pages read it; other keys may hold anything
    **dict.fromkeys(("scores", "last", "best"), {...: a_score}),
    "history": [{...: a_number}],
    "config": {"model": a_name, "dataset": a_name, "eps": a_number, "judge_eps": a_number},
    "data": {"test": a_text}, "checkpoint": a_text, "checkpoint_sha256": a_text,
    "seed": a_number, "warnings": [a_text], "own_code": {...: a_text}, "trained_by": a_text,
    "provenance": MADE, "train_provenance": MADE, "table1": {...: a_table}, "full_scale": a_table,
    **dict.fromkeys(("roughness", "seconds", "zero_gradient", "published", "kernels", "spectra",
                     "radial"), numbers_alone)}
NETWORKS = {"checkpoint_sha256": {...: a_text}}  # by label
FIGURES = {**SHAPE, **NETWORKS}
LENS = {  # of `frlib.run.figures.lens`: by model, then by band or filter
    "scores": {...: {...: a_score}}, "filters": {...: {...: {...: a_score}}}, "provenance": MADE,
    **NETWORKS,
    **dict.fromkeys(("bands", "edges", "vertical", "horizontal", "inside", "size", "shares",
                     "energy", "maps", "images", "seed"), numbers_alone)}
SOUNDNESS = {  # of `frlib.run.soundness.soundness`: by network, then by check
    **dict.fromkeys(("radius", "scale", "stronger", "transfer"), {...: {...: a_score}}),
    "images": a_number, "seed": a_number, "provenance": MADE, **NETWORKS}
KINDS = {  # of files that are of many networks: their shape, and a key that they have
    "figures": (FIGURES, "table1"), "lens": (LENS, "scores"), "soundness": (SOUNDNESS, "stronger")}


def misfit(value, shape, where: str = "") -> str:
    """Where a value is not of this shape, "" if it is.

    A shape is a test of the value, [shape] for a list, {key: shape} for a dict that may lack the
    keys and have others, or {...: shape} for a dict whose values are all alike.
    """
    if callable(shape):
        return "" if shape(value) else f"{where} is not {shape.__name__.replace('_', ' ')}"
    if not isinstance(value, type(shape)):
        return f"{where or 'it'} is not a {'list' if isinstance(shape, list) else 'dict'}"
    if isinstance(shape, list):
        return next(filter(None, (misfit(v, shape[0], f"{where}[{i}]")
                                  for i, v in enumerate(value))), "")
    if ... in shape and not all(map(a_label, value)):
        return f"{where or 'it'} has a key that is no label"
    return next(filter(None, (misfit(v, shape.get(key, shape.get(...)), f"{where}.{key}".strip("."))
                              for key, v in value.items() if key in shape or ... in shape)), "")


def other_images(result: dict) -> str:
    """That scores are of different numbers of images, "" if not: only AutoAttack may have fewer."""
    totals = {f"{part}.{name}": score["total"] for part in ("scores", "last", "best")
              for name, score in result.get(part, {}).items()}
    most = max(totals.values(), default=0)
    odd = any(total < most for name, total in totals.items() if not name.endswith(".aa"))
    return f"scores of different numbers of images: {totals}" if odd else ""
