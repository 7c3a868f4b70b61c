"""A process that is killed, runs out of disk or meets another: the same command goes on."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
import torch
from conftest import write_preset

from frlib import fast, train
from frlib.__main__ import main
from frlib.run import config, evaluate_run, files
from frlib.run.folder import open_run

REPO = Path(__file__).resolve().parents[1]
# at this radius the first stage of AutoAttack breaks whatever the network has right: some images
# of 24, each a batch of its own
KILLED = {"runs": ["natural", "at", "at-fr"], "train_size": 128, "batch_size": 16, "epochs": 3,
          "milestones": [0.67], "swa_start": 0.34, "eps": "128/255", "step_size": "1/255",
          "curve_steps": 2, "judge_images": 24, "aa_images": 24, "judge_batch": 1}
TIMES = {"seconds", "date", "peak_bytes", "commit", "dirty"}


def without_times(content):
    """The same content without times, dates and the memory that was used; tensors as bytes."""
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if k not in TIMES}
    if isinstance(content, torch.Tensor):
        return content.dtype, content.shape, content.numpy().tobytes()
    return [without_times(v) for v in content] if isinstance(content, list) else content


def outcome(runs: Path) -> dict:
    """{file: what it holds but for times} of all that trainings and judgements leave."""
    found = {}
    for path in sorted(path for path in runs.rglob("*") if path.is_file()):
        name = str(path.relative_to(runs))
        if path.suffix == ".json":
            found[name] = json.dumps(without_times(files.read_json(path)))
        elif path.suffix == ".jsonl":
            found[name] = [json.dumps(without_times(json.loads(line)))
                           for line in path.read_text().splitlines()]
        elif path.name in ("last.pt", "autoattack.pt"):  # the first holds seconds, both their names
            found[name] = without_times(torch.load(path, weights_only=True))
        elif path.suffix == ".pt":
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module", autouse=True)
def native(asked):
    """The precision of this machine, in which the processes that are killed here compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "has_bfloat16", asked)
        yield


@pytest.fixture(scope="module")
def preset(own_root):
    return write_preset(own_root, "killed", **KILLED)


@pytest.fixture(scope="module")
def unbroken(preset, tmp_path_factory):
    """The folder of a training and a judgement from start to end."""
    runs = tmp_path_factory.mktemp("unbroken")
    for step, run in (("train", "at"), ("judge", "at-swa")):
        assert main([step, "--preset", preset, "--run", run, "--runs-dir", str(runs)]) == 0
    return runs


