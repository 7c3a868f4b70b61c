"""What make, Snakemake and papermill pass on: the name of a folder as it was given."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_preset
from papermill.cli import _resolve_type
from snakemake.cli import parse_config

from frlib.run import config, sweep
from frlib.run.settings import PATHS

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["data", "2024", "2024_01", "0123", "1e3", "true", "null", "~",
                                  "my data", "it's", 'a "b"', "a\\b", "a: b", "-x", "a;b", ""])
def test_make_passes_the_name_of_a_folder_as_text(name):
    planned = subprocess.run(["make", "-n", "mini", f"DATA={name}"], cwd=REPO, text=True,
                             capture_output=True, check=True).stdout
    command, = (line for line in planned.splitlines() if " snakemake " in line)
    words = shlex.split(command)
    given = words[words.index("--config") + 1:]
    assert parse_config(given) == {"data": [name], "preset": "mini"}


def test_make_publishes_no_preset_unasked():
    refused = subprocess.run(["make", "-n", "publish"], cwd=REPO, text=True, capture_output=True)
    assert refused.returncode == 2 and "name the preset: make publish PRESET=" in refused.stderr


def plan(*given):
    # --forceall: plans the same whether or not something was already made in this folder
    return subprocess.run([sys.executable, "-m", "snakemake", "-n", "-p", "--forceall", "--config",
                           *given], cwd=REPO, text=True, capture_output=True, timeout=120)


def test_the_pipeline_passes_it_on_and_refuses_what_was_read_as_a_number():
    planned = plan('data=["2024_01"]', "runs=my runs")
    assert planned.returncode == 0, planned.stderr
    for part in ("--data-root 2024_01 --runs-dir 'my runs'",
                 "-r data_root 2024_01 -r runs_dir 'my runs'"):
        assert part in planned.stdout + planned.stderr
    assert "--redo" not in planned.stdout
    again = plan("redo=1").stdout  # a retry goes on with what the first attempt has left
    redo = '.json; [ 1 -gt 1 ] && [ -e "${file%.json}.redo" ] || echo --redo)'
    assert again.count(redo) > 3
    for given, message in (("data=2024_01", "data_root = 202401: must be of type str"),
                           ("runs=", "runs_dir = '': must name a folder"),
                           ("prest=mini", "prest: unknown; choose of preset, data, runs, plugin"),
                           ("seeds=[3]", "labels and seeds: only together and for the target")):
        refused = plan(given)
        assert refused.returncode and message in refused.stdout + refused.stderr


def test_a_sweep_passes_on_every_name_as_text():
    base = config.load("smoke", runs_dir="r ü x", data_root="2024_01")
    command = sweep.pipeline(base, ["at"], [3])
    given = command[command.index("--config") + 1:command.index("--")]
    assert parse_config(given) == {"preset": ["smoke"], "data": ["2024_01"], "runs": ["r ü x"],
                                   "labels": ["at"], "seeds": ["3"]}
    planned = plan(*given, "--", "sweep")
    assert planned.returncode == 0, planned.stderr
    assert "--preset smoke --data-root 2024_01 --runs-dir 'r ü x' --run at --seed 3" \
        in planned.stdout + planned.stderr


@pytest.mark.parametrize("name", ["2024", "2024_01", "0123", "1e3", "True"])
def test_a_notebook_refuses_a_folder_that_papermill_read_as_a_number(name):
    for key in PATHS:
        with pytest.raises(ValueError, match=f"{key} = .*must be of type str .* as './name'"):
            config.from_parameters({key: _resolve_type(name)}, method="at")
        for text in (name, _resolve_type(f"./{name}")):
            assert getattr(config.from_parameters({key: text}, method="at"), key) == text
        with pytest.raises(ValueError, match=f"{key} = '': must name a folder"):
            config.from_parameters({key: ""}, method="at")


@pytest.mark.slow
def test_what_is_finished_stays_whatever_becomes_of_the_preset(tmp_path):
    runs, judged = tmp_path / "runs", {"judge_images": 4, "aa_images": 1}
    preset = tmp_path / write_preset(tmp_path, "tiny", runs=["natural"], epochs=1, **judged)

    def snakemake(*more):
        return subprocess.run([sys.executable, "-m", "snakemake", "-j1", "--nolock", *more,
                               "--config", f"preset={preset}", f"runs={runs}",
                               *(["redo=1"] if "--forcerun" in more else []), "--", "results"],
                              cwd=REPO, text=True, capture_output=True, timeout=600)
    assert snakemake().returncode == 0
    files = [runs / "tiny" / "natural" / "seed0" / "finished.json",
             runs / "results" / "tiny" / "natural" / "seed0.json"]
    before = [path.read_bytes() for path in files]
    preset.write_text("# a comment\n" + preset.read_text())
    assert "Nothing to be done" in snakemake("-n").stdout
    write_preset(tmp_path, "tiny", runs=["natural"], epochs=2, **judged)
    refused = snakemake()
    assert refused.returncode and "epochs = 1 there, 2 asked for" in refused.stdout + refused.stderr
    assert [path.read_bytes() for path in files] == before
    assert snakemake("--forcerun", "train", "judge").returncode == 0
    assert (files[0].parent / "older-1" / "finished.json").read_bytes() == before[0]
    kept, = files[1].parent.glob("older-*/seed0.json")
    assert kept.read_bytes() == before[1] != files[1].read_bytes()
