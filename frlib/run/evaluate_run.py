"""Judge a model, ours or from elsewhere, with every attack of the paper's Table 2: one result file.

Attack, source and setting: FGSM; PGD-20 and C&W (PGD-30 on the margin), step eps/4, which is the
paper's 2/255 at eps 8/255; standard AutoAttack on the first `aa_images` of the same test images.
The radius is `judge_eps`, whatever a network was trained with.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from frlib import attacks, data, evaluate, fast, models, spectral
from frlib.run import cost, own_code, published
from frlib.run.config import Config
from frlib.run.files import (
    file_checksum,
    lock,
    read_json,
    read_tensors,
    score,
    weights_checksum,
    write_json,
)
from frlib.run.folder import Run, device_for_work, open_run, refuse_another
from frlib.run.labels import join, split
from frlib.run.places import resolve
from frlib.run.provenance import NUMERICS, provenance
from frlib.run.settings import JUDGING, READ_FROM
from frlib.run.stored import begin_anew, stored, with_data, write_result

log = logging.getLogger("frlib")


def siblings(label: str) -> list[str]:
    """The results that one training gives: "at@epochs=3" -> itself and "at-swa@epochs=3"."""
    method, changes = split(label)
    return [join(name, changes) for name, (trained, _) in READ_FROM.items() if trained == method]


def listed(base: Config) -> dict[str, Config]:
    """{label: Config} of every result that the preset's runs give, trained yet or not.

    Without the runs that cannot be with what is changed in `base`, of which a warning tells.
    """
    found = {}
    for run in base.runs:
        try:
            found |= {label: base.sibling(label) for label in siblings(run)}
        except ValueError as error:
            log.warning("preset %s lists %s, which is left out: %s", base.preset_name, run, error)
    return found


def result_path(config: Config, label: str = "") -> Path:
    """`runs_dir`/results/<preset>/<label>/seed<k>.json, by default of the config's own result."""
    folder = resolve(config.runs_dir) / "results" / config.preset_name
    return folder / (label or config.result_label) / f"seed{config.seed}.json"


def load_weights(run: Run, which: str) -> dict[str, torch.Tensor]:
    """The named tensors of the checkpoint "best", "last", "swa-best", or "swa-last".

    RuntimeError naming a damaged file, ValueError naming one that holds code.
    """
    saved = read_tensors(run.checkpoint("last" if which == "swa-last" else which))
    weights = saved["average"] if which == "swa-last" else saved["state_dict"]
    return {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}


def load_model(run: Run, which: str, num_classes: int = 10) -> torch.nn.Module:
    """The run's model in eval mode: "best", "last", "swa-best", or "swa-last".

    RuntimeError naming a damaged file, ValueError naming one that holds code.
    """
    weights = load_weights(run, which)
    inside = {k: weights[k].flatten().tolist() for k in ("mean", "std") if k in weights}
    model = models.create(run.config.model, num_classes=num_classes, **inside)
    model.load_state_dict(weights)
    return model.eval()


def made_with(run: Run) -> dict:
    """config.json of a finished run: what it was trained with.

    RuntimeError where that is other settings than the run's config has, FileNotFoundError where
    the file is gone; a warning where code of a reader's own has changed since.
    """
    path = run.dir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone, which says what the run was trained with; train "
                                "it again with --redo")
    found = read_json(path)
    refuse_another(run, {"numerics": found.get("numerics"),
                         "own_code": own_code.of_training(run.config)})
    return found


def refuse_other(run: Run) -> None:
    """ValueError unless a finished run was trained on these images, and by code of a reader's own
    that is still the same: its weights would be judged on what they never saw, or in another
    network."""
    path, config = run.dir / "config.json", run.config
    trained = read_json(path) if path.is_file() else {}
    files = data.listing(config.dataset, resolve(config.data_root))
    if trained.get("data_files", files) != files:
        raise ValueError(f"{run.dir} was trained on other images than {config.data_root} holds: "
                         "give the data root that it was trained with, or another runs_dir")
    own = own_code.of_training(config)
    if trained.get("own_code", own) != own:
        raise ValueError(f"{run.dir} was trained by your own code as it was before a change: put "
                         "that back, or train again with --redo")


