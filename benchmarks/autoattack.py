"""Does AutoAttack tell two networks apart on images that no result has shown it?

    python benchmarks/autoattack.py --data-root folder [--preset mini --images 1000 LABEL ...]
    python benchmarks/autoattack.py --data-root folder --runs-dir runs --seed 1 [LABEL ...]

Standard AutoAttack on the test images that follow those of the preset's results: what a few hundred
images seemed to show is asked again of others. It attacks the published weights, or with --runs-dir
those of finished runs. Flags by label, with provenance, go to benchmarks/autoattack-<preset>.json,
of runs to autoattack-<preset>-seed<k>.json, after each network; one that stands there with the same
weights is left as it is, and a killed command goes on with its next batch.
"""

import argparse
import time
from pathlib import Path

import torch

from frlib import data, evaluate
from frlib.run import config, cost, evaluate_run, export
from frlib.run.files import read_json, score, write_json
from frlib.run.folder import device_of, open_run
from frlib.run.places import resolve
from frlib.run.provenance import NUMERICS, provenance
from frlib.run.settings import READ_FROM

HERE = Path(__file__).resolve().parent
AS_RELEASED = "at-fr@fr_transform=batch-class,fr_start_epoch=11"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="*", default=["at", AS_RELEASED], metavar="LABEL",
                        help="results (default: AT and the regulariser as released)")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--preset", default="mini", help="whose results they are (default mini)")
    parser.add_argument("--images", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--runs-dir", help="finished runs, in place of published weights")
    parser.add_argument("--seed", type=int, default=0, help="of these runs (default 0)")
    parser.add_argument("--out", type=Path,
                        help="default: benchmarks/autoattack-<preset>[-seed<k>].json")
    given = parser.parse_args(arguments)
    try:
        if given.seed != export.SEED and not given.runs_dir:
            raise ValueError(f"--seed {given.seed}: published weights are of seed {export.SEED}; "
                             "give --runs-dir with the runs of another")
        preset = config.load(given.preset, data_root=given.data_root, seed=given.seed,
                             **({"runs_dir": given.runs_dir} if given.runs_dir else {}))
        ending = f"-seed{given.seed}" if given.runs_dir else ""
        out = given.out or HERE / f"autoattack-{preset.preset_name}{ending}.json"
        test = data.load(preset.dataset, resolve(preset.data_root), "test")
        if not 1 <= given.images <= len(test) - preset.aa_images or not preset.aa_images:
            raise ValueError(f"--images {given.images}: must be from 1 to "
                             f"{len(test) - preset.aa_images}, those that AutoAttack has not had")
        device = device_of(preset)
        opened = {label: of_run(preset, label, len(test.classes)) if given.runs_dir
                  else of_result(preset, label) for label in given.labels}
        setting = {"preset": preset.preset_name, "seed": given.seed, "first": preset.aa_images,
                   "images": given.images, "data": test.checksum, "eps": preset.judge_eps,
                   "batch": preset.judge_batch, "numerics": NUMERICS["judge"]}
        found = read_json(out) if out.is_file() else {**setting, "networks": {}}
        found.setdefault("seed", export.SEED)  # an older file, of published weights
        other = [key for key, value in setting.items() if found[key] != value]
        if other:
            raise ValueError(f"{out} has another {', '.join(other)}: give another --out")
    except (ValueError, RuntimeError, OSError) as error:
        parser.error(str(error))
    cost.settle(preset.threads)
    shown = test.take(preset.aa_images + given.images).to(device)
    x, y = shown.x[preset.aa_images:], shown.labels[preset.aa_images:]
    for label, (about, network) in opened.items():
        if found["networks"].get(label, {}).get("checkpoint_sha256") != about["checkpoint_sha256"]:
            which = f"{given.images}-{about['checkpoint_sha256'][:12]}"
            state = resolve(preset.runs_dir) / "autoattack" / preset.preset_name / label / which
            held = attacked(network.to(device), x, y, preset, state)
            if out.is_file():
                found = read_json(out)  # another label may have come in from beside
            found["networks"][label] = {**about, **held}
            write_json(out, found)
        held = found["networks"][label]
        print(f"{label}: {held['correct']} of {held['total']}")
    return 0


def of_result(preset: config.Config, label: str) -> tuple[dict, torch.nn.Module]:
    """What tells the weights of a published result, and its network."""
    about = export.published_result(preset.preset_name, label)
    return ({"checkpoint_sha256": about["checkpoint_sha256"]},
            export.published_model(preset.preset_name, label))


def of_run(preset: config.Config, label: str, classes: int) -> tuple[dict, torch.nn.Module]:
    """What tells the weights of a finished run, with its training's provenance, and its network."""
    asked = preset.sibling(label)
    run = open_run(asked)
    about = {"checkpoint_sha256": evaluate_run.trained_checksum(asked),
             "train_provenance": read_json(run.dir / "finished.json").get("provenance", {})}
    evaluate_run.made_with(run)  # refuses one of other settings
    return about, evaluate_run.load_model(run, READ_FROM[asked.method][1], classes)


def attacked(network: torch.nn.Module, x, y, preset: config.Config, state: Path) -> dict:
    """The flags of a network under AutoAttack: `score`, stages, seconds, provenance.

    state: a folder for what a killed command goes on with.
    """
    start = time.time()
    result = evaluate.autoattack(network, x, y, eps=preset.judge_eps, seed=export.SEED,
                                 batch_size=preset.judge_batch, state_dir=state)
    return {**score(result.robust), "stages": result.stages, "warnings": result.warnings,
            "seconds": round(time.time() - start, 1), "provenance": provenance(x.device.type)}


if __name__ == "__main__":
    raise SystemExit(main())
