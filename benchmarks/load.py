"""Sixty runs through the pipeline, several at a time: is one lost, does one meet another?

    python benchmarks/load.py

Each run is a training and its judgement, with a seed of its own. What counts, and is checked before
anything is written: every result is there, belongs to its seed, has weights that no other has, and
nothing half written is left; the last run, made again alone, gives the same weights and the same
outcome for every image. Time and memory go to benchmarks/load.json, which the book shows.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from frlib.run import presets
from frlib.run.files import read_json, write_json
from frlib.run.provenance import provenance

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--runs", type=int, default=60, help="how many (default 60)")
    add("--preset", default="smoke", help="whose settings they have (default smoke)")
    add("--slots", type=int, default=6, help="how many at a time (default 6)")
    add("--folder", type=Path, default=Path("runs/load"), help="where they are kept (runs/load)")
    add("--out", type=Path, default=HERE / "load.json", help="result file (benchmarks/load.json)")
    given = parser.parse_args(arguments)
    if min(given.runs, given.slots) < 1:
        parser.error("--runs and --slots must be at least 1")
    if given.folder.exists():
        parser.error(f"{given.folder} exists; delete it, or give another --folder")
    print(f"{given.runs} runs, {given.slots} at a time", flush=True)
    try:
        write_json(given.out, measure(given.folder, given.preset, given.runs, given.slots))
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(folder: Path, preset: str, runs: int, slots: int) -> dict:
    """The content of load.json. RuntimeError when a run is lost, broken or not what it is alone."""
    before, path = os.getloadavg()[0], many(folder, preset, runs)
    start = time.perf_counter()
    peak = watched(["snakemake", "-j", str(slots), "--config", f"preset={path}",
                    f"runs={folder / 'runs'}", "--", "results"], folder / "log")
    seconds = time.perf_counter() - start
    found = checked(folder / "runs", runs)
    start = time.perf_counter()
    for step in ("train", "judge"):
        watched(["frlib", step, "--preset", str(path), "--run", "at", "--seed", str(runs - 1),
                 "--runs-dir", str(folder / "alone")], folder / "log")
    alone = read_json(folder / "alone" / "results" / "load" / "at" / f"seed{runs - 1}.json")
    for key in ("checkpoint_sha256", "scores", "last", "roughness"):
        if alone[key] != found[-1][key]:
            raise RuntimeError(f"seed {runs - 1} has another {key} than alone; see {folder}")
    return {"preset": Path(preset).stem, "runs": runs, "slots": slots, "seconds": round(seconds, 1),
            "alone_seconds": round(time.perf_counter() - start, 1), "peak_bytes": peak,
            "load_before": round(before, 1), "provenance": provenance()}


def many(folder: Path, preset: str, runs: int) -> Path:
    """A preset file "load": the settings of a preset, one training, `runs` seeds."""
    content = yaml.safe_load(Path(presets.shipped().get(preset, preset)).read_text())
    content["settings"] |= {"runs": ["at"], "seeds": list(range(runs))}
    folder.mkdir(parents=True)
    path = folder / "load.yaml"
    path.write_text(yaml.safe_dump(content | {"preset": "load"}))
    return path


def watched(command: list[str], log: Path) -> int:
    """Run `python -m` command; the most bytes that it and all below it held at one time.

    Looked at twice a second; what processes share counts for each. RuntimeError when it fails.
    """
    peak = 0
    with open(log, "a") as out, subprocess.Popen(
            [sys.executable, "-m", *command], stdout=out, stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            held = 0
            with suppress(psutil.NoSuchProcess):
                for one in [top, *top.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        held += one.memory_info().rss
            peak = max(peak, held)
            time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} has failed; see {log}")
    return peak


def checked(runs_dir: Path, runs: int) -> list[dict]:
    """The result of every seed. RuntimeError for what is missing, double or half written."""
    found = [read_json(runs_dir / "results" / "load" / "at" / f"seed{seed}.json")
             for seed in range(runs)]
    wrong = [seed for seed, result in enumerate(found) if result["seed"] != seed]
    weights = {result["checkpoint_sha256"] for result in found}
    left = [str(path) for path in runs_dir.rglob(".*.tmp")]
    if wrong or left or len(weights) != runs:
        raise RuntimeError(f"results of another seed: {wrong}; different weights: {len(weights)} "
                           f"of {runs}; half written: {left}")
    return found


if __name__ == "__main__":
    sys.exit(main())
