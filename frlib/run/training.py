"""A training as a run: its folder, going on after a kill, the best checkpoints, what it costs.

A run lives in a folder of its own (`frlib.run.folder`). A killed one continues from last.pt and,
on the CPU, gives the same numbers as an unbroken one. Under torchrun several processes share every
batch (`frlib.run.distributed`); the first one writes. The loop itself is `frlib.train.epochs`.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack

import torch
from tqdm.auto import tqdm

from frlib import data, evaluate, fast, models
from frlib import train as loop
from frlib.methods import METHODS
from frlib.run import cost, distributed, folder, own_code
from frlib.run.config import Config
from frlib.run.files import (
    file_checksum,
    lock,
    read_tensors,
    redo_mark,
    weights_checksum,
    write_json,
)
from frlib.run.folder import Run, device_for_work, device_of, open_run
from frlib.run.places import resolve
from frlib.run.provenance import NUMERICS, provenance

log = logging.getLogger("frlib")
FLOAT32 = {"attack_precision": "float32", "update_precision": "float32"}


def train(config: Config, *, redo: bool = False) -> Run:
    """Train (or finish, or just return) the run of `config`.

    A finished run is returned as it is, also one of older numerics, which a warning says; with
    `redo` it is trained anew, and what is there is moved aside, to be kept, once device, data and
    memory are checked. A killed one goes on without `redo`.

    Raises ValueError or FileNotFoundError for bad settings or data before any work, RuntimeError
    when the directory is in use or not writable, or when a run with other settings or of other data
    is in it, and FloatingPointError naming epoch and step for a loss that is not finite.
    """
    run = open_run(config)
    config = run.config
    facts = {"numerics": NUMERICS["train"], "own_code": own_code.of_training(config),
             "data_files": data.listing(config.dataset, resolve(config.data_root))}
    if config.precision == "float32" or not config.fast and config.precision == "auto":
        facts |= FLOAT32
    elif config.precision == "bfloat16":
        facts |= {"update_precision": "bfloat16"}  # for auto a finished run will do, made anywhere
    with distributed.processes(device_of(config)), ExitStack() as held:
        distributed.on_first(lambda: held.enter_context(lock(run.dir, reading=run.finished)))
        if not redo:
            distributed.on_first(lambda: folder.refuse_another(run, facts))
        if redo or not distributed.on_first(lambda: run.finished):
            _train(run, config, device_for_work(config), facts, redo)
    return run


def _train(run: Run, config: Config, device: str, facts: dict, redo: bool) -> None:
    computed = loop.precision(config, device)
    cost.settle(config.threads, fast=config.fast)
    train_set, curves = _images(config, device)
    training = _begin(config, train_set, device)
    need = check_memory(training.model, train_set, config)
    place = {"device": device, **computed}
    state = None if redo else _resume(run, place, training)
    state = state or {"epoch": 0, "history": [], "best": -1.0, "swa_best": -1.0, "made": None,
                      "peak_bytes": 0}
    training.epoch, training.history = state["epoch"], state["history"]
    first = distributed.rank() == 0  # it alone writes
    if first:
        if redo:  # nothing refuses it any more
            redo_mark(run.dir / "finished.json").touch()
            folder.move_aside(run)
        write_json(run.dir / "config.json", {**config.group("train"), **facts, **computed})
        folder.accept(run, training.epoch)
    if first and training.epoch < config.epochs:
        print(f"{config.label}, {METHODS[config.method].title}: {need / cost.GIB:.1f} GiB on "
              f"{_place(device)}, {_in_words(config, device)}", flush=True)
    log.info("%s: %s, epochs %d-%d on %s", run.dir, config.model, training.epoch + 1,
             config.epochs, device)

    begun, start = training.epoch, time.time()
    rows = loop.epochs(training, train_set, curves, config, distributed)
    for row in tqdm(rows, desc=config.label, initial=begun, total=config.epochs,
                    disable=None if first else True):
        row["seconds"] = round(time.time() - start, 2)
        state |= {"epoch": training.epoch, "history": training.history,
                  "peak_bytes": max(state["peak_bytes"], cost.peak_bytes(device)),
                  "made": provenance(device, before=state["made"], processes=distributed.size(),
                                     **computed)}
        if first:
            _save_best(run, training, state, METHODS[config.method].criterion)
            _save_last(run, training, state, place)
        if first and training.epoch == begun + 1 < config.epochs:
            left = cost.duration((config.epochs - training.epoch) * row["seconds"])
            print(f"{config.label}: about {left} left, as its first epoch goes", flush=True)
        log.info("%s %s", config.label, json.dumps(row))
        start = time.time()
    if first:
        folder.write_history(run, training.history)
        files = {p.stem: file_checksum(p) for p in sorted(run.dir.glob("*best.pt"))}
        if METHODS[config.method].averaged:
            files["swa-last"] = weights_checksum(training.average.module.state_dict())
        write_json(run.dir / "finished.json", {
            "seconds": round(sum(row["seconds"] for row in training.history), 1),
            "peak_bytes": state["peak_bytes"], **computed,
            "data": train_set.checksum, "checkpoints": files, "provenance": state["made"]})
        redo_mark(run.dir / "finished.json").unlink(missing_ok=True)


def _begin(config: Config, train_set: data.Split, device: str) -> loop.Training:
    """The training before its first epoch; the same weights for the same seed."""
    torch.manual_seed(config.seed)
    model = models.create(config.model, num_classes=len(train_set.classes),
                          **_normalisation(train_set, config)).to(device)
    if config.fast:
        model = model.to(memory_format=torch.channels_last)
    return loop.begin(model, config, device)


def _save_best(run: Run, training: loop.Training, state: dict, criterion: str) -> None:
    """Save the weights, and their average, where the epoch's row beats all before it."""
    row = training.history[-1]
    for name, column, model in (("best", criterion, training.model),
                                ("swa_best", f"swa_{criterion}", training.average.module)):
        if row.get(column, -1.0) > state[name]:
            state[name] = row[column]
            folder.save(run.dir / f"{name.replace('_', '-')}.next.pt",
                        state_dict=model.state_dict(), epoch=row["epoch"])


