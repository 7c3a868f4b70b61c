"""One visible loop for natural training, PGD adversarial training and AT with FR, SWA along with it.

A run lives in `runs_dir`/<preset>/<label>/seed<k>/: config.json, metrics.jsonl (a line an epoch),
last.pt (everything needed to go on), best.pt (best on validation, see `criterion`), swa-best.pt (the
same for the averaged weights) and, when done, finished.json. A killed run continues from last.pt and,
on the CPU, gives the same numbers as an unbroken one.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from frlib import attacks, averaging, data, evaluate, losses, models
from frlib.config import Config, resolve
from frlib.results import (
    atomic,
    code_fingerprint,
    file_checksum,
    lock,
    provenance,
    read_json,
    write_json,
)

log = logging.getLogger("frlib")
# the modules that decide a run's numbers
CODE = ("attacks", "averaging", "data", "evaluate", "losses", "models", "train")


@dataclass(frozen=True)
class Run:
    """A training run on disk."""

    dir: Path
    config: Config

    @property
    def finished(self) -> bool:
        return (self.dir / "finished.json").is_file()

    @property
    def history(self) -> list[dict]:
        """One dict per epoch: accuracies in [0, 1], loss terms, lr, seconds."""
        path = self.dir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def checkpoint(self, which: str = "best") -> Path:
        """The file "best", "last" or "swa-best"; `frlib.models.load_checkpoint` reads it."""
        if which not in ("best", "last", "swa-best"):
            raise ValueError(f"checkpoint {which!r}: choose 'best', 'last' or 'swa-best'")
        path = self.dir / f"{which}.pt"
        if not path.is_file():
            raise FileNotFoundError(f"no {which} checkpoint in {self.dir}")
        return path


def open_run(config: Config) -> Run:
    """The run a method is read from, whether or not it has been trained ("at-swa" -> "at")."""
    config = config.of(config.trained_as)
    folder = resolve(config.runs_dir) / config.preset_name / config.label / f"seed{config.seed}"
    return Run(folder, config)


def device_of(config: Config) -> str:
    """"cuda" or "cpu". Raises ValueError when the GPU asked for is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda', but torch sees no GPU; choose 'auto' or 'cpu'")
    return config.device if config.device != "auto" else \
        "cuda" if torch.cuda.is_available() else "cpu"


def learning_rate(config: Config, epoch: float) -> float:
    """The rate at a (fractional) epoch: x0.1 at each milestone, or up for 30 % and down to 0."""
    share = epoch / config.epochs
    if config.schedule == "one-cycle":
        return config.lr * (share / 0.3 if share < 0.3 else (1 - share) / 0.7)
    drops = sum(epoch >= _epoch(config, m) for m in config.milestones)
    return config.lr * 0.1 ** drops


def criterion(method: str) -> str:
    """The accuracy that chooses a checkpoint: under PGD, on validation images.

    For natural training it is the clean one: its PGD accuracy is highest before it has learnt.
    """
    return "val_clean" if method == "natural" else "val_pgd"


def swa_epoch(config: Config) -> int:
    """First epoch (from 0) whose weights enter the average: the first learning-rate drop."""
    return min(_epoch(config, config.swa_start), config.epochs - 1)


def _epoch(config: Config, share: float) -> int:
    """The epoch (from 0) at which a share of them is done; 0.29 of 100 is 29 despite rounding."""
    return int(share * config.epochs + 1e-9)


def train(config: Config) -> Run:
    """Train (or finish, or just return) the run of `config`.

    Raises ValueError or FileNotFoundError for bad settings or data before any work, RuntimeError
    when the directory is in use or not writable, or when a run with other settings is in it, and
    FloatingPointError naming epoch and step for a loss that is not finite.
    """
    run = open_run(config)
    config = run.config
    device = device_of(config)
    with lock(run.dir):
        if not _same_run(run) or not run.finished:
            _train(run, config, device)
    return run


def _train(run: Run, config: Config, device: str) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    split = {name: data.load(config.dataset, resolve(config.data_root), name)
             for name in data.SPLITS}
    train_set = split["train"].take(config.train_size).to(device)
    if len(train_set) < 2:
        raise ValueError(f"train_size = {len(train_set)}: BatchNorm needs at least 2 images")
    curves = {"val": split["val"].take(config.curve_images or config.val_size),
              "test": split["test"].take(config.curve_images)}  # shown, never used for choosing
    curves = {name: (part.to(device).x, part.labels.to(device)) for name, part in curves.items()}

    torch.manual_seed(config.seed)
    model = models.create(config.model, num_classes=len(train_set.classes)).to(device)
    if config.fast:
        model = model.to(memory_format=torch.channels_last)
    average = averaging.averaged(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum,
                                weight_decay=config.weight_decay)
    generator = torch.Generator(device).manual_seed(config.seed)
    chooser = criterion(config.method)
    state = {"epoch": 0, "history": [], "best": -1.0, "swa_best": -1.0}
    state = _resume(run, model, average, optimizer, generator) or state
    write_json(run.dir / "config.json", {**config.group("train"),
                                         "code": code_fingerprint(*CODE)})
    log.info("%s: %s, epochs %d-%d on %s", run.dir, config.model, state["epoch"] + 1,
             config.epochs, device)

    for epoch in tqdm(range(state["epoch"], config.epochs), desc=config.label, disable=None):
        start = time.time()
        row = {"epoch": epoch + 1, **train_epoch(model, optimizer, train_set, generator, config,
                                                 epoch)}
        row |= score(model, curves, config)
        if row[chooser] > state["best"]:
            state["best"] = row[chooser]
            _save(run.dir / "best.pt", state_dict=model.state_dict(), epoch=epoch + 1)
        if epoch >= swa_epoch(config):
            average.update_parameters(model)
            again = torch.Generator(device).manual_seed(config.seed)
            averaging.reestimate_batchnorm(average, (x for x, _ in data.batches(
                train_set, config.batch_size, again, flip=config.flip)))
            row |= {f"swa_{k}": v for k, v in score(average.module, curves, config).items()}
            if row[f"swa_{chooser}"] > state["swa_best"]:
                state["swa_best"] = row[f"swa_{chooser}"]
                _save(run.dir / "swa-best.pt", state_dict=average.module.state_dict(),
                      epoch=epoch + 1)
        row["seconds"] = round(time.time() - start, 2)
        state["history"].append(row)
        state["epoch"] = epoch + 1
        _save(run.dir / "last.pt", state_dict=model.state_dict(), average=average.state_dict(),
              optimizer=optimizer.state_dict(), generator=generator.get_state(), state=state)
        _write_history(run, state["history"])
        log.info("%s %s", config.label, json.dumps(row))
    _write_history(run, state["history"])
    files = {p.stem: file_checksum(p) for p in sorted(run.dir.glob("*best.pt"))}
    write_json(run.dir / "finished.json", {
        "seconds": round(sum(row["seconds"] for row in state["history"]), 1),
        "data": train_set.checksum, "checkpoints": files, "provenance": provenance(device)})


