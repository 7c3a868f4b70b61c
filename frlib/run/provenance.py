"""What a number was made with: commit, versions, device, and the version of what is computed.

NUMERICS decides whether a stored number is what this code would give. A version is raised by hand,
and only when a change moves a number; the golden runs in tests/test_golden.py tell.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "numpy", "pyautoattack", "scikit-learn")
NUMERICS = {"train": 1, "judge": 1, "figures": 1, "lens": 1}
CHANGES = {  # part: {version: what moved its numbers}
    "train": {1: "the attacks of TRADES and MART start as their official codes do, unclipped"},
}


def stale(result: dict) -> list[str]:
    """Why today's code would give other numbers than this run or result holds; [] if it would not.

    Its "numerics", {part: version}, are compared with today's.
    """
    made = result.get("numerics")
    if not isinstance(made, dict) or not made:
        return ["made before numerics had versions"]
    return [_why(part, version, NUMERICS[part]) for part, version in made.items()
            if part in NUMERICS and version != NUMERICS[part]]


def _why(part: str, made: int | None, today: int) -> str:
    """What has moved the numbers of a part since: "train 0 -> 1: ..."."""
    if made is None:
        return f"{part} was made before numerics had versions"
    steps = range(min(made, today) + 1, max(made, today) + 1)
    reasons = [CHANGES.get(part, {}).get(step) for step in steps]
    return f"{part} {made} -> {today}: " \
           f"{'; '.join(filter(None, reasons)) or 'no reason written down'}"


def provenance(device: str = "cpu", *, before: dict | None = None, **more) -> dict:
    """Where and with what a number is made: commit, dirty flag, versions, device, threads, date.

    `before` is the provenance of an earlier part of the same work: unless it differs in nothing but
    the date, it stays under "earlier". The commit is that of the process's first call.
    """
    import torch

    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    now = {**_commit(), "versions": versions, "device": name, "threads": torch.get_num_threads(),
           "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), **more}
    earlier = list((before or {}).get("earlier", []))
    if before and any(before.get(key) != value for key, value in now.items() if key != "date"):
        earlier.append({key: value for key, value in before.items() if key != "earlier"})
    return {**now, "earlier": earlier} if earlier else now


@cache
def _commit() -> dict:
    """HEAD of the repository that tracks this file; "unknown" for a copy that none tracks."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, text=True, timeout=20,
                              capture_output=True, check=True).stdout.strip()
    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": None}


def processor() -> str:
    """The CPU's name and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"CPU {name}, {os.cpu_count()} cores"