def trained_checksum(config: Config) -> str:
    """SHA-256 of the checkpoint file that a method is read from; of the last average, which shares
    its file with what goes on, that of its weights.

    FileNotFoundError when its run is not finished, ValueError for weights that the training did
    not write.
    """
    run, which = open_run(config), READ_FROM[config.method][1]
    if not run.finished:
        raise FileNotFoundError(f"{run.dir} is not a finished run; train {config.label} first")
    checksum = weights_checksum(load_weights(run, which)) if which == "swa-last" \
        else file_checksum(run.checkpoint(which))
    stored = read_json(run.dir / "finished.json").get("checkpoints", {})
    if stored.get(which, checksum) != checksum:
        name = "last.pt (its average)" if which == "swa-last" else f"{which}.pt"
        raise ValueError(f"{run.dir / name} is not what the training wrote: its SHA-256 is not in "
                         f"finished.json; delete {run.dir} and train again")
    return checksum


def judge(config: Config, *, redo: bool = False) -> dict:
    """The result of a method whose run is finished, computed once and stored.

    A killed judgement continues with the next attack, and AutoAttack with its next batch. Raises
    what `refuse_other` raises, FileNotFoundError when the run is not finished, ValueError or
    RuntimeError naming a file of the run that is not as the training left it, FileExistsError when
    the result file holds a result of other settings or weights: it is never overwritten. One of
    older numerics is returned, with a warning; with `redo` every attack is made anew, and when all
    are done a stored result is kept aside. A killed one goes on without `redo`.
    """
    run, which = open_run(config), READ_FROM[config.method][1]
    config = config.of(config.method)  # without settings that decide nothing here
    other = {"best": "last", "swa-last": "swa-best"}[which]
    checksum = trained_checksum(config)
    finished = read_json(run.dir / "finished.json")
    made = made_with(run)
    trained = made.get("numerics")
    identity = {"config": config.group("train", "judge"), "checkpoint_sha256": checksum,
                "numerics": {"train": trained, "judge": NUMERICS["judge"]}}
    last = read_tensors(run.checkpoint("last"))["state"]
    about = {"method": config.method, "checkpoint": which,
             "history": last["history"],  # not from metrics.jsonl, which has no checksum
             "epoch": last["epoch"] if which == "swa-last"
             else read_tensors(run.checkpoint(which))["epoch"],
             **{key: finished.get(key) for key in ("attack_precision", "update_precision")},
             "trained_by": made.get("own_code", ""),
             "train_provenance": finished.get("provenance", {})}

    def networks(classes):
        refuse_other(run)
        return {"": load_model(run, which, classes),
                other.removeprefix("swa-"): load_model(run, other, classes)}

    return _judged(config, config.result_label, identity, about, finished, redo, networks)


def judge_checkpoint(name: str, file: str | Path | dict, config: Config, *,
                     redo: bool = False) -> dict:
    """The result of weights from elsewhere, under the same attacks on the same images as `judge`.

    `name` is one that `published.find` knows: "Wu2020Adversarial", or "mine:resnet18" for a
    file of your own; `file` is its path, or more (`published.given`). A clean accuracy far below
    the published one, or at chance, is among the result's warnings. It is stored as the result of
    the label `published.label(name)`, with what is judged otherwise than in the preset, as
    "published-x@judge_images=40". Raises what `published.check` and `published.load` raise, and
    FileExistsError as `judge` does.
    """
    published.check({name: file}, config.dataset)
    entry, path = published.given(name, file)
    settings = ("dataset", "seed", "judge_eps", "judge_images", "aa_images", "judge_batch")
    identity = {"config": {key: getattr(config, key) for key in settings},
                "checkpoint_sha256": file_checksum(path),
                "model": {"name": name, "architecture": entry.architecture,
                          "mean": entry.mean, "std": entry.std},
                "numerics": {"judge": NUMERICS["judge"]}}
    about = {"checkpoint": path.name, "history": [],
             "published": {"clean": entry.clean, "aa": entry.autoattack, "eps": entry.eps}}
    label = published.label(name) + config.changed(JUDGING | {"dataset"})
    return _judged(config, label, identity, about, {}, redo,
                   lambda classes: {"": published.load(name, file, classes)})


