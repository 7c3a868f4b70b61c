"""How large is the regulariser of each transform on the logits of a trained network?

    python benchmarks/strength.py --data-root folder [--preset overfit --checkpoint run/last.pt]

The published AT network of a preset, or a checkpoint of its own training of AT; the first test
images, their PGD images as training makes them and as the tables do. The terms, and their ratios to
the plain L1 sum, go to benchmarks/strength-<preset>.json: the weights of the preset's controls are
those at which the terms are equal. That of "batch-class" depends on the size of the preset's batch.
"""

import argparse
from pathlib import Path

import torch

from frlib import attacks, data, evaluate, fast, losses
from frlib.run import config, export, published
from frlib.run.files import file_checksum, read_json, read_tensors, write_json
from frlib.run.folder import as_stored
from frlib.run.places import resolve
from frlib.run.provenance import provenance

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--preset", default="mini", help="whose attack and batches (default mini)")
    parser.add_argument("--checkpoint", type=Path, help="last.pt or best.pt of a training of AT")
    parser.add_argument("--images", type=int, default=256, help="in whole batches (default 256)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/strength-<preset>.json")
    given = parser.parse_args(arguments)
    try:
        preset = config.load(given.preset, data_root=given.data_root)
        if given.images < preset.batch_size:
            raise ValueError(f"--images {given.images}: must be at least a batch, "
                             f"{preset.batch_size}")
        test = data.load(preset.dataset, resolve(preset.data_root), "test").take(given.images)
        network, about = opened(preset, given.checkpoint, len(test.classes))
    except (ValueError, RuntimeError, OSError) as error:
        parser.error(str(error))
    found = {"preset": preset.preset_name, **about, "images": given.images,
             "batch": preset.batch_size, **measure(network, test, preset),
             "provenance": provenance("cpu")}
    write_json(given.out or HERE / f"strength-{preset.preset_name}.json", found)
    for attack, ratios in found["ratios"].items():
        print(attack, ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return 0


def opened(preset: config.Config, checkpoint: Path | None,
           classes: int = 10) -> tuple[torch.nn.Module, dict]:
    """The frozen network of a training of AT, and {"label", "epoch", "checkpoint_sha256"}.

    checkpoint: a file of a run's folder; None: the published weights. ValueError for a run that
    differs from the preset's in more than its seed.
    """
    if checkpoint is None:
        about = export.published_result(preset.preset_name, "at")
        network = export.published_model(preset.preset_name, "at")
        return fast.freeze(network), {key: about[key] for key in (
            "label", "epoch", "checkpoint_sha256")}
    trained, saved = read_json(checkpoint.with_name("config.json")), read_tensors(checkpoint)
    wanted = as_stored(preset.of("at").group("train"))
    other = [key for key, value in wanted.items() if key != "seed" and trained.get(key) != value]
    if other:
        raise ValueError(f"{checkpoint} is of a training with another {', '.join(other)} than "
                         f"AT's at preset {preset.preset_name}")
    network = published.load(f"mine:{preset.model}", checkpoint, classes)
    return fast.freeze(network), {
        "label": "at", "epoch": saved.get("state", saved)["epoch"],
        "checkpoint_sha256": file_checksum(checkpoint)}


def measure(network, test: data.Split, preset: config.Config) -> dict:
    """{"terms", "ratios"}: {attack: {transform: mean over batches}}; ratios over that of "none"."""
    settings = {f"PGD-{preset.steps}": (preset.steps, preset.step_size),
                "PGD-20": (20, preset.judge_eps / 4)}
    terms, ratios = {}, {}
    for attack, (steps, step_size) in settings.items():
        sums = dict.fromkeys(losses.TRANSFORMS, 0.0)
        starts = range(0, len(test) - preset.batch_size + 1, preset.batch_size)
        for start in starts:
            batch = slice(start, start + preset.batch_size)
            x, y = test.x[batch], test.labels[batch]
            with evaluate.full_precision():
                x_adv = attacks.pgd(network, x, y, eps=preset.judge_eps, step_size=step_size,
                                    steps=steps, generator=torch.Generator().manual_seed(start))
            with torch.no_grad():
                difference = network(x_adv) - network(x)
            for name, transform in losses.TRANSFORMS.items():
                sums[name] += float(transform(difference)) / len(starts)
        terms[attack] = sums
        ratios[attack] = {name: value / sums["none"] for name, value in sums.items()}
    return {"terms": terms, "ratios": ratios}


if __name__ == "__main__":
    raise SystemExit(main())
