"""Numbers of all networks of a preset, computed once and stored: what chapters 5, 8 and 10 share.

A network's numbers do not depend on the others, and are kept one by one while they are made: a
killed computation goes on with the next network, and a run that is finished later is added.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import nullcontext
from pathlib import Path

import torch

from frlib import data, evaluate
from frlib.run import evaluate_run
from frlib.run.config import Config
from frlib.run.files import lock, read_json, write_json
from frlib.run.folder import device_for_work, device_of, open_run
from frlib.run.places import resolve
from frlib.run.provenance import NUMERICS, provenance
from frlib.run.settings import READ_FROM
from frlib.run.stored import begin_anew, stored, with_data, write_result

log = logging.getLogger("frlib")


def finished(config: Config, methods=None) -> dict[str, Config]:
    """{label: Config} of the preset's results whose training is done, of these methods alone."""
    return {label: c for label, c in evaluate_run.listed(config).items()
            if (methods is None or c.method in methods) and open_run(c).finished}


def brief(config: Config) -> bool:
    """Whether the preset judges so few images, below 100, that it can only show that all works."""
    return 0 < config.judge_images < 100


def common_settings(config: Config) -> dict:
    return {"dataset": config.dataset, "eps": config.judge_eps, "judge_batch": config.judge_batch}


def images(config: Config, count: int) -> data.Split:
    """The first `count` test images, 0: all; as many as there are, where those are fewer."""
    test = data.load(config.dataset, resolve(config.data_root), "test")
    if count > len(test):
        log.warning("%s: %d test images asked for, %d are there", config.dataset, count, len(test))
    return test.take(min(count, len(test))).to(device_of(config))


def network(c: Config, test: data.Split) -> torch.nn.Module:
    """The network of a result, for the classes of these images and on their device.

    Raises what `evaluate_run.refuse_other` raises.
    """
    evaluate_run.refuse_other(open_run(c))
    model = evaluate_run.load_model(open_run(c), READ_FROM[c.method][1], len(test.classes))
    return model.to(test.labels.device)


def by_label(each: dict, part: str, order=None) -> dict:
    return {label: each[label][part] for label in order or each if part in each.get(label, ())}


def made(config: Config, what: str, settings: dict, configs: dict, compute, *, store: bool,
         redo: bool = False, part: str = "", sums: dict[str, str] | None = None,
         path: Path | None = None) -> dict:
    """The stored numbers of these settings and checkpoints; else those that `compute` gives.

    store: read them where they are stored, and store them; False for settings that are not the
    preset's: then they are computed and only returned.
    compute(config, settings, configs, once) -> numbers; once(name, measure) gives what measure()
    does, computed once for the label `name` or for all networks. part: whose version of NUMERICS
    they follow, by default that of `what`. sums: {label: SHA-256 of its checkpoint}, by default of
    the finished runs. path: where they are stored, by default among this machine's results.

    Numbers of some of these networks are kept aside once the others are trained, and when those of
    all are made. So are any with `redo`, which measures every network anew; a killed one goes on
    without it. Raises FileNotFoundError when no run is finished, and, but for `redo`,
    FileExistsError for stored numbers of other settings or weights.
    """
    if not configs:
        raise FileNotFoundError(f"{what}: preset {config.preset_name} has no finished run of seed "
                                f"{config.seed}: train one first")
    if sums is None:
        sums = {label: evaluate_run.trained_checksum(c) for label, c in configs.items()}
        for c in configs.values():
            evaluate_run.made_with(open_run(c))
    common = with_data(config, {"settings": settings,
                                "numerics": {part or what: NUMERICS[part or what]}})
    identity = {**common, "checkpoint_sha256": sums}
    path = path or evaluate_run.result_path(config, what)
    folder = resolve(config.runs_dir) / config.preset_name / what / f"seed{config.seed}"
    if store and not redo and not _grown(path, identity) \
            and (found := stored(path, identity)) is not None:
        return found
    parts = []

    def once(name, measure, of=None):
        """The numbers of one network, read where a killed computation has left them.

        of: the labels of all the networks that they are of, by default `name` alone, if any.
        """
        if not store:
            return measure()
        text = json.dumps([common, {label: sums[label] for label in of} if of
                           else sums.get(name)])
        file = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        first = redo and not parts
        if first or not file.is_file():
            numbers = measure()
            if first:  # nothing has refused it
                begin_anew(path, folder, "*.json")
            write_json(file, {"numbers": numbers, "provenance": provenance(device_of(config))})
        kept = read_json(file)
        parts.append(kept["provenance"])
        return kept["numbers"]

    device_for_work(config)
    with lock(folder) if store else nullcontext(), evaluate.full_precision():
        found = {"preset": config.preset_name, "seed": config.seed,
                 **compute(config, settings, configs, once), **identity}
        found["provenance"] = _origin(device_of(config), parts)
        if store:
            write_result(path, found)
    return found


def _grown(path, identity) -> bool:
    """Whether what is stored there is of some of these networks, and alike in all else."""
    stored = read_json(path) if path.is_file() else {}
    some = stored.get("checkpoint_sha256", {})
    return 0 < len(some) < len(identity["checkpoint_sha256"]) \
        and some.items() <= identity["checkpoint_sha256"].items() \
        and all(stored.get(key) == identity[key] for key in identity if key != "checkpoint_sha256")


def _origin(device: str, parts: list[dict]) -> dict:
    """Today's provenance, and under "earlier" that of parts made by other code or elsewhere."""
    def undated(made):
        return json.dumps({key: value for key, value in made.items() if key != "date"})

    now = provenance(device)
    earlier = {undated(part): part for part in parts if undated(part) != undated(now)}
    return {**now, "earlier": list(earlier.values())} if earlier else now
