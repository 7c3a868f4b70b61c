"""The curves of finished trainings, where their weights are not to be kept or judged.

    python benchmarks/curves.py resnet18 mini --runs-dir FOLDER

Each row of a curve is an epoch's, as `frlib.train.epochs` gives it. They go to
benchmarks/curves.json, where other presets' stay; `frlib.publish.curves_tables` makes tables of
their last rows.
"""

import argparse
import sys
from pathlib import Path

from frlib.run import config
from frlib.run.files import read_json, write_json
from frlib.run.folder import open_run, refuse_another
from frlib.run.labels import parse_label
from frlib.run.places import resolve

HERE = Path(__file__).resolve().parent
TOLD = ("model", "epochs", "batch_size", "eps", "step_size", "steps", "curve_images", "curve_steps")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="+", help="whose finished runs")
    parser.add_argument("--runs-dir", default="runs", help="where they are (default runs)")
    parser.add_argument("--out", type=Path, default=HERE / "curves.json")
    given = parser.parse_args(arguments)
    try:
        bases = [config.load(preset, runs_dir=given.runs_dir) for preset in given.presets]
        before = read_json(given.out).get("presets", {}) if given.out.is_file() else {}
        found = {base.preset_name: of_preset(base) for base in bases}
        write_json(given.out, {"presets": {**before, **found}})
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"curves in {given.out}")
    return 0


def of_preset(base: config.Config) -> dict:
    """{"setting", "runs": {label: {seed: {"history", "provenance"}}}} of what is finished there.

    ValueError where nothing is, RuntimeError for a run of other settings.
    """
    runs = {}
    for path in sorted((resolve(base.runs_dir) / base.preset_name).glob("*/seed*/finished.json")):
        label, seed = path.parent.parent.name, path.parent.name.removeprefix("seed")
        run = open_run(config.load(base.preset, runs_dir=base.runs_dir, seed=int(seed),
                                   **parse_label(label)))
        if not run.finished:  # it is being trained anew
            continue
        refuse_another(run, {"numerics": read_json(run.dir / "config.json").get("numerics")})
        runs.setdefault(label, {})[seed] = {
            "history": run.history, "provenance": read_json(path)["provenance"]}
    if not runs:
        raise ValueError(f"preset {base.preset_name}: no finished run in {base.runs_dir}")
    return {"setting": {key: getattr(base, key) for key in TOLD}, "runs": runs}


if __name__ == "__main__":
    sys.exit(main())