def _save_last(run: Run, training: loop.Training, state: dict, place: dict) -> None:
    """Save all that is needed to go on, and then accept what `_save_best` has saved."""
    folder.save(run.dir / "last.pt", state_dict=training.model.state_dict(),
                average=training.average.state_dict(), optimizer=training.optimizer.state_dict(),
                generator=training.generator.get_state(), torch_generators=_torch_generators(),
                place=place, state=state)
    folder.accept(run, training.epoch)
    folder.write_history(run, training.history)


def _torch_generators() -> dict:
    """The states of torch's own generators: a reader's dropout draws from them."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _images(config: Config, device: str) -> tuple[data.Split, dict]:
    """The training images, and those of the curves: {"val": (x, y), "test": (x, y)}.

    ValueError for too few images or classes, before any work.
    """
    split = distributed.on_first(lambda: {
        name: data.load(config.dataset, resolve(config.data_root), name) for name in data.SPLITS})
    split["test"].take(config.judge_images, "judge_images").take(config.aa_images, "aa_images")
    if not len(split["val"]):
        raise ValueError(f"all {len(split['train'])} training images train: none is left to choose "
                         "a checkpoint by; give at least 6")
    train_set = split["train"].take(config.train_size, "train_size").to(device)
    if len(train_set) < 2:
        raise ValueError(f"train_size = {len(train_set)}: BatchNorm needs at least 2 images")
    if len(train_set.classes) < evaluate.FEWEST_CLASSES:
        raise ValueError(f"{len(train_set.classes)} classes: AutoAttack, which judges every run, "
                         f"needs at least {evaluate.FEWEST_CLASSES}")
    curves = {name: split[name].take(config.curve_images, "curve_images").to(device)
              for name in ("val", "test")}  # test: shown, never used for choosing
    return train_set, {name: (part.x, part.labels) for name, part in curves.items()}


def _normalisation(train_set, config: Config) -> dict:
    """Mean and deviation of each channel of the training images, if the model is to use them."""
    if not config.normalise:
        return {}
    channels = [data.to_float(channel) for channel in train_set.images.unbind(1)]
    return {"mean": [c.mean().item() for c in channels], "std": [c.std().item() for c in channels]}


def check_memory(model, train_set, config: Config) -> float:
    """About how many bytes the training takes. MemoryError when they are clearly not there."""
    share = -(-config.batch_size // distributed.size())  # of a batch, on each process
    need = cost.training_bytes(model, train_set.take(1).x, share,
                               passes=METHODS[config.method].passes)
    cost.refuse_if_too_big(need, train_set.labels.device.type,
                           f"lower batch_size = {config.batch_size}")
    return need


def _place(device: str) -> str:
    return f"each of {distributed.size()} x {device}" if distributed.size() > 1 else device


def _in_words(config: Config, device: str) -> str:
    """What `precision` says, for the line before a training; and where bfloat16 is missing."""
    attack, update = loop.precision(config, device).values()
    told = f"in {attack}" if attack == update else f"attacks in {attack}, updates in {update}"
    lacking = config.precision == "auto" and config.fast and not fast.has_bfloat16(device)
    return told + (", as this processor has no bfloat16" if lacking else "")


def _resume(run: Run, place: dict, training: loop.Training) -> dict | None:
    """Restore everything from last.pt, if there is one, and return the loop's own state.

    RuntimeError when it was made in another `place`, a device and what `precision` says.
    """
    path = run.dir / "last.pt"
    if not path.is_file():
        return None
    saved = read_tensors(path)
    before = {**FLOAT32, **saved["place"]}  # once there was no precision of the update
    if before != place:
        begun, here = ("{device}, attacks in {attack_precision} and updates in {update_precision}"
                       .format(**p) for p in (before, place))
        raise RuntimeError(f"{path}: begun on {begun}; on {here} the numbers would be others: go "
                           "on there, or choose another runs_dir")
    training.model.load_state_dict(saved["state_dict"])
    training.average.load_state_dict(saved["average"])
    training.optimizer.load_state_dict(saved["optimizer"])
    training.generator.set_state(saved["generator"])
    own = saved.get("torch_generators", {})  # none in what was saved before they were kept
    if "cpu" in own:
        torch.set_rng_state(own["cpu"])
    if "cuda" in own and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["cuda"])
    return saved["state"]
