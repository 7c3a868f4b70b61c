"""Whether a result file holds what is asked for: the same settings, weights and images.

A stored result is never overwritten: it is read, refused, or moved aside when that is asked for.
"""

from __future__ import annotations

import logging
from pathlib import Path

from frlib import data
from frlib.run import own_code
from frlib.run.config import Config
from frlib.run.files import file_checksum, read_json
from frlib.run.places import resolve
from frlib.run.provenance import stale

log = logging.getLogger("frlib")


def with_data(config: Config, identity: dict) -> dict:
    """The identity, and what lists the data set's files, where it has such a list."""
    files = data.listing(config.dataset, resolve(config.data_root))
    return {**identity, "data_files": files} if files else identity


def stored(path: Path, identity: dict) -> dict | None:
    """What is stored there, if it has this identity; None if nothing is.

    FileExistsError when it differs in more than "numerics" and "own_code", for which there is a
    warning; what was judged before an own attack was registered stays as it is.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    differing = [key for key in identity if key not in ("numerics", "own_code")
                 and found.get(key) != identity[key]]
    if differing:
        raise FileExistsError(f"{path} exists and differs in {', '.join(differing)}; results "
                              "are never overwritten: move it aside with --redo, or choose "
                              "another runs_dir")
    if reasons := stale(found) + own_code.edited(found):
        log.warning("%s: today's code gives other numbers (%s); --redo computes it again", path,
                    "; ".join(reasons))
    return found


def set_aside(path: Path) -> None:
    """Move a stored result, if there is one, into a folder older-<hash> beside it, to be kept."""
    if path.is_file():
        aside = path.parent / f"older-{file_checksum(path)[:12]}" / path.name
        aside.parent.mkdir(exist_ok=True)
        path.rename(aside)
        log.warning("%s: moved to %s, to be computed again", path, aside)