def _judged(config, label, identity, about, finished, redo, load) -> dict:
    """The stored result, if it has this identity; else judge what `load(classes)` gives."""
    if own := own_code.of_attacks():
        identity = {**identity, "own_code": own}
    text = json.dumps(with_data(config, identity))
    identity, path = json.loads(text), result_path(config, label)
    if not redo and (found := stored(path, identity)) is not None:
        return found
    run = resolve(config.runs_dir) / config.preset_name / label / f"seed{config.seed}"
    work = run / "judge" / hashlib.sha256(text.encode()).hexdigest()[:12]
    with lock(work), evaluate.full_precision():
        cost.settle(config.threads, fast=config.fast)
        test, networks = _opened(config, device_for_work(config), load)
        if redo:  # all is checked; what is kept in `work` until a judgement is whole is the old one
            begin_anew(path, work, "scores.json", "**/autoattack.pt")
        done = _judge(config, label, work, test, networks)
        theirs = identity.get("model", {}).get("name", "")
        result = {"preset": config.preset_name, "label": label, "seed": config.seed, **about,
                  **_summary(label, done, test, networks[""], finished, theirs), **identity}
        write_result(path, result)
    return result


def _opened(config, device: str, load) -> tuple[data.Split, dict]:
    """The test images and the networks that `load(classes)` gives, both on the device.

    ValueError or MemoryError for all that would stop a judgement later: too few images or classes,
    weights that are not finite, whose logits would be NaN and their argmax class 0, too little
    memory.
    """
    test = data.load(config.dataset, resolve(config.data_root), "test")
    test = test.take(config.judge_images, "judge_images").to(device)
    test.take(config.aa_images, "aa_images")
    evaluate.check_autoattack(config.judge_eps, len(test.classes))
    networks = {which: model.to(device) for which, model in load(len(test.classes)).items()}
    for which, model in networks.items():
        if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
            raise ValueError(f"the {which or 'judged'} checkpoint holds weights that are not "
                             "finite: its training has diverged; train with a lower lr")
    need = cost.training_bytes(networks[""], test.take(1).x, config.judge_batch)
    cost.refuse_if_too_big(need, device, f"lower judge_batch = {config.judge_batch}")
    return test, networks


def _judge(config, label, work, test, networks) -> dict:
    """Every attack on the network "", and on the run's "best" or "last", if any: `_computed`.

    On the latter AutoAttack runs only with `aa_both`.
    """
    x, y = test.x, test.labels
    frozen = {which: fast.freeze(model, fast=config.fast) for which, model in networks.items()}
    right = {which: evaluate.correct(model, x, y, batch_size=config.judge_batch)
             for which, model in frozen.items()}
    first = slice(len(test.take(config.aa_images)))
    alive = int(right[""][first].sum())
    print(f"{label}: AutoAttack takes {forecast(frozen[''], x[first], y[first], alive, config)}")

    def under(which, name):
        if name == "clean":
            return score(right[which])
        return score(evaluate.under_attack(
            frozen[which], x, y, evaluate.ATTACKS[name], eps=config.judge_eps, seed=config.seed,
            batch_size=config.judge_batch, clean=right[which], progress=f"{label} {name}"))

    def autoattack(which):
        result = evaluate.autoattack(frozen[which], x[first], y[first], eps=config.judge_eps,
                                     seed=config.seed, batch_size=config.judge_batch,
                                     state_dir=work / which)
        return {**score(result.robust), "stages": result.stages, "warnings": result.warnings}

    todo = {(which, name): partial(under, which, name)
            for which in frozen for name in ("clean", *evaluate.ATTACKS)}
    todo["", "zero gradient"] = partial(zero_gradient, frozen[""], x, y,
                                        batch_size=config.judge_batch)
    todo |= {(which, "aa"): partial(autoattack, which) for which in frozen
             if not which or config.aa_both}
    return _computed(todo, work / "scores.json", y.device.type, f"{label} seed {config.seed}")


