"""Judge a trained model with every attack of the paper's Table 2 and write one result file.

Attack, source and setting: FGSM; PGD-20 and C&W (PGD-30 on the margin), step eps/4, which is the
paper's 2/255 at eps 8/255; standard AutoAttack on the first `aa_images` of the same test images.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import torch

from frlib import attacks, data, evaluate, models, spectral
from frlib.config import METHODS, Config, resolve
from frlib.results import (
    code_fingerprint,
    file_checksum,
    lock,
    provenance,
    read_json,
    score,
    write_json,
)
from frlib.train import Run, device_of, open_run

log = logging.getLogger("frlib")
# the modules that decide a result, given the checkpoint
CODE = ("attacks", "data", "evaluate", "judge", "models", "spectral")
ATTACKS = ("clean", "fgsm", "pgd20", "cw", "aa")


def siblings(label: str) -> list[str]:
    """The results that one training gives: "at@epochs=3" -> itself and "at-swa@epochs=3"."""
    method, at, changes = label.partition("@")
    return [name + at + changes for name, (trained, _) in METHODS.items() if trained == method]


def result_path(config: Config) -> Path:
    """`runs_dir`/results/<preset>/<label>/seed<k>.json"""
    return resolve(config.runs_dir) / "results" / config.preset_name / config.label \
        / f"seed{config.seed}.json"


def load_model(run: Run, which: str, num_classes: int = 10) -> torch.nn.Module:
    """The run's model in eval mode: "best", "last", "swa-best", or "swa-last"."""
    model = models.create(run.config.model, num_classes=num_classes)
    if which == "swa-last":
        saved = torch.load(run.checkpoint("last"), weights_only=True)["average"]
        saved.pop("n_averaged")
        model.load_state_dict({k.removeprefix("module."): v for k, v in saved.items()})
        return model.eval()
    return models.load_checkpoint(model, run.checkpoint(which)).eval()


def judge(config: Config) -> dict:
    """The result of a method whose run is finished, computed once and stored.

    A killed judgement continues with the next attack, and AutoAttack with its next batch. Raises
    FileNotFoundError when the run is not finished, FileExistsError when the result file holds a
    result of other settings, weights or code: it is never overwritten.
    """
    run, path = open_run(config), result_path(config)
    if not run.finished:
        raise FileNotFoundError(f"{run.dir} is not a finished run; train {run.config.label} first")
    which = METHODS[config.method][1]
    identity = {"config": json.loads(json.dumps(config.group("train", "judge"))),
                "checkpoint_sha256": file_checksum(run.checkpoint(which)),
                "code": {"train": read_json(run.dir / "config.json")["code"],
                         "judge": code_fingerprint(*CODE)}}
    if path.is_file():
        stored = read_json(path)
        differing = [key for key in identity if stored.get(key) != identity[key]]
        if differing:
            raise FileExistsError(f"{path} exists and differs in {', '.join(differing)}; results "
                                  "are never overwritten: move it, or choose another runs_dir")
        return stored
    work = run.dir.parent.parent / config.label / run.dir.name / "judge"
    with lock(work):
        return _judge(config, run, which, identity, work, path)


def _judge(config, run, which, identity, work, path) -> dict:
    device = device_of(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    test = data.load(config.dataset, resolve(config.data_root), "test").take(config.judge_images)
    x, y = test.to(device).x, test.labels.to(device)
    model = load_model(run, which, len(test.classes)).to(device)
    last = load_model(run, which.replace("best", "last"), len(test.classes)).to(device)
    step = {"eps": config.eps, "step_size": config.eps / 4}

    def under(model, name):
        generator = torch.Generator(device).manual_seed(config.seed)
        attack = {
            "fgsm": lambda m, x, y: attacks.fgsm(m, x, y, eps=config.eps),
            "pgd20": lambda m, x, y: attacks.pgd(m, x, y, **step, steps=20, generator=generator),
            "cw": lambda m, x, y: attacks.cw(m, x, y, **step, steps=30, generator=generator),
        }.get(name)
        if attack is None:
            return {**score(evaluate.correct(model, x, y, batch_size=config.judge_batch))}
        return score(evaluate.robust(model, x, y, attack, batch_size=config.judge_batch,
                                     progress=f"{config.label} {name}"))

    def autoattack():
        count = config.aa_images or len(y)
        result = evaluate.autoattack(model, x[:count], y[:count], eps=config.eps, seed=config.seed,
                                     batch_size=config.judge_batch, state_dir=work)
        return {**score(result.robust), "stages": result.stages, "warnings": result.warnings}

    todo = {"clean": lambda: under(model, "clean"), "fgsm": lambda: under(model, "fgsm"),
            "pgd20": lambda: under(model, "pgd20"), "cw": lambda: under(model, "cw"),
            "last clean": lambda: under(last, "clean"), "last pgd20": lambda: under(last, "pgd20"),
            "aa": autoattack}
    done = _partial(work / "scores.json", identity)
    for name, compute in todo.items():
        if name not in done["scores"]:
            start = time.time()
            done["scores"][name] = compute()
            done["seconds"] += time.time() - start
            write_json(work / "scores.json", done)
            log.info("%s seed %d %s: %d of %d", config.label, config.seed, name,
                     done["scores"][name]["correct"], done["scores"][name]["total"])
    scores, finished = done["scores"], read_json(run.dir / "finished.json")
    result = {
        "preset": config.preset_name, "method": config.method, "label": config.label,
        "seed": config.seed, "checkpoint": which,
        "epoch": torch.load(run.checkpoint(which), weights_only=True)["epoch"],
        "scores": {name: scores[name] for name in ATTACKS},
        "last": {name: scores[f"last {name}"] for name in ("clean", "pgd20")},
        "warnings": scores["aa"].pop("warnings"),
        "roughness": [round(v, 5) for v in
                      spectral.kernel_roughnesses(model.conv1.weight.detach()).flatten().tolist()],
        "history": run.history,
        "data": {"train": finished["data"], "test": test.checksum},
        "seconds": {"train": finished["seconds"], "judge": round(done["seconds"], 1)},
        "provenance": provenance(device), "train_provenance": finished["provenance"], **identity}
    write_json(path, result)
    return result


def _partial(path: Path, identity: dict) -> dict:
    """The attacks that a killed judgement has finished, if they belong to this one."""
    if path.is_file() and (done := read_json(path))["identity"] == identity:
        return done
    return {"identity": identity, "scores": {}, "seconds": 0.0}
