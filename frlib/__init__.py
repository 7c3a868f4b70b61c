"""Frequency regularisation for adversarial training: the library under the book.

Images are float32 NCHW in [0, 1]; eps and step sizes are in the same units (8/255); labels are
int64 class indices; models return logits and normalise inside themselves, if at all.
"""

from importlib import import_module
from importlib.util import find_spec


def __getattr__(name: str):
    """A module of the library, `frlib.attacks`, imported when it is first asked for."""
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
