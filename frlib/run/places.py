"""Where relative paths start."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The folder that holds frlib/ and notebooks/; relative paths start here.

    The variable FRLIB_ROOT moves it, as the tests do to keep their runs to themselves.
    """
    return Path(os.environ.get("FRLIB_ROOT", Path(__file__).resolve().parents[2]))


def resolve(path: str | Path) -> Path:
    """A path as given if absolute, else below the project's root; ~ is the home folder."""
    return project_root() / Path(path).expanduser()
