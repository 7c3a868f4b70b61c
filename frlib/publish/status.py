"""Every stored result, and whether today's code would still give its numbers."""

from __future__ import annotations

from pathlib import Path

from frlib.publish.collected import collect
from frlib.run import own_code
from frlib.run.files import read_json
from frlib.run.labels import run_label
from frlib.run.places import project_root
from frlib.run.provenance import NUMERICS, stale


def status(*folders: str | Path, preset: str = "") -> dict:
    """{"results": how many, "stale": how many, "numerics": today's, "files": one dict a result}.

    folders: of results, each with a folder per preset. A file's entry has preset, label, seed,
    numerics (the versions it was made with), stale (a list of reasons, empty if none) and file.
    Raises what `collect` raises for a damaged file.
    """
    names = {preset} if preset else {path.name for folder in folders if Path(folder).is_dir()
                                     for path in Path(folder).iterdir() if path.is_dir()}
    rows = []
    for name in sorted(names):
        for label, seeds in collect(name, *folders).items():
            rows += [_row(name, label, seed, result) for seed, result in seeds.items()]
    return {"results": len(rows), "stale": sum(bool(row["stale"]) for row in rows),
            "numerics": NUMERICS, "files": rows}


def _row(preset: str, label: str, seed: int, result: dict) -> dict:
    return {"preset": preset, "label": label, "seed": seed,
            "numerics": result.get("numerics") or {},
            "stale": [*stale(result), *own_code.edited(result),
                      *_retrained(preset, label, seed, result)],
            "file": result["file"]}


def _retrained(preset: str, label: str, seed: int, result: dict) -> list[str]:
    """Why a result is not of the weights that its run, if it lies beside it, has now."""
    runs = (project_root() / result["file"]).resolve().parents[3]
    finished = runs / preset / run_label(label) / f"seed{seed}" / "finished.json"
    checksum = result.get("checkpoint_sha256")
    if not isinstance(checksum, str) or not finished.is_file():
        return []
    now = read_json(finished).get("checkpoints", {}).values()
    return [] if checksum in now else ["its run was trained again"]


def as_text(found: dict) -> str:
    """What `status` found, a line a result, and a last line with the counts."""
    lines = [f"{row['preset']}  {row['label']}  seed {row['seed']}  "
             + ("as now" if not row["stale"] else f"STALE ({'; '.join(row['stale'])})")
             for row in found["files"]]
    return "\n".join([*lines, f"{found['results']} results, {found['stale']} of them stale"])
