"""A training run on disk: its folder, what belongs in it, and files that survive a kill.

`runs_dir`/<preset>/<label>/seed<k>/ holds config.json, metrics.jsonl (a line an epoch), last.pt
(everything needed to go on), best.pt (best on validation), swa-best.pt (the same for the averaged
weights, where a method uses them) and, when done, finished.json; finished.redo says that it is
being trained anew.
"""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from frlib.run.config import Config
from frlib.run.files import atomic, read_json, read_tensors, redo_mark
from frlib.run.places import resolve

log = logging.getLogger("frlib")


@dataclass(frozen=True)
class Run:
    """A training run on disk."""

    dir: Path
    config: Config

    @property
    def finished(self) -> bool:
        """Whether it is trained to its end, and is not being trained anew."""
        done = self.dir / "finished.json"
        return done.is_file() and not redo_mark(done).is_file()

    @property
    def history(self) -> list[dict]:
        """One dict per epoch: accuracies in [0, 1], loss terms, lr, seconds."""
        path = self.dir / "metrics.jsonl"
        try:
            return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error}); last.pt has the same rows") from error

    def checkpoint(self, which: str = "best") -> Path:
        """The file "best", "last" or "swa-best"; `frlib.models.load_checkpoint` reads it."""
        if which not in ("best", "last", "swa-best"):
            raise ValueError(f"checkpoint {which!r}: choose 'best', 'last' or 'swa-best'")
        path = self.dir / f"{which}.pt"
        if not path.is_file():
            raise FileNotFoundError(f"no {which} checkpoint in {self.dir}")
        return path


def open_run(config: Config) -> Run:
    """The run a method is read from, whether or not it has been trained ("at-swa" -> "at").

    ValueError for what is no Config.
    """
    if not isinstance(config, Config):
        raise ValueError(f"{type(config).__name__} given: a run is trained and judged by its "
                         "Config, as frlib.run.config.load(preset, method=..., ...) makes it")
    config = config.of(config.trained_as)
    folder = resolve(config.runs_dir) / config.preset_name / config.label / f"seed{config.seed}"
    return Run(folder, config)


def device_of(config: Config) -> str:
    """"cuda" or "cpu". Raises ValueError when the GPU asked for is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda', but torch sees no GPU; choose 'auto' or 'cpu'")
    return config.device if config.device != "auto" else \
        "cuda" if torch.cuda.is_available() else "cpu"


def device_for_work(config: Config) -> str:
    """`device_of`; ValueError, too, when a preset whose jobs ask for GPUs would get the CPU."""
    device = device_of(config)
    if config.device == "auto" and config.job_gpus and device == "cpu":
        raise ValueError(f"preset {config.preset_name} asks for a GPU (job_gpus = "
                         f"{config.job_gpus}), but torch sees none; device: cpu in its settings "
                         "takes the CPU")
    return device


def refuse_another(run: Run, facts: dict) -> None:
    """Check the run that lies in the folder, if any, against `run.config` and `facts`; changes
    nothing.

    RuntimeError for other settings or facts. Other training code (facts "numerics", "own_code") is
    a RuntimeError for an unfinished run, which cannot go on with it, and a warning for a finished
    one.
    """
    path = run.dir / "config.json"
    if not path.is_file():
        return
    # a setting that did not exist then had the effect of its default, updates were float32
    stored = {**as_stored(Config().group("train")), "update_precision": "float32",
              **read_json(path)}
    wanted = as_stored({**run.config.group("train"), **facts})
    differing = [f"{k} = {stored.get(k)!r} there, {v!r} asked for" for k, v in wanted.items()
                 if stored.get(k) != v and k not in ("numerics", "own_code")]
    if differing:
        raise RuntimeError(f"{run.dir} holds a run with other settings ({'; '.join(differing)}); "
                           "choose another runs_dir, or move it aside with --redo")
    made_by = []
    if stored.get("numerics") != facts["numerics"]:
        made_by.append(f"training code of version {stored.get('numerics')}, today's is "
                       f"{facts['numerics']}")
    if "own_code" in facts and stored.get("own_code", facts["own_code"]) != facts["own_code"]:
        made_by.append("your own code as it was before a change")
    if made_by:
        told = f"{run.dir}: made by {', and by '.join(made_by)}; --redo trains it again"
        if not run.finished:
            raise RuntimeError(f"{told}, and it cannot go on with other code")
        log.warning("%s", told)


def with_defaults(config: dict) -> dict:
    """The config of a result, with the defaults of settings that did not exist yet, and without
    those that exist no more."""
    defaults = as_stored(Config().group("train", "judge"))
    known = {key: value for key, value in config.items() if key in defaults}
    return {**defaults, "judge_eps": config.get("eps", defaults["eps"]), **known}


def as_stored(content: dict) -> dict:
    """As it reads back from a JSON file: with lists for tuples."""
    return json.loads(json.dumps(content))


def move_aside(run: Run) -> None:
    """Keep the files of a run in its folder's first free older-<n>/, but its log and redo mark."""
    files = [file for file in run.dir.glob("*.*")
             if file.is_file() and file.name != ".lock" and file.suffix not in (".log", ".redo")]
    if files:
        names = (f"older-{i}" for i in itertools.count(1))
        aside = next(place for name in names if not (place := run.dir / name).exists())
        aside.mkdir()
        for file in sorted(files, key=lambda file: file.name != "last.pt"):  # none goes on with it
            file.rename(aside / file.name)
        log.warning("%s: moved to %s", run.dir, aside)


def save(path: Path, **content) -> None:
    """Write a checkpoint whole or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)  # given a path, it would write the path's name into the file


def accept(run: Run, epoch: int) -> None:
    """Make <name>.next.pt of an epoch that last.pt has reached <name>.pt, and drop a later one.

    A best checkpoint is written before last.pt and accepted after it. Killed in between, the epoch
    is done again, and on a GPU it need not be as good again.
    """
    for path in run.dir.glob("*.next.pt"):
        if read_tensors(path)["epoch"] <= epoch:
            path.replace(path.with_name(path.name.replace(".next", "")))
        else:
            path.unlink()


def write_history(run: Run, history: list[dict]) -> None:
    with atomic(run.dir / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in history))
