"""Which networks a page opens, and on which images: the one place that decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from frlib import data, fast
from frlib.publish import photographs
from frlib.publish.collected import PUBLISHED
from frlib.publish.notebook_views import mark, turned
from frlib.run import config as settings
from frlib.run import export, figures
from frlib.run.config import Config
from frlib.run.files import read_json
from frlib.run.folder import device_of
from frlib.run.labels import split
from frlib.run.places import project_root, resolve
from frlib.run.settings import READ_FROM

FEW = 40  # images that a page attacks in sight


@dataclass(frozen=True)
class Opened:
    """Networks, and images that none of them was trained on.

    labels: natural first, then in the order of the methods; load: label -> its network, frozen,
    read once; images: all there are; eps: the radius that judges them, in [0, 1]; about: both in
    a line.
    """

    preset: str
    labels: tuple[str, ...]
    load: Callable[[str], nn.Module]
    images: data.Split
    eps: float
    about: str

    @property
    def few(self) -> data.Split:
        """The first images, `FEW` or all."""
        return self.images.take(min(FEW, len(self.images)))

    @property
    def mark(self) -> str | None:
        return mark(self.preset)


def opened(config: Config, show: str = "", folder: str | Path | None = None) -> Opened:
    """The networks and images of a page.

    The reader's own finished runs, unless they are smoke's with no knob turned; else published
    weights and the forty photographs; else smoke's own runs; else none, without labels. With
    `show`, those of that preset alone. folder: of results, by default the committed ones.
    """
    folder = project_root() / "results" if folder is None else Path(folder)
    nothing = Opened(config.preset_name, (), _none, _forty(), config.judge_eps,
                     "networks: none yet: run notebooks 01 and 02 first")
    return next(filter(None, _places(config, show, folder)), nothing)


def _places(config, show, folder):
    """What `opened` may give, best first; None where there is nothing."""
    place = {"data_root": config.data_root, "runs_dir": config.runs_dir, "seed": config.seed}
    if show:
        config = settings.load(show, **place)
    if config.preset_name != "smoke" or turned(config):
        yield _own(config)
    if not turned(config):
        others = [] if show else [*PUBLISHED, *sorted(path.name for path in folder.glob("*"))]
        for name in dict.fromkeys([config.preset_name, *others]):
            yield _published(name, folder)
        yield _own(config if show else settings.load("smoke", **place))


def _none(label: str) -> nn.Module:
    raise KeyError(label)


def _own(config: Config) -> Opened | None:
    """This machine's finished runs, on the test images of their data set."""
    configs = figures.finished(config)
    if not configs:
        return None
    test = data.load(config.dataset, resolve(config.data_root), "test").to(device_of(config))
    told = f"networks: own runs of preset {config.preset_name}; images: test images of " \
           f"{config.dataset}"
    warning = mark(config.preset_name)
    return Opened(config.preset_name, _sorted(configs),
                  cache(lambda label: fast.freeze(figures.network(configs[label], test))), test,
                  config.judge_eps, f"{told} ({warning})" if warning else told)


def _published(preset: str, folder: Path) -> Opened | None:
    """Published weights of networks for CIFAR-10, on its forty photographs."""
    found = {path.parent.name: read_json(path)["config"]
             for path in folder.glob(f"{preset}/*/seed{export.SEED}.json")
             if export.weights_path(preset, path.parent.name, export.SEED, folder).is_file()}
    found = {label: about for label, about in found.items()
             if about["dataset"] == "cifar10" and split(label)[0] in READ_FROM}  # no plugin's own
    if not found:
        return None
    about = next(iter(found.values()))
    return Opened(preset, _sorted(found),
                  cache(lambda label: fast.freeze(export.published_model(preset, label,
                                                                         folder=folder))),
                  _forty(), about.get("judge_eps", about["eps"]),
                  f"networks: published weights of preset {preset}; images: forty CIFAR-10 test "
                  "images")


def _forty() -> data.Split:
    found = photographs.photographs()
    return data.Split(torch.from_numpy(found["images"]), torch.from_numpy(found["labels"]),
                      photographs.CLASSES)


def _sorted(labels) -> tuple[str, ...]:
    order = list(READ_FROM)
    return tuple(sorted(labels, key=lambda label: (order.index(split(label)[0]), label)))
