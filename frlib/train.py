"""One visible loop for every method: natural, AT, FR and its rivals, with SWA along.

A run lives in a folder of its own (`frlib.run.folder`). A killed one continues from last.pt and,
on the CPU, gives the same numbers as an unbroken one. Under torchrun several processes share every
batch (`frlib.run.distributed`); the first one writes.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from contextlib import ExitStack, nullcontext

import torch
from tqdm.auto import tqdm

from frlib import attacks, averaging, data, evaluate, fast, losses, models
from frlib.run import cost, distributed, folder
from frlib.run.config import METHODS, Config, criterion, drop_epochs, epoch_at, resolve
from frlib.run.files import file_checksum, lock, read_tensors, weights_checksum, write_json
from frlib.run.folder import Run, device_for_work, device_of, open_run
from frlib.run.provenance import NUMERICS, provenance

log = logging.getLogger("frlib")
FLOAT32 = {"attack_precision": "float32", "update_precision": "float32"}
EXACT_PASSES = 2  # TRADES: the clean images, and the first step, whose start rounding would hide


def learning_rate(config: Config, epoch: float) -> float:
    """The rate at a (fractional) epoch: x0.1 at each drop, or up for 30 % and down to 0.

    The default milestones drop it after epoch 2 of 3, 3 of 4, 3 and 4 of 5, 75 and 90 of 100; a
    single epoch has the full rate throughout (see `drop_epochs`).
    """
    share = epoch / config.epochs
    if config.schedule == "one-cycle":
        return config.lr * (share / 0.3 if share < 0.3 else (1 - share) / 0.7)
    drops = drop_epochs(config.milestones, config.epochs)
    return config.lr * 0.1 ** sum(epoch >= drop for drop in drops)


def swa_epoch(config: Config) -> int:
    """First epoch (from 0) whose weights enter the average: the first learning-rate drop."""
    return min(epoch_at(config.swa_start, config.epochs), config.epochs - 1)


def train(config: Config, *, redo: bool = False) -> Run:
    """Train (or finish, or just return) the run of `config`.

    A finished run is returned as it is, also one of older numerics, which a warning says; with
    `redo` what is there is moved aside, to be kept, and trained anew.

    Raises ValueError or FileNotFoundError for bad settings or data before any work, RuntimeError
    when the directory is in use or not writable, or when a run with other settings or of other data
    is in it, and FloatingPointError naming epoch and step for a loss that is not finite.
    """
    run = open_run(config)
    config = run.config
    facts = {"numerics": NUMERICS["train"],
             "data_files": data.listing(config.dataset, resolve(config.data_root))}
    if config.precision == "float32" or not config.fast and config.precision == "auto":
        facts |= FLOAT32  # else a finished run will do, whatever it was made on
    with distributed.processes(device_of(config)), ExitStack() as held:
        distributed.on_first(lambda: held.enter_context(lock(run.dir, reading=run.finished)))
        if redo:
            distributed.on_first(lambda: folder.move_aside(run))
        distributed.on_first(lambda: folder.check(run, facts))
        if not distributed.on_first(lambda: run.finished):
            _train(run, config, device_for_work(config), facts)
    return run


def averages(method: str) -> bool:
    """Whether a result is read from the averaged weights of this training."""
    return any(trained == method and which.startswith("swa") for trained, which in METHODS.values())


def precision(config: Config, device: str) -> dict[str, str]:
    """What the passes of attack and update compute in: {"attack_precision": ..., "update_..."}.

    All else is float32: images, losses, weights, and what BatchNorm keeps. An attack in train mode
    moves BatchNorm, so it stays float32, as does the update on a GPU, where it was not measured.
    ValueError when bfloat16 is asked for and the device would emulate it.
    """
    asked, there = config.precision, fast.has_bfloat16(device)
    if asked == "bfloat16" and not there:
        raise ValueError(f"precision = 'bfloat16', but this {device} would emulate it, many times "
                         "slower than float32; choose 'auto' or 'float32'")
    half = asked == "bfloat16" or asked == "auto" and config.fast and there
    return {"attack_precision": "bfloat16" if half and config.attack_mode == "eval" else "float32",
            "update_precision": "bfloat16" if half and device == "cpu" else "float32"}


def _train(run: Run, config: Config, device: str, facts: dict) -> None:
    computed = precision(config, device)
    place = {"device": device, **computed}
    cost.settle(config.threads, fast=config.fast)
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
    curves = {name: (part.x, part.labels) for name, part in curves.items()}

    torch.manual_seed(config.seed)
    model = models.create(config.model, num_classes=len(train_set.classes),
                          **_normalisation(train_set, config)).to(device)
    if config.fast:
        model = model.to(memory_format=torch.channels_last)
    average = averaging.averaged(model)
    optimizer = _optimizer(model, config)
    generator = torch.Generator(device).manual_seed(config.seed)
    chooser = criterion(config.method)
    state = {"epoch": 0, "history": [], "best": -1.0, "swa_best": -1.0, "made": None,
             "peak_bytes": 0}
    state = _resume(run, place, model, average, optimizer, generator) or state
    first = distributed.rank() == 0  # it alone writes
    if first:
        write_json(run.dir / "config.json", {**config.group("train"), **facts, **computed})
        folder.accept(run, state["epoch"])
    frozen, network = fast_copy(model, config, device), distributed.parallel(model)
    if state["epoch"] < config.epochs:
        told = forecast(model, train_set, curves, config, state["epoch"], frozen)
        if first:
            print(f"{config.label}: {told}, {_in_words(config, device)}", flush=True)
    log.info("%s: %s, epochs %d-%d on %s", run.dir, config.model, state["epoch"] + 1,
             config.epochs, device)

    for epoch in tqdm(range(state["epoch"], config.epochs), desc=config.label,
                      disable=None if first else True):
        start = time.time()
        row = {"epoch": epoch + 1, **train_epoch(model, optimizer, train_set, generator, config,
                                                 epoch, frozen, network)}
        row |= score(model, curves, config)
        if row[chooser] > state["best"]:
            state["best"] = row[chooser]
            if first:
                folder.save(
                    run.dir / "best.next.pt", state_dict=model.state_dict(), epoch=epoch + 1
                )
        if averages(config.method) and epoch >= swa_epoch(config):
            average.update_parameters(model)
            if config.swa_batchnorm == "reestimate":
                again = torch.Generator(device).manual_seed(config.seed)
                averaging.reestimate_batchnorm(distributed.twin(average), (
                    x for x, _ in data.batches(train_set, config.batch_size, again,
                                               flip=config.flip)))
            row |= {f"swa_{k}": v for k, v in score(average.module, curves, config).items()}
            if row[f"swa_{chooser}"] > state["swa_best"]:
                state["swa_best"] = row[f"swa_{chooser}"]
                if first:
                    folder.save(
                        run.dir / "swa-best.next.pt",
                        state_dict=average.module.state_dict(),
                        epoch=epoch + 1,
                    )
        row["seconds"] = round(time.time() - start, 2)
        state["history"].append(row)
        state["epoch"] = epoch + 1
        state["peak_bytes"] = max(state["peak_bytes"], cost.peak_bytes(device))
        state["made"] = provenance(device, before=state["made"], processes=distributed.size(),
                                   **computed)
        if first:
            folder.save(run.dir / "last.pt", state_dict=model.state_dict(),
                      average=average.state_dict(), optimizer=optimizer.state_dict(),
                      generator=generator.get_state(), place=place, state=state)
            folder.accept(run, state["epoch"])
            folder.write_history(run, state["history"])
        log.info("%s %s", config.label, json.dumps(row))
    if first:
        folder.write_history(run, state["history"])
        files = {p.stem: file_checksum(p) for p in sorted(run.dir.glob("*best.pt"))}
        if averages(config.method):
            files["swa-last"] = weights_checksum(average.module.state_dict())
        write_json(run.dir / "finished.json", {
            "seconds": round(sum(row["seconds"] for row in state["history"]), 1),
            "peak_bytes": state["peak_bytes"], **computed,
            "data": train_set.checksum, "checkpoints": files, "provenance": state["made"]})


@evaluate.full_precision()
def train_epoch(model, optimizer, train_set, generator, config, epoch: int, frozen=None,
                network=None) -> dict:
    """One pass over the training images. Returns the mean loss terms and the learning rate.

    `frozen` is what `fast_copy` made of the model, `network` what `distributed.parallel` made; they
    are made here if not given.
    """
    device = train_set.labels.device.type
    update = precision(config, device)["update_precision"]
    frozen = frozen or fast_copy(model, config, device)
    network = network or distributed.parallel(model)
    attacked = distributed.shared(frozen, gather=False) if frozen \
        else distributed.twin(model, gather=False)
    perturbed = config.method.endswith("-awp") and epoch >= config.awp_start_epoch
    steps = -(-len(train_set) // config.batch_size)
    terms, last = [], {}
    for step, (x, y) in enumerate(data.batches(train_set, config.batch_size, generator,
                                               flip=config.flip)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, epoch + step / steps)
        if frozen:  # in eval mode the weights stand still for the whole attack: they can be folded
            frozen.refresh(model)
        x_adv = adversarial(attacked, x, y, config, generator)
        model.train()

        def loss_of(model, x=x, x_adv=x_adv, y=y):
            with fast.autocast(device, update):
                return objective(model, x, x_adv, y, config, epoch)

        with losses.perturb_weights(model, lambda m: loss_of(distributed.averaging_twin(m))[0],
                                    gamma=config.awp_gamma) if perturbed else nullcontext():
            loss, last = loss_of(network)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
        terms.append(torch.stack([value.detach() for value in last.values()]))
        if step % 20 == 19:
            _check_finite(terms, epoch)
    _check_finite(terms, epoch)
    means = torch.stack(terms).mean(dim=0).tolist()
    return {**dict(zip(last, means, strict=True)), "lr": optimizer.param_groups[0]["lr"]}


def adversarial(model, x, y, config, generator):
    """The images a step trains on: x under PGD; TRADES ascends its KL term, all others the loss.

    TRADES and MART start beside x, the others anywhere in the ball. Nothing here waits for a GPU.
    """
    if config.method == "natural":
        return x
    rival = config.method.startswith(("trades", "mart"))
    loss = "ce"
    if config.method.startswith("trades"):
        model.train(config.attack_mode == "train")
        with torch.no_grad():
            clean = model(x).clone()  # a compiled network reuses the memory of its output
        loss = lambda logits, _: losses.kl(clean, logits)  # noqa: E731
    return attacks.pgd(model, x, y, eps=config.eps, step_size=config.step_size,
                       steps=config.steps, loss=loss, random_start="gaussian" if rival else True,
                       mode=config.attack_mode, generator=generator, check=False)


def objective(model, x, x_adv, y, config, epoch: int):
    """The loss of a method and its parts for the log: (scalar, {name: scalar}), all float32.

    Passes in train mode, each of which moves BatchNorm's running averages, are those of the
    official codes: one for natural and AT; attacked, then clean, for FR; clean, then attacked, for
    MART. TRADES passes the clean images twice: clean, attacked, clean, or with AWP attacked,
    clean, clean.
    """
    method, awp, _ = config.method.partition("-awp")
    if method in ("trades", "mart"):
        clean, adv = (model(x_adv), model(x))[::-1] if awp else (model(x), model(x_adv))
        if method == "trades":
            with torch.no_grad():
                model(x)
        loss = getattr(losses, method)(clean, adv, y, beta=config.beta)
        return loss, {f"loss_{method}": loss}
    adv = model(x_adv)
    loss = losses.cross_entropy(adv, y)
    terms = {"loss_ce": loss}
    if method in ("at-fr", "at-sar") and epoch >= config.fr_start_epoch:
        terms["loss_fr"] = losses.frequency_regularization(adv, model(x),
                                                           transform=config.fr_transform)
        loss = loss + config.fr_lambda * terms["loss_fr"]
    return loss, terms


def forecast(model, train_set, curves: dict, config: Config, epoch: int, frozen=None) -> str:
    """Time and memory that the epochs from `epoch` on will take, from a few steps on a copy.

    MemoryError when the memory clearly will not do, before any of it is used.
    """
    device = train_set.labels.device.type
    passes = 1 if config.method in ("natural", "at", "at-awp") else 2
    share = -(-config.batch_size // distributed.size())  # of a batch, on each process
    need = cost.training_bytes(model, train_set.take(1).x, share, passes=passes)
    cost.refuse_if_too_big(need, device, f"lower batch_size = {config.batch_size}")
    few = train_set.take(min(len(train_set), 2 * config.batch_size))
    trial = copy.deepcopy(model)
    optimizer, generator = _optimizer(trial, config), torch.Generator(device).manual_seed(0)
    steps = len(train_set) / len(few)
    try:
        each = cost.seconds(lambda: train_epoch(trial, optimizer, few, generator, config, epoch,
                                                frozen), device)
    except FloatingPointError:
        return "no forecast: the loss is not finite in the first steps"
    part = {name: (x[:config.judge_batch], y[:config.judge_batch])
            for name, (x, y) in curves.items()}
    parts = max(len(y) for _, y in curves.values()) / max(len(y) for _, y in part.values())
    scoring = parts * cost.seconds(lambda: score(trial, part, config), device)
    first = swa_epoch(config) if averages(config.method) else config.epochs
    scored = (config.epochs - epoch) + (config.epochs - max(epoch, first))
    total = (config.epochs - epoch) * steps * each + scored * scoring
    where = f"each of {distributed.size()} x {device}" if distributed.size() > 1 else device
    return f"about {cost.duration(total)} and {need / cost.GIB:.1f} GiB on {where}"


def _optimizer(model, config: Config):
    return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum,
                           weight_decay=config.weight_decay)


def _normalisation(train_set, config: Config) -> dict:
    """Mean and deviation of each channel of the training images, if the model is to use them."""
    if not config.normalise:
        return {}
    channels = [data.to_float(channel) for channel in train_set.images.unbind(1)]
    return {"mean": [c.mean().item() for c in channels], "std": [c.std().item() for c in channels]}


def _in_words(config: Config, device: str) -> str:
    """What `precision` says, for the line before a training; and where bfloat16 is missing."""
    attack, update = precision(config, device).values()
    told = f"in {attack}" if attack == update else f"attacks in {attack}, updates in {update}"
    lacking = config.precision == "auto" and config.fast and not fast.has_bfloat16(device)
    return told + (", as this processor has no bfloat16" if lacking else "")


def fast_copy(model, config: Config, device: str):
    """The frozen copy that the attack runs on, compiled on a GPU; None for the plain loop.

    One copy serves a whole training, `Frozen.refresh` brings it up to date: compiling takes long.
    """
    attack = precision(config, device)["attack_precision"]
    plain = not config.fast and attack == "float32"
    if plain or config.method == "natural" or config.attack_mode == "train":
        return None
    frozen = fast.freeze(model, fast=config.fast, precision=attack,
                         exact=EXACT_PASSES if config.method.startswith("trades") else 0)
    if device == "cuda" and config.fast:
        frozen.net.compile(mode="reduce-overhead", dynamic=False)
    return frozen


def score(model, curves: dict, config: Config) -> dict:
    """Clean and PGD accuracy on validation and test images, always from the same random start."""
    row = {}
    frozen = distributed.shared(fast.freeze(model, fast=config.fast)).forward  # frozen for good
    for name, (x, y) in curves.items():
        generator = torch.Generator(x.device).manual_seed(config.seed)
        clean = evaluate.correct(frozen, x, y, batch_size=config.judge_batch)
        pgd = evaluate.robust(frozen, x, y, lambda m, x, y: attacks.pgd(
            m, x, y, eps=config.eps, step_size=min(2.5 * config.eps / config.curve_steps, 1.0),
            steps=config.curve_steps, generator=generator),  # noqa: B023
            batch_size=config.judge_batch, clean=clean)
        row |= {f"{name}_clean": clean.sum().item() / len(y),
                f"{name}_pgd": pgd.sum().item() / len(y)}
    return row


def _check_finite(terms, epoch):
    finite = torch.isfinite(torch.stack(terms)).all(dim=1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise FloatingPointError(f"the loss is not finite at epoch {epoch + 1}, step {step + 1}; "
                                 "the last good checkpoint is kept; try a lower lr")


def _resume(run, place: dict, model, average, optimizer, generator) -> dict | None:
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
    models.load_checkpoint(model, path)
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    return saved["state"]
