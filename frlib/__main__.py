"""The pipeline's steps as commands: python -m frlib {train,judge,figures,...} --help

`torchrun --standalone --nproc-per-node 4 -m -- frlib train ...` trains on four GPUs of one machine.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from frlib.run import (
    config,
    distributed,
    evaluate_run,
    export,
    figures,
    soundness,
    sweep,
    training,
)
from frlib.run.files import atomic, read_json, write_json
from frlib.run.labels import parse_label
from frlib.run.places import project_root, resolve
from frlib.run.presets import load_plugin, refuse_called


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m frlib", description=__doc__)
    parser.add_argument("step", choices=("train", "judge", "figures", "lens", "soundness",
                                         "sweep", "report", "export", "publish", "status"))
    parser.add_argument("label", nargs="?", help="the same as --run, as in export at-fr")
    parser.add_argument("--preset", help="a name, or the path of a .yaml file; by "
                        "default smoke, for status all")
    parser.add_argument("--run", default="at", help="method[@key=value,...], as at-fr@epochs=3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--plugin", default="", metavar="FILE", help="a Python file of your own "
                        "that registers methods, networks, data sets or attacks")
    parser.add_argument("--out", default="", help="where `report` writes its pages, by default "
                        "book/generated; where `export` writes a run's weights")
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=VALUE,...",
                        help="sweep: a setting and its values; may be repeated")
    parser.add_argument("--seeds", default="0", help="sweep: seeds, as 0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="sweep: processes at a time")
    parser.add_argument("--json", action="store_true", help="status: as JSON")
    parser.add_argument("--redo", action="store_true", help="train, judge or measure anew, also "
                        "what is finished; what was there is moved aside and kept")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if given.step != "train" and distributed.asked() > 1:
            raise ValueError(f"{given.step}: one process does it; only train is for torchrun")
        load_plugin(given.plugin)
        if given.step == "status":
            from frlib.publish import status  # here and below: training and judging need no pages

            folders = resolve(given.runs_dir) / "results", project_root() / "results"
            found = status.status(*folders, preset=Path(given.preset or "").stem)
            print(json.dumps(found, indent=1) if given.json else status.as_text(found))
            return 0
        label = parse_label(given.label or given.run)
        refuse_called(given.preset or "smoke")
        settings = config.load(given.preset or "smoke", seed=given.seed, data_root=given.data_root,
                               runs_dir=given.runs_dir, plugin=given.plugin or None, **label)
        if given.step == "train":
            training.train(settings, redo=given.redo)
        elif given.step == "judge":
            evaluate_run.judge(settings, redo=given.redo)
        elif given.step == "sweep":
            run_sweep(settings, given.vary, [int(seed) for seed in given.seeds.split(",")],
                      given.jobs)
        elif given.step == "figures":  # the numbers of chapter 5, of every run that is finished
            figures.figures(settings, redo=given.redo)
        elif given.step == "lens":  # of chapter 8
            figures.lens(settings, redo=given.redo)
        elif given.step == "soundness":  # of chapter 10
            soundness.soundness(settings, redo=given.redo)
        elif given.step == "export":
            if not given.out:
                raise ValueError("--out: must name the folder that the weights go to")
            for file, checksum in export.export(settings, given.out)["files"].items():
                print(f"{checksum}  {file}")
        elif given.step == "report":
            from frlib.publish import all_pages, claims, notebook_views

            every_row = list(claims.paper()["table2"]["rows"])
            name, _ = notebook_views.shown(settings, needed=every_row)
            all_pages.write_pages(resolve(given.out or "book/generated"), name,
                               resolve(given.runs_dir) / "results",
                               project_root() / "results")
        else:
            export.add_weights(settings)
            publish(resolve(given.runs_dir) / "results" / settings.preset_name,
                    project_root() / "results" / settings.preset_name)
    except (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError,
            yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_sweep(base, vary, seeds: list[int], jobs: int) -> None:
    """Make every result of a sweep by the pipeline, then write and print its table as CSV."""
    from frlib.publish import comparison
    from frlib.publish.collected import collect

    wanted = sweep.labels(base, sweep.parse_vary(vary))
    command = sweep.pipeline(base, wanted, seeds, jobs=jobs)
    if subprocess.run(command, cwd=project_root()).returncode:
        raise RuntimeError("the sweep has not finished; the same command goes on with it")
    folder = resolve(base.runs_dir) / "results"
    found = collect(base.preset_name, folder)
    found = {label: {seed: result for seed, result in found[label].items() if seed in seeds}
             for label in wanted}
    path = folder / base.preset_name / f"sweep-{base.result_label}.csv"
    path.write_text(comparison.as_csv(found, wanted, wanted[0]))
    print(comparison.as_text(found, wanted, wanted[0]))
    print(f"{len(wanted)} settings, {len(seeds)} seeds; the same with intervals: {path}")


def publish(fresh: Path, committed: Path) -> None:
    """Copy new results, and weights beside them, among the committed ones.

    FileExistsError for one that is there; that weights are added to a result does not change it.
    """
    files = sorted(fresh.glob("*/seed*.json"))
    if not files:
        raise FileNotFoundError(f"no results under {fresh}")
    files += sorted(fresh.glob("*/weights-seed*.safetensors"))
    targets = {file: committed / file.relative_to(fresh) for file in files}
    taken = [str(target) for file, target in targets.items()
             if target.exists() and _published(target) != _published(file)]
    if taken:
        raise FileExistsError(f"published already, and different: {', '.join(taken)}; "
                              "remove those that the new ones shall replace")
    for file, target in targets.items():
        if file.suffix == ".json":
            write_json(target, read_json(file))
        else:
            with atomic(target) as temporary:
                shutil.copyfile(file, temporary)


def _published(file: Path):
    """What may not change once it is published."""
    return file.read_bytes() if file.suffix != ".json" else \
        {key: value for key, value in read_json(file).items() if key != "weights"}


if __name__ == "__main__":
    sys.exit(main())
