"""What is installed: the ranges, the oldest releases in them, those behind committed results."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from frlib.run.provenance import LIBRARIES

REPO = Path(__file__).resolve().parents[1]


def releases(name):
    """{package: its one release, or the range of it} of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in (REPO / name).read_text().splitlines())
    return {found.name.lower(): found.specifier for found in map(Requirement, filter(None, lines))}


def test_the_locked_releases_are_in_the_ranges_and_the_newest_that_made_a_result():
    locked = {name: str(one)[2:] for name, one in releases("constraints.txt").items()}
    for name, allowed in releases("requirements.txt").items():
        assert locked[name] in allowed, name
    made = [json.loads(path.read_text())["provenance"]["versions"]
            for path in (REPO / "results").glob("*/*/seed*.json")]
    made = [found for found in made if found["python"].startswith("3.11.")]  # some are not for it
    for library in LIBRARIES if made else ():
        newest = max((versions[library] for versions in made), key=Version)
        assert locked[library] == newest.partition("+")[0], f"update constraints.txt: {library}"


def test_the_oldest_releases_are_the_lower_bounds():
    if not shutil.which("sed"):
        pytest.skip("no sed")
    line, = re.findall(r"^\t(sed .*) > ", (REPO / "Makefile").read_text(), re.M)
    pins = subprocess.run(line, shell=True, cwd=REPO, text=True, capture_output=True, check=True)
    found = dict(pin.split("==") for pin in pins.stdout.split())
    ranges = releases("requirements.txt")
    assert {name.lower() for name in found} == ranges.keys()
    for name, oldest in found.items():
        assert oldest in ranges[name.lower()] and str(ranges[name.lower()]).count(oldest), name
