"""What the pipeline's jobs ask a cluster for, and the pipeline on a real Slurm of one node."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from conftest import write_preset

from frlib.run import config, evaluate_run

REPO = Path(__file__).resolve().parents[1]
CLUSTER = REPO / "tests" / "slurm" / "cluster.sh"
EPOCHS = 10
TINY = {"runs": ["at-fr"], "job_gpus": 1, "job_memory": 2, "job_minutes": 61, "train_size": 128,
        "epochs": EPOCHS, "step_size": 0.2, "eps": 0.3, "curve_images": 20, "flip": True,
        "judge_images": 10, "aa_images": 1, "judge_batch": 10}


def snakemake(*arguments, **settings):
    command = [sys.executable, "-m", "snakemake", *map(str, arguments), "--config",
               *(f"{key}={value}" for key, value in settings.items())]
    return subprocess.run(command, text=True, capture_output=True, timeout=300)


def asked(plan: str) -> dict[str, dict[str, str]]:
    """{rule: {resource: value}} of a printed plan."""
    blocks = re.findall(r"rule (\w+):\n((?: {4}.*\n)+)", plan)
    return {rule: dict(re.findall(r"(\w+)=([^,\s]+)", line)) for rule, block in blocks
            for line in re.findall(r"resources: (.*)", block)}


@pytest.mark.parametrize("gpus", [0, 4])
def test_a_job_asks_for_what_the_preset_says(checkout, gpus):
    """Four GPUs of a training share its batches; one is enough to judge."""
    preset = write_preset(checkout, "asks", runs=["at"], job_gpus=gpus, job_cpus=3,
                          threads=0 if gpus else 2, job_memory=5, job_minutes=77)
    ran = snakemake("-n", "-p", preset=preset)
    assert ran.returncode == 0, ran.stderr
    plan = ran.stdout + ran.stderr
    rules, shared = asked(plan), "-m torch.distributed.run --standalone --nproc-per-node 4 -m -- fr"
    assert (shared in plan) == (gpus == 4)
    wanted = {"train": "4" if gpus else None, **dict.fromkeys(("judge", "numbers", "figures"),
                                                              "1" if gpus else None),
              "training_page": None, "benchmark": None}  # which only read
    for rule, gpu in wanted.items():
        found = rules[rule]
        assert [found.get("gpu"), found["cpus_per_task"], found["mem_mb"], found["runtime"]] \
            == [gpu, "3" if gpus else "2", "5120", "77"], rule
    assert all("runtime" not in rules[rule] for rule in ("generated", "book"))


@pytest.mark.parametrize("key, value, least", [
    ("job_gpus", -1, 0), ("job_cpus", 0, 1), ("job_memory", 0, 1), ("job_minutes", 0, 1)])
def test_a_job_cannot_ask_for_nothing(key, value, least):
    with pytest.raises(ValueError, match=f"{key} = {value}: must be at least {least}"):
        config.load("smoke", **{key: value})
    changed = config.load("smoke", job_gpus=2, job_cpus=9, job_memory=9, job_minutes=9)
    assert changed.label == "at" and changed.group("train") == config.load("smoke").group("train")


def test_the_kubernetes_job_asks_for_what_its_preset_says():
    job = yaml.safe_load((REPO / "cluster" / "kubernetes.yaml").read_text())
    container, = job["spec"]["template"]["spec"]["containers"]
    name, = [word.removeprefix("preset=") for word in container["command"] if "preset=" in word]
    settings, resources = config.load(name), container["resources"]
    assert resources["limits"] == {"nvidia.com/gpu": settings.job_gpus,
                                   "memory": f"{settings.job_memory}Gi"}
    assert resources["requests"] == {"cpu": settings.job_cpus,
                                     "memory": f"{settings.job_memory}Gi"}
    assert f"--cores={settings.job_cpus}" in container["command"]


# --- a real cluster


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch):
    """A running Slurm of one node, stopped again afterwards; skipped where there is none."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun")
               if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: needs Debian's packages slurm-wlm and munge")
    if not find_spec("snakemake_executor_plugin_slurm"):
        pytest.skip("no snakemake-executor-plugin-slurm: pip install -r requirements.txt")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        started = subprocess.run([CLUSTER, "start", folder], text=True, capture_output=True)
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        yield
    finally:
        subprocess.run([CLUSTER, "stop", folder], check=True)


def jobs() -> dict[str, list[tuple[str, str]]]:
    """{rule: [(job, state), ...]} of all jobs that Slurm knows; the comment names the rule."""
    listed = subprocess.run(["squeue", "--states=all", "--noheader", "--format=%i|%T|%k",
                             "--sort=i"], text=True, capture_output=True, check=True).stdout
    found = {}
    for job, state, comment in (line.split("|") for line in listed.splitlines()):
        found.setdefault(re.match(r"rule_([a-z_]+?)(_wildcards|$)", comment)[1],
                         []).append((job, state))
    return found


@pytest.mark.slow
def test_the_pipeline_on_slurm_goes_on_when_a_job_is_killed(checkout, cluster):
    run, page = checkout / "runs/tiny/at-fr/seed0", "runs/notebooks/tiny/02_train_fr.ipynb"
    write_preset(checkout, "tiny", **TINY)
    with open(checkout / "snakemake.log", "w") as log:
        pipeline = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--profile", REPO / "cluster" / "slurm.yaml",
             "--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=2",
             "--seconds-between-status-checks=2", "--config", "preset=tiny.yaml", "--",
             "results", page], stdout=log, stderr=log)
    try:
        until(lambda: "train" in jobs(), pipeline)
        (job, _), = jobs()["train"]
        asked_for = subprocess.run(["scontrol", "show", "job", job], text=True, check=True,
                                   capture_output=True).stdout
        for setting in ("NumCPUs=1 ", "mem=2G", "TresPerJob=gres.gpu:1", "TimeLimit=01:01:00 "):
            assert re.search(setting, asked_for), asked_for
        until(lambda: (run / "last.pt").is_file(), pipeline)
        subprocess.run(["scancel", job], check=True)
        until(lambda: len(jobs()["train"]) == 2, pipeline)
        until(lambda: pipeline.poll() is not None)
    finally:
        pipeline.kill()  # its jobs are cancelled with the cluster
        pipeline.wait()
    told = (checkout / "snakemake.log").read_text()
    assert pipeline.returncode == 0, told
    states = {rule: [state for _, state in listed] for rule, listed in jobs().items()}
    assert states == {"train": ["CANCELLED", "COMPLETED"], "judge": ["COMPLETED"] * 2,
                      "training_page": ["COMPLETED"]}  # `results` itself is no job
    first = int(re.search(rf"epochs (\d+)-{EPOCHS} on", (run / "train.log").read_text())[1])
    assert 1 < first <= EPOCHS, "the second job started from nothing"
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
    for label in evaluate_run.siblings("at-fr"):
        assert (checkout / f"runs/results/tiny/{label}/seed0.json").is_file()
    assert json.loads((checkout / page).read_text())["metadata"]["papermill"]["exception"] is None


def until(done, pipeline=None, seconds=1800):
    """Wait for done(); an error when the pipeline ends before, or it takes too long."""
    end = time.monotonic() + seconds
    while not done():
        told = Path("snakemake.log").read_text()
        assert time.monotonic() < end, f"not done after {seconds} s:\n{told}"
        assert pipeline is None or pipeline.poll() is None, told
        time.sleep(0.2)
