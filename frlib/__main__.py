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
from frlib.run.files import atomic, file_checksum, read_json, write_json
from frlib.run.labels import parse_label
from frlib.run.places import project_root, resolve
from frlib.run.presets import file_of, load_plugin, refuse_called, shipped
from frlib.run.settings import refuse_idle

log = logging.getLogger("frlib")

MEASURED = ("figures", "lens", "soundness")
USED_BY = {  # the steps that an option is for, where these are not all
    "run": ("train", "judge", "sweep", "export"), "seed": ("train", "judge", *MEASURED, "export"),
    "data-root": ("train", "judge", *MEASURED, "sweep"), "out": ("report", "export"),
    "vary": ("sweep",), "seeds": ("sweep",), "jobs": ("sweep",), "json": ("status",),
    "redo": ("train", "judge", *MEASURED), "published": ("soundness",)}
DEFAULTS = {"label": "", "preset": "", "run": "at", "seed": 0, "data_root": "data",
            "runs_dir": "runs", "plugin": "", "out": "", "vary": [], "seeds": "0", "jobs": 2,
            "json": False, "redo": False, "published": False}


def the_parser() -> argparse.ArgumentParser:
    """Its namespace has what was given, and nothing else."""
    parser = argparse.ArgumentParser(prog="python -m frlib", description=__doc__,
                                     allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("step", choices=("train", "judge", *MEASURED,
                                         "sweep", "report", "export", "publish", "status"))
    parser.add_argument("label", nargs="?", help="the same as --run, as in export at-fr")
    parser.add_argument("--preset", help="a name, or the path of a .yaml file; by "
                        "default smoke, for status all; publish must be told")
    parser.add_argument("--run", help="method[@key=value,...], as at-fr@epochs=3; by default at")
    parser.add_argument("--seed", type=int, help="by default 0")
    parser.add_argument("--data-root", help="folder of the data sets, by default data")
    parser.add_argument("--runs-dir", help="folder of runs and results, by default runs")
    parser.add_argument("--plugin", metavar="FILE", help="a Python file of your own "
                        "that registers methods, networks, data sets or attacks")
    parser.add_argument("--out", help="where `report` writes its pages, by default "
                        "book/generated; where `export` writes a run's weights; from the "
                        "project's root")
    parser.add_argument("--vary", action="append", metavar="KEY=VALUE,...",
                        help="sweep: a setting and its values; may be repeated")
    parser.add_argument("--seeds", help="sweep: seeds, as 0,1,2; by default 0")
    parser.add_argument("--jobs", type=int, help="sweep: processes at a time, by default 2")
    parser.add_argument("--json", action="store_true", help="status: as JSON")
    parser.add_argument("--published", action="store_true", help="soundness: of the weights beside "
                        "the committed results, not of this machine's runs")
    parser.add_argument("--redo", action="store_true", help="train, judge or measure anew, also "
                        "what is finished; what was there is kept aside")
    return parser


def refuse_unused(told: dict) -> None:
    """ValueError for an option that the step does not use; it says which step does."""
    step = told["step"]
    if "label" in told and "run" in told:
        raise ValueError(f"{told['label']} and --run {told['run']}: they mean the same, give one")

    def options(names):
        return dict.fromkeys("run" if name == "label" else name.replace("_", "-") for name in names)

    unused = [f"{step} does not use --{name}, which is for {', '.join(USED_BY[name])}"
              for name in options(told) if step not in USED_BY.get(name, (step,))]
    if unused:
        used = [f"--{name}" for name in options(DEFAULTS) if step in USED_BY.get(name, (step,))]
        raise ValueError("; ".join([*unused, f"{step} takes {', '.join(used)}"]))


def settings_of(given: argparse.Namespace) -> config.Config:
    """What the options stand for; a preset may bring the plugin that its labels need.

    ValueError for a setting of --run that decides nothing of its method.
    """
    if given.step == "publish" and not given.preset:
        raise ValueError("publish: name the preset with --preset")
    preset, label = given.preset or "smoke", given.label or given.run
    refuse_called(preset)
    found = config.load(preset, seed=given.seed, data_root=given.data_root, runs_dir=given.runs_dir,
                        plugin=given.plugin or None, **parse_label(label))
    refuse_idle(f"--run {label},", parse_label(label), found.method)
    return found


def preset_asked(preset: str, *folders: Path) -> str:
    """The name of the preset whose results `status` lists, "" for all.

    ValueError for a name that neither the book nor a folder of these results has, FileNotFoundError
    for a .yaml file that is not there.
    """
    if preset.endswith((".yaml", ".yml")):
        return file_of(preset).stem
    there = {path.name for folder in folders if folder.is_dir()
             for path in folder.iterdir() if path.is_dir()}
    if preset and preset not in {*shipped(), *there}:
        raise ValueError(f"unknown preset {preset!r}: choose one of "
                         f"{', '.join(sorted({*shipped(), *there}))}, or give the path of a .yaml "
                         "file")
    return preset


def main(arguments: list[str] | None = None) -> int:
    told = vars(the_parser().parse_args(arguments))
    given = argparse.Namespace(**{**DEFAULTS, **told})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if given.step != "train" and distributed.asked() > 1:
            raise ValueError(f"{given.step}: one process does it; only train is for torchrun")
        load_plugin(given.plugin)
        settings = None if given.step == "status" else settings_of(given)
        refuse_unused(told)
        if given.step == "status":
            from frlib.publish import status  # here and below: training and judging need no pages

            folders = resolve(given.runs_dir) / "results", project_root() / "results"
            found = status.status(*folders, preset=preset_asked(given.preset, *folders))
            print(json.dumps(found, indent=1) if given.json else status.as_text(found))
        elif given.step == "train":
            training.train(settings, redo=given.redo)
        elif given.step == "judge":
            evaluate_run.judge(settings, redo=given.redo)
        elif given.step == "sweep":
            run_sweep(settings, sweep.parse_vary(given.vary), sweep.parse_seeds(given.seeds),
                      given.jobs)
        elif given.step == "figures":  # the numbers of chapter 5, of every run that is finished
            figures.figures(settings, redo=given.redo)
        elif given.step == "lens":  # of chapter 8
            figures.lens(settings, redo=given.redo)
        elif given.step == "soundness":  # of chapter 10
            soundness.soundness(settings, published=given.published, redo=given.redo)
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
            own_results(settings)
            export.add_weights(settings)
            publish(resolve(given.runs_dir) / "results" / settings.preset_name,
                    project_root() / "results" / settings.preset_name)
    except (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError,
            yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_sweep(base, vary: dict[str, list], seeds: list[int], jobs: int) -> None:
    """Make every result of a sweep by the pipeline, then write and print its table as CSV.

    ValueError, before anything is made, for stored results of the preset with other settings.
    """
    from frlib.publish import comparison

    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: must be at least 1")
    wanted = sweep.labels(base, vary)
    own_results(base)
    command = sweep.pipeline(base, wanted, seeds, jobs=jobs)
    if subprocess.run(command, cwd=project_root()).returncode:
        raise RuntimeError("the sweep has not finished; the same command goes on with it")
    found = own_results(base)
    found = {label: {seed: result for seed, result in found[label].items() if seed in seeds}
             for label in wanted}
    path = resolve(base.runs_dir) / "results" / base.preset_name / \
        sweep.table_name(base, vary, seeds)
    path.write_text(comparison.as_csv(found, wanted, wanted[0]))
    print(comparison.as_text(found, wanted, wanted[0]))
    print(f"{len(wanted)} settings, {len(seeds)} seeds; the same with intervals: {path}")


def own_results(base) -> dict[str, dict[int, dict]]:
    """This machine's results of a preset, {label: {seed: result}}.

    ValueError for one that was made with other settings than the preset has now.
    """
    from frlib.publish import comparable
    from frlib.publish.collected import collect

    found = collect(base.preset_name, resolve(base.runs_dir) / "results")
    comparable.of_one_experiment(found, config.load(base.preset))
    return found


def publish(fresh: Path, committed: Path) -> None:
    """Copy new results, and the weights beside them that they name, among the committed ones.

    FileExistsError for one that is there; that weights are added to a result does not change it.
    """
    files = sorted(fresh.glob("*/seed*.json"))
    if not files:
        raise FileNotFoundError(f"no results under {fresh}")
    for file in sorted(fresh.glob("*/weights-seed*.safetensors")):
        result = file.with_name(f"{file.stem.removeprefix('weights-')}.json")
        if result in files and read_json(result).get("weights") == file_checksum(file):
            files.append(file)
        else:
            log.warning("%s is left out: %s does not name it", file, result)
    targets = {file: committed / file.relative_to(fresh) for file in files}
    taken = [str(target) for file, target in targets.items()
             if target.exists() and _published(target) != _published(file)]
    if taken:
        raise FileExistsError(f"published already, and different: {', '.join(taken)}; "
                              "remove those that the new ones shall replace")
    for file, target in targets.items():
        if file.suffix == ".json":  # a target may name weights that this machine does not have
            known = read_json(target) if target.is_file() else {}
            write_json(target, {**known, **read_json(file)})
        else:
            with atomic(target) as temporary:
                shutil.copyfile(file, temporary)


def _published(file: Path):
    """What may not change once it is published."""
    return file.read_bytes() if file.suffix != ".json" else \
        {key: value for key, value in read_json(file).items() if key != "weights"}


if __name__ == "__main__":
    sys.exit(main())