def command(preset, runs, step, run):
    return subprocess.Popen(
        [sys.executable, "-m", "frlib", step, "--preset", preset, "--run", run, "--runs-dir", runs],
        cwd=REPO, env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(process, runs, pattern):
    """Until a file of this pattern is there; a failure if the process ends before."""
    while not list(runs.rglob(pattern)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_a_training_and_a_judgement_killed_midway_end_as_unbroken_ones(preset, unbroken, tmp_path):
    """Killed while weights are averaged, and after the first batch of AutoAttack."""
    for step, run, moment in (("train", "at", "swa-best.pt"), ("judge", "at-swa", "autoattack.pt")):
        with command(preset, tmp_path, step, run) as process:
            wait_for(process, tmp_path, moment)
            settings = config.load(preset, method=run, runs_dir=str(tmp_path))
            with pytest.raises(RuntimeError, match="is in use by another process"):
                (train.train if step == "train" else evaluate_run.judge)(settings)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        done = evaluate_run.result_path(settings) if step == "judge" else \
            open_run(settings).dir / "finished.json"
        assert not done.exists(), "it was killed too late to show anything"
        with command(preset, tmp_path, step, run) as process:
            assert process.wait() == 0, process.stderr.read()
        assert done.is_file()
    found, expected = outcome(tmp_path), outcome(unbroken)
    assert found.keys() == expected.keys() and not list(tmp_path.rglob("*.tmp"))
    for name in expected:
        assert found[name] == expected[name], name


# --- a full disk, a place that cannot be written


@pytest.fixture
def small_disk():
    """Gives a context in which no file of this process can grow beyond some bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_keeps_what_was_there_and_then_goes_on(preset, unbroken, tmp_path,
                                                                    small_disk, capsys):
    arguments = ["train", "--preset", preset, "--run", "at", "--runs-dir", str(tmp_path)]
    last = next(unbroken.rglob("last.pt"))
    best = next(unbroken.rglob("best.pt")).stat().st_size
    assert best + 20_000 < last.stat().st_size
    small_disk(best + 20_000)
    assert main(arguments) == 1
    assert re.search(r"error: cannot write .*last.pt .*what was there before is intact",
                     capsys.readouterr().err)
    run = open_run(config.load(preset, method="at", runs_dir=str(tmp_path))).dir
    assert (run / "best.next.pt").is_file() and not (run / "last.pt").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    small_disk(resource.RLIM_INFINITY)
    assert main(arguments) == 0
    assert outcome(tmp_path) == {name: content for name, content in outcome(unbroken).items()
                                 if "results" not in name and "judge" not in name}


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    for name in (".last.pt.4711.tmp", "last.pt.tmp.txt", ".hidden"):
        (tmp_path / name).write_text("half")
    with files.lock(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", ".lock", "last.pt.tmp.txt"]


@pytest.mark.parametrize("step", ["train", "judge", "report"])
def test_a_file_in_place_of_a_folder_is_told(preset, unbroken, tmp_path, capsys, step):
    (tmp_path / "killed").write_text("")
    (tmp_path / "results").write_text("")
    if step == "judge":
        (tmp_path / "killed").unlink()
        shutil.copytree(unbroken / "killed", tmp_path / "killed")
    more = ["--out", str(tmp_path / "killed" / "pages")] if step == "report" else \
        ["--run", "at-swa"]
    assert main([step, "--preset", preset, "--runs-dir", str(tmp_path), *more]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: cannot write (to )?/.*(killed|results)", error)


# --- the whole pipeline, slow


KILLS = 20
PAGES = [f"runs/notebooks/killed/{page}.ipynb" for page in ("02_train_fr", "05_spectral_figures")]
CELL_TIMES = re.compile(r"\d[\d.]* ?(s|min|h|ms|GiB)\b|\d{4}-\d\d-\d\d[ T][\d:.]+Z?|0x[0-9a-f]+")


def shown(page: Path) -> list[str]:
    """What the cells of an executed notebook show, but for times."""
    notebook = nbformat.read(page, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs and all(output.output_type != "error" for output in outputs), page
    data = [output.get("text") or {kind: content for kind, content in output.data.items()
                                   if "widget" not in kind}
            for output in outputs if output.get("name") != "stderr"]
    return [CELL_TIMES.sub("#", json.dumps(content)) for content in data]


def tree(root: Path) -> Path:
    """A copy of the repository's sources, with the preset, to run the pipeline in."""
    for folder in ("frlib", "notebooks", "book", "benchmarks", "results"):
        shutil.copytree(REPO / folder, root / folder, ignore=shutil.ignore_patterns(
            "__pycache__", "executed", "generated"))
    for file in ("Snakefile", "_config.yml", "_toc.yml"):
        shutil.copy(REPO / file, root)
    write_preset(root, "killed", **KILLED)
    return root


def pipeline(root: Path) -> subprocess.Popen:
    """`make` without the book: trainings, results and two pages; what it says goes to `log`."""
    environment = {k: v for k, v in os.environ.items() if k != "FRLIB_ROOT"}
    with open(root / "log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "-j1", "--rerun-incomplete", "--nolock", "--config",
             "preset=killed.yaml", "--", "results", *PAGES], cwd=root, stdout=log, stderr=log,
            env={**environment, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})


def kill_all(process: subprocess.Popen) -> str:
    """SIGKILL for a process and all that it has started; the command of the last of them."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    what = ""
    for member in family:
        with suppress(psutil.Error):
            what = " ".join(member.cmdline()[1:6])
            member.kill()
    psutil.wait_procs(family, timeout=60)
    process.wait()
    return what


@pytest.mark.slow
def test_the_pipeline_killed_at_random_moments_ends_as_an_unbroken_one(tmp_path):
    """Snakemake, its jobs and their kernels die together; KILL_SEED=n repeats the moments."""
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"\nKILL_SEED={seed}", flush=True)
    chance, began = random.Random(seed), time.time()
    whole = tree(tmp_path / "unbroken")
    assert pipeline(whole).wait() == 0, (whole / "log").read_text()
    took = time.time() - began
    print(f"unbroken: {took:.0f} s", flush=True)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        broken = tree(tmp_path / f"round{rounds}")
        while True:
            process = pipeline(broken)
            try:
                process.wait(chance.uniform(1, 0.4 * took) if kills < KILLS else None)
                break
            except subprocess.TimeoutExpired:
                kills += 1
                print(f"kill {kills}: {kill_all(process)}", flush=True)
        assert process.returncode == 0, (broken / "log").read_text()
        found, expected = outcome(broken / "runs"), outcome(whole / "runs")
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        for page in PAGES:
            assert shown(broken / page) == shown(whole / page), page
        print(f"round {rounds} has ended as the unbroken one", flush=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_that_may_only_be_read_is_told(preset, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["train", "--preset", preset, "--runs-dir", str(tmp_path / "runs")]) == 1
    assert "cannot write to" in capsys.readouterr().err
    tmp_path.chmod(0o700)
