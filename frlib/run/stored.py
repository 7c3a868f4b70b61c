"""Whether a result file holds what is asked for: the same settings, weights and images.

A stored result is never overwritten: it is read, refused, or, when that is asked for, kept aside.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from frlib import data
from frlib.run import own_code
from frlib.run.config import Config
from frlib.run.files import atomic, file_checksum, read_json, redo_mark, write_json
from frlib.run.folder import with_defaults
from frlib.run.places import resolve
from frlib.run.provenance import stale

log = logging.getLogger("frlib")


def with_data(config: Config, identity: dict) -> dict:
    """The identity, and what lists the data set's files, where it has such a list."""
    files = data.listing(config.dataset, resolve(config.data_root))
    return {**identity, "data_files": files} if files else identity


def stored(path: Path, identity: dict) -> dict | None:
    """What is stored there, if it has this identity; None if nothing is, or it is made anew.

    FileExistsError when it differs in more than "numerics" and "own_code", for which there is a
    warning; what was judged before an own attack was registered stays as it is.
    """
    if not path.is_file() or redo_mark(path).is_file():
        return None
    found = read_json(path)
    if differing := _differing(found, identity):
        raise FileExistsError(f"{path} exists and differs in {', '.join(differing)}; results "
                              "are never overwritten: move it aside with --redo, or choose "
                              "another runs_dir")
    if reasons := stale(found) + own_code.edited(found):
        log.warning("%s: today's code gives other numbers (%s); --redo computes it again", path,
                    "; ".join(reasons))
    return found


def _differing(found: dict, identity: dict) -> list[str]:
    """What of an identity is another in a result, the settings of its config by their names.

    A setting that the result lacks did not exist yet, and had the effect of its default.
    """
    told = [key for key in identity if key not in ("config", "numerics", "own_code")
            and found.get(key) != identity[key]]
    before, now = (with_defaults(held.get("config", {})) for held in (found, identity))
    return told + [key for key in now if now[key] != before[key]]


def begin_anew(path: Path, kept: Path, *patterns: str) -> None:
    """Mark what is stored there, if anything, as being made anew: `stored` gives it no more.

    Of what an earlier computation has left in the folder `kept`, to go on with, the files of these
    patterns are deleted.
    """
    for pattern in patterns:
        for file in kept.glob(pattern):
            file.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    redo_mark(path).touch()


def write_result(path: Path, result: dict) -> None:
    """Write a result that `stored` did not give; one that is there is kept in an older-<hash>/."""
    if path.is_file():
        aside = path.parent / f"older-{file_checksum(path)[:12]}" / path.name
        with atomic(aside) as temporary:
            shutil.copyfile(path, temporary)
        log.warning("%s: what was there is kept as %s", path, aside)
    write_json(path, result)
    redo_mark(path).unlink(missing_ok=True)
