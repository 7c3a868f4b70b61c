"""Does AutoAttack tell two published networks apart on images that no result has shown it?

    python benchmarks/autoattack.py --data-root folder [--preset mini --images 1000 LABEL ...]

Standard AutoAttack on the test images that follow those of the preset's results: what a few hundred
images seemed to show is asked again of others. Flags by label, with provenance, go to
benchmarks/autoattack-<preset>.json after each network; a label that stands there is left as it is,
and a killed command goes on with its next batch.
"""

import argparse
import time
from pathlib import Path

from frlib import data, evaluate
from frlib.run import config, cost, export
from frlib.run.files import read_json, score, write_json
from frlib.run.places import resolve
from frlib.run.provenance import NUMERICS, provenance

HERE = Path(__file__).resolve().parent
AS_RELEASED = "at-fr@fr_transform=batch-class,fr_start_epoch=11"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="*", default=["at", AS_RELEASED], metavar="LABEL",
                        help="published results (default: AT and the regulariser as released)")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--preset", default="mini", help="whose results they are (default mini)")
    parser.add_argument("--images", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/autoattack-<preset>.json")
    given = parser.parse_args(arguments)
    try:
        preset = config.load(given.preset, data_root=given.data_root)
        out = given.out or HERE / f"autoattack-{preset.preset_name}.json"
        test = data.load(preset.dataset, resolve(preset.data_root), "test")
        if not 1 <= given.images <= len(test) - preset.aa_images or not preset.aa_images:
            raise ValueError(f"--images {given.images}: must be from 1 to "
                             f"{len(test) - preset.aa_images}, those that AutoAttack has not had")
        about = {label: export.published_result(preset.preset_name, label)
                 for label in given.labels}
        setting = {"preset": preset.preset_name, "first": preset.aa_images,
                   "images": given.images, "data": test.checksum, "eps": preset.judge_eps,
                   "batch": preset.judge_batch, "numerics": NUMERICS["judge"]}
        found = read_json(out) if out.is_file() else {**setting, "networks": {}}
        other = [key for key, value in setting.items() if found[key] != value]
        if other:
            raise ValueError(f"{out} has another {', '.join(other)}: give another --out")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    cost.settle(preset.threads)
    chosen = slice(preset.aa_images, preset.aa_images + given.images)
    for label in given.labels:
        sha = about[label]["checkpoint_sha256"]
        if found["networks"].get(label, {}).get("checkpoint_sha256") != sha:
            found["networks"][label] = {
                "checkpoint_sha256": sha,
                **attacked(preset, label, test.x[chosen], test.labels[chosen])}
            write_json(out, found)
        held = found["networks"][label]
        print(f"{label}: {held['correct']} of {held['total']}")
    return 0


def attacked(preset: config.Config, label: str, x, y) -> dict:
    """The flags of a published network under AutoAttack: `score`, stages, seconds, provenance.

    What a killed command goes on with lies in runs/autoattack.
    """
    state, start = resolve(preset.runs_dir) / "autoattack" / preset.preset_name / label, time.time()
    network = export.published_model(preset.preset_name, label)
    result = evaluate.autoattack(network, x, y, eps=preset.judge_eps, seed=export.SEED,
                                 batch_size=preset.judge_batch, state_dir=state)
    return {**score(result.robust), "stages": result.stages, "warnings": result.warnings,
            "seconds": round(time.time() - start, 1), "provenance": provenance("cpu")}


if __name__ == "__main__":
    raise SystemExit(main())
