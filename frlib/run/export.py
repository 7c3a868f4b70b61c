"""A run's weights as files that others can read: exported, published beside a result, read back.

The parameter names are RobustBench's, all tensors float32; mean and std are there where the network
normalises inside itself. `frlib.run.published` reads each file as "mine:<architecture>".
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from pathlib import Path

import safetensors.torch
import torch

from frlib import models
from frlib.run import evaluate_run, published
from frlib.run.config import Config
from frlib.run.files import atomic, file_checksum, read_json, write_json
from frlib.run.folder import as_stored, open_run
from frlib.run.labels import split
from frlib.run.places import project_root, resolve
from frlib.run.settings import READ_FROM

log = logging.getLogger("frlib")
LARGEST = 3_000_000  # bytes of weights that are published beside a result
SEED = 0  # the one whose weights are published


def weights_of(config: Config) -> dict[str, torch.Tensor]:
    """The float32 tensors of a judged result's checkpoint.

    FileNotFoundError for a run that is not finished, RuntimeError for one of other settings,
    ValueError for one whose checkpoint is not the one that the stored result is of.
    """
    checksum, path = evaluate_run.trained_checksum(config), evaluate_run.result_path(config)
    evaluate_run.made_with(open_run(config))
    if not path.is_file():
        raise FileNotFoundError(f"no result at {path}; judge {config.result_label} first")
    if read_json(path).get("checkpoint_sha256") != checksum:
        raise ValueError(f"{path} is of other weights than the run's; judge "
                         f"{config.result_label} again with --redo")
    weights = evaluate_run.load_weights(open_run(config), READ_FROM[config.method][1])
    return {name: tensor.float().contiguous() for name, tensor in weights.items()
            if not name.endswith("num_batches_tracked")}


def export(config: Config, folder: str | Path) -> dict:
    """Write <label>-seed<k>.safetensors, .pt and .json to `folder`; what the last one holds.

    folder: from the project's root, where it is relative; ~ is the home folder. The .json holds
    architecture, normalisation, accuracies as in the result, and the SHA-256 of both files of
    weights. The .pt holds {"state_dict": weights}. Raises what `weights_of` raises, and
    FileExistsError where one of the files is there with another content, as of another preset.
    """
    weights, result = weights_of(config), read_json(evaluate_run.result_path(config))
    place, name = resolve(folder), f"{config.result_label}-seed{config.seed}"
    plain = io.BytesIO()
    torch.save({"state_dict": weights}, plain)
    content = {f"{name}.safetensors": safetensors.torch.save(weights),
               f"{name}.pt": plain.getvalue()}
    about = {"label": config.result_label, "preset": config.preset_name, "seed": config.seed,
             "dataset": config.dataset, "architecture": config.model,
             "num_classes": classes(result, weights), "eps": result["config"]["judge_eps"],
             **{key: weights[key].flatten().tolist() if key in weights else None
                for key in ("mean", "std")},
             "scores": {attack: {"correct": s["correct"], "total": s["total"],
                                 "accuracy": s["correct"] / s["total"]}
                        for attack, s in result["scores"].items()},
             "checkpoint_sha256": result["checkpoint_sha256"],
             "files": {file: hashlib.sha256(held).hexdigest() for file, held in content.items()},
             "train_provenance": result.get("train_provenance", {})}
    json_file = place / f"{name}.json"
    other = [str(place / file) for file, held in content.items()
             if (place / file).is_file() and (place / file).read_bytes() != held]
    if json_file.is_file() and read_json(json_file) != as_stored(about):
        other.append(str(json_file))
    if other:
        raise FileExistsError(f"there already, of another export: {', '.join(other)}; give --out "
                              f"another folder, or remove {name}.* from this one")
    for file, held in content.items():
        with atomic(place / file) as temporary:
            temporary.write_bytes(held)
    write_json(json_file, about)
    return about


def classes(result: dict, weights: dict) -> int:
    """How many classes a judged network tells apart: its result says so, or, in one that does not
    yet, the rows of the only matrix of a network of `frlib.models`."""
    matrices = (len(tensor) for tensor in weights.values() if tensor.ndim == 2)
    return result["classes"] if "classes" in result else next(matrices)


def weights_path(preset: str, label: str, seed: int, folder: Path) -> Path:
    return folder / preset / label / f"weights-seed{seed}.safetensors"


def add_weights(base: Config) -> list[Path]:
    """Put the weights of seed 0 beside the preset's results, and their SHA-256 into these.

    Of every result of this machine whose run is still there and that is small enough; a result
    that has its weights is left alone. Returns the files of weights that were written.
    """
    folder, written = resolve(base.runs_dir) / "results", []
    for path in sorted((folder / base.preset_name).glob(f"*/seed{SEED}.json")):
        label = path.parent.name
        if split(label)[0] not in READ_FROM or "weights" in read_json(path):
            continue
        config = dataclasses.replace(base, seed=SEED).sibling(label)
        if not open_run(config).finished:
            log.warning("%s: its run is gone, and so are its weights", path)
            continue
        weights = weights_of(config)
        if sum(4 * tensor.numel() for tensor in weights.values()) > LARGEST:
            log.warning("%s: its weights are too large to be published", path)
            continue
        file = weights_path(base.preset_name, label, SEED, folder)
        with atomic(file) as temporary:
            safetensors.torch.save_file(weights, temporary)
        write_json(path, {**read_json(path), "weights": file_checksum(file)})
        written.append(file)
    return written


def committed(preset: str, folder: str | Path | None = None) -> Path:
    """Where the results of a preset are committed; folder: of all results, by default the root's.
    """
    return (project_root() / "results" if folder is None else Path(folder)) / preset


def published_labels(preset: str, folder: str | Path | None = None) -> list[str]:
    """The results beside which weights are published; folder as in `committed`."""
    return sorted(path.parent.name for path in
                  committed(preset, folder).glob(f"*/weights-seed{SEED}.safetensors"))


def published_result(preset: str, label: str, folder: str | Path | None = None) -> dict:
    """The result beside which weights are published; folder as in `committed`.

    FileNotFoundError where one of both is not there, ValueError for weights that are not those
    that the result names.
    """
    file = weights_path(preset, label, SEED, committed(preset, folder).parent)
    result = file.with_name(f"seed{SEED}.json")
    for needed in (result, file):
        if not needed.is_file():
            raise FileNotFoundError(f"no published weights of {label}: there is no {needed}")
    about = read_json(result)
    if about.get("weights") != file_checksum(file):
        raise ValueError(f"{file} is not the file that {result} names; fetch it again")
    return about


def published_model(preset: str, label: str, folder: str | Path | None = None) -> torch.nn.Module:
    """The network of a published result, in eval mode on the CPU, from the weights beside it.

    folder as in `committed`. Raises what `published_result` raises.
    """
    about = published_result(preset, label, folder)
    file = weights_path(preset, label, SEED, committed(preset, folder).parent)
    return published.load(f"mine:{about['config']['model']}", file,
                          classes(about, models.read_weights(file)))
