"""Result files in: `<folder>/<preset>/<label>/seed<k>.json`, collected for a preset."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from frlib.publish import comparable
from frlib.publish.result_format import KINDS, SHAPE, misfit, other_images
from frlib.run.files import read_json
from frlib.run.places import project_root
from frlib.run.settings import SHOWN

log = logging.getLogger("frlib")
PUBLISHED = ("mini", "small")  # presets whose committed results stand in for smoke, best first


def collect(preset: str, *folders: str | Path) -> dict[str, dict[int, dict]]:
    """{label: {seed: result}} of a preset; of two files for one label and seed the first folder's.

    The labels of `result_format.KINDS` hold the numbers of a chapter. Each result gains its
    "file". Raises ValueError naming the file for damaged JSON, a file that is no result (see
    SHAPE), an odd file name, or one that lies where the result of another preset, label or seed
    belongs; and for two files that differ in more settings than their labels say. Numbers of a
    chapter that are of other weights than a result beside them are left out, with a warning.
    """
    files = {}
    for folder in folders:
        for path in sorted((Path(folder) / preset).glob("*/seed*.json")):
            if not re.fullmatch(r"seed(0|[1-9][0-9]*)\.json", path.name):
                raise ValueError(f"{path}: result files are named seed<number>.json")
            if not re.fullmatch(r"[\w.,=+@-]+", path.parent.name, re.ASCII):
                raise ValueError(f"{str(path.parent)!r}: its name is no label of a run")
            files.setdefault((path.parent.name, int(path.stem[4:])), path)
    found: dict[str, dict[int, dict]] = {}
    for (label, seed), path in sorted(files.items()):
        result = read_json(path)
        shape, key = KINDS.get(label, (SHAPE, "scores"))
        wrong = misfit(result, shape) or ("" if key in result else f"no {key!r}")
        if wrong := wrong or (other_images(result) if shape is SHAPE else ""):
            raise ValueError(f"{path}: not a result file ({wrong}); delete it to compute again")
        says = [f"{key} {SHOWN.repr(result[key])}" for key, place in
                (("preset", preset), ("label", label), ("seed", seed))
                if result.get(key, place) != place]
        if says:
            raise ValueError(f"{path}: says {', '.join(says)}, but lies at {preset}/{label}/seed"
                             f"{seed}.json: a result is known by its place; move it, or delete it")
        root = project_root()
        name = path.resolve()
        name = name.relative_to(root) if name.is_relative_to(root) else name
        found.setdefault(label, {})[seed] = {**result, "file": str(name)}
    comparable.of_one_experiment(found)
    _leave_out_other_weights(found)
    return found


def _leave_out_other_weights(found: dict[str, dict[int, dict]]) -> None:
    """Drop a chapter's numbers whose networks are no longer those of the results."""
    for kind in KINDS.keys() & found.keys():
        for seed, numbers in list(found[kind].items()):
            other = [label for label, checksum in numbers.get("checkpoint_sha256", {}).items()
                     if found.get(label, {}).get(seed, {}).get("checkpoint_sha256", checksum)
                     != checksum]
            if other:
                log.warning("%s is left out: it is of other weights than the result of %s; "
                            "`python -m frlib %s --redo` measures it again", numbers["file"],
                            ", ".join(other), kind)
                del found[kind][seed]
        if not found[kind]:
            del found[kind]
