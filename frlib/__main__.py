"""The pipeline's steps as commands: python -m frlib {train,judge,figures,...} --help

`torchrun --standalone --nproc-per-node 4 -m -- frlib train ...` trains on four GPUs of one machine.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import yaml

from frlib import train
from frlib.publish import book_tables, notebook_views
from frlib.run import config, evaluate_run, figures
from frlib.run.files import read_json, write_json


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m frlib", description=__doc__)
    parser.add_argument("step", choices=("train", "judge", "figures", "lens", "report", "publish"))
    parser.add_argument("--preset", default="smoke", help="a name, or the path of a .yaml file")
    parser.add_argument("--run", default="at", help="method[@key=value,...], as at-fr@epochs=3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--out", default="book/generated", help="where `report` writes its pages")
    parser.add_argument("--redo", action="store_true", help="train, judge or measure anew, also "
                        "what is finished; what was there is moved aside and kept")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if given.step != "train" and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(f"{given.step}: one process does it; only train is for torchrun")
        settings = config.load(given.preset, seed=given.seed, data_root=given.data_root,
                               runs_dir=given.runs_dir, **config.parse_label(given.run))
        if given.step == "train":
            train.train(settings, redo=given.redo)
        elif given.step == "judge":
            evaluate_run.judge(settings, redo=given.redo)
        elif given.step == "figures":  # the numbers of chapter 5, of every run that is finished
            figures.figures(settings, redo=given.redo)
        elif given.step == "lens":  # of chapter 8
            figures.lens(settings, redo=given.redo)
        elif given.step == "report":
            name, _ = notebook_views.shown(settings)
            book_tables.write_pages(config.resolve(given.out), name,
                               config.resolve(given.runs_dir) / "results",
                               config.project_root() / "results")
        else:
            publish(config.resolve(given.runs_dir) / "results" / settings.preset_name,
                    config.project_root() / "results" / settings.preset_name)
    except (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError,
            yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def publish(fresh: Path, committed: Path) -> None:
    """Copy new result files among the committed ones; FileExistsError for one that is there."""
    files = sorted(fresh.glob("*/seed*.json"))
    if not files:
        raise FileNotFoundError(f"no results under {fresh}")
    targets = {file: committed / file.relative_to(fresh) for file in files}
    taken = [str(target) for file, target in targets.items()
             if target.exists() and read_json(target) != read_json(file)]
    if taken:
        raise FileExistsError(f"published already, and different: {', '.join(taken)}; "
                              "remove those that the new ones shall replace")
    for file, target in targets.items():
        write_json(target, read_json(file))


if __name__ == "__main__":
    sys.exit(main())