def _summary(label, done, test, model, finished, theirs) -> dict:
    """What a result file holds of a judgement that is whole, `done`.

    theirs: the name of a checkpoint from elsewhere, "" for one of ours.
    """
    scores, names = done["scores"], ("clean", *evaluate.ATTACKS, "aa")
    told = [found["aa"].pop("warnings") for found in scores.values() if "aa" in found]
    warnings = list(dict.fromkeys(chain(*told)))
    if theirs:
        clean = scores[""]["clean"]["correct"]
        warnings += published.doubts(theirs, clean, len(test), len(test.classes))
    for warning in warnings:
        log.warning("%s: %s", label, warning)
    kernels = models.first_kernels(model)
    roughness = [] if kernels is None else spectral.kernel_roughnesses(kernels).tolist()
    return {
        "scores": {name: scores[""][name] for name in names},
        **{which: {name: found[name] for name in names if name in found}
           for which, found in scores.items() if which},
        "zero_gradient": scores[""]["zero gradient"],
        "warnings": warnings,
        "roughness": [[round(v, 5) for v in row] for row in roughness],  # of a filter in a row
        "data": {"train": finished.get("data"), "test": test.checksum},
        "classes": len(test.classes),
        "seconds": {"train": finished.get("seconds"), "judge": round(done["seconds"], 1)},
        "provenance": done["made"]}


def _computed(todo: dict, file: Path, device: str, told: str) -> dict:
    """{"scores": {which: {name: what that function of `todo` gives}}, "seconds", "made"}.

    Stored in `file` after each, where a killed judgement finds them.
    """
    done = read_json(file) if file.is_file() else {"scores": {}, "seconds": 0.0, "made": None}
    for (which, name), compute in todo.items():
        scores = done["scores"].setdefault(which, {})
        if name in scores:
            continue
        start = time.time()
        found = scores[name] = compute()
        done["seconds"] += time.time() - start
        done["made"] = provenance(device, before=done["made"])
        write_json(file, done)
        count = found["correct"] if "correct" in found else found["count"]
        log.info("%s %s: %d of %d", told, f"{which} {name}".strip(), count, found["total"])
    return done


def forecast(model, x, y, alive: int, config: Config) -> str:
    """At most how long AutoAttack takes: if all of the `alive` examples survive it."""
    batch, device = (x[:config.judge_batch], y[:config.judge_batch]), x.device.type
    forward = cost.seconds(lambda: evaluate.correct(model, *batch), device)
    both = cost.seconds(lambda: attacks.fgsm(model, *batch, eps=config.judge_eps), device)
    each = (evaluate.FORWARD * forward + evaluate.BACKWARD * max(0.0, both - forward))
    return f"at most about {cost.duration(alive * each / len(batch[1]))} on {device}"


def zero_gradient(model, x: torch.Tensor, y: torch.Tensor, *, batch_size: int = 250) -> dict:
    """At how many images the cross-entropy has an input gradient of nothing but zeros."""
    count = 0
    for bx, by in zip(x.split(batch_size), y.split(batch_size), strict=True):
        bx = bx.detach().requires_grad_()
        gradient, = torch.autograd.grad(attacks.cross_entropy(model(bx), by).sum(), bx)
        count += int((gradient == 0).flatten(1).all(1).sum())
    return {"count": count, "total": len(y)}