def train_epoch(model, optimizer, train_set, generator, config, epoch: int) -> dict:
    """One pass over the training images. Returns the mean loss terms and the learning rate."""
    regularise = config.method == "at-fr" and epoch >= config.fr_start_epoch
    steps = -(-len(train_set) // config.batch_size)
    terms, last = [], {}
    for step, (x, y) in enumerate(data.batches(train_set, config.batch_size, generator,
                                               flip=config.flip)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, epoch + step / steps)
        x_adv = x
        if config.method != "natural":
            # in eval mode the weights stand still for the whole attack, so they can be folded
            attacked = models.freeze(model) if config.fast and config.attack_mode == "eval" \
                else model
            x_adv = attacks.pgd(attacked, x, y, eps=config.eps, step_size=config.step_size,
                                steps=config.steps, mode=config.attack_mode, generator=generator)
        model.train()
        logits_adv = model(x_adv)
        loss = cross_entropy = F.cross_entropy(logits_adv.float(), y)
        last = {"loss_ce": cross_entropy}
        if regularise:
            fr = losses.frequency_regularization(logits_adv, model(x),
                                                 transform=config.fr_transform)
            loss = loss + config.fr_lambda * fr
            last["loss_fr"] = fr
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        terms.append(torch.stack([value.detach() for value in last.values()]))
        if step % 20 == 19:
            _check_finite(terms, epoch)
    _check_finite(terms, epoch)
    means = torch.stack(terms).mean(dim=0).tolist()
    return {**dict(zip(last, means, strict=True)), "lr": optimizer.param_groups[0]["lr"]}


def score(model, curves: dict, config: Config) -> dict:
    """Clean and PGD accuracy on validation and test images, always from the same random start."""
    row, frozen = {}, models.freeze(model)
    for name, (x, y) in curves.items():
        generator = torch.Generator(x.device).manual_seed(config.seed)
        clean = evaluate.correct(frozen, x, y, batch_size=config.judge_batch)
        pgd = evaluate.robust(frozen, x, y, lambda m, x, y: attacks.pgd(
            m, x, y, eps=config.eps, step_size=2.5 * config.eps / config.curve_steps,
            steps=config.curve_steps, generator=generator), batch_size=config.judge_batch)  # noqa: B023
        row |= {f"{name}_clean": clean.sum().item() / len(y),
                f"{name}_pgd": pgd.sum().item() / len(y)}
    return row


def _check_finite(terms, epoch):
    finite = torch.isfinite(torch.stack(terms)).all(dim=1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise FloatingPointError(f"the loss is not finite at epoch {epoch + 1}, step {step + 1}; "
                                 "the last good checkpoint is kept; try a lower lr")


def _same_run(run: Run) -> bool:
    """Whether the directory holds this very run. One of older code is moved aside, never lost."""
    path = run.dir / "config.json"
    if not path.is_file():
        return False
    stored, wanted = read_json(path), run.config.group("train")
    code = stored.pop("code", None)
    wanted = json.loads(json.dumps(wanted))
    differing = [f"{k} = {stored.get(k)!r} there, {wanted[k]!r} asked for"
                 for k in wanted if stored.get(k) != wanted[k]]
    if differing:
        raise RuntimeError(f"{run.dir} holds a run with other settings ({'; '.join(differing)}); "
                           "choose another runs_dir or delete it")
    if code == code_fingerprint(*CODE):
        return True
    aside = run.dir / f"code-{code}"
    aside.mkdir(exist_ok=True)
    for file in run.dir.glob("*.*"):
        if file.is_file() and file.name != ".lock":
            file.rename(aside / file.name)
    log.warning("%s: made by older code; moved to %s, training again", run.dir, aside)
    return False


def _resume(run, model, average, optimizer, generator) -> dict | None:
    """Restore everything from last.pt, if there is one, and return the loop's own state."""
    path = run.dir / "last.pt"
    if not path.is_file():
        return None
    try:
        saved = torch.load(path, weights_only=True)
    except Exception as error:
        raise RuntimeError(f"{path}: damaged checkpoint ({error}); delete it to train again") \
            from error
    models.load_checkpoint(model, path)
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    return saved["state"]


def _save(path: Path, **content) -> None:
    with atomic(path) as temporary:
        torch.save(content, temporary)


def _write_history(run: Run, history: list[dict]) -> None:
    with atomic(run.dir / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in history))
