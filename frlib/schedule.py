"""When the learning rate drops, and when averaging starts."""

from __future__ import annotations


def learning_rate(settings, epoch: float) -> float:
    """The rate at a (fractional) epoch: x0.1 at each drop, or up for 30 % and down to 0.

    The default milestones drop it after epoch 2 of 3, 3 of 4, 3 and 4 of 5, 75 and 90 of 100; a
    single epoch has the full rate throughout (see `drop_epochs`).
    """
    share = epoch / settings.epochs
    if settings.schedule == "one-cycle":
        return settings.lr * (share / 0.3 if share < 0.3 else (1 - share) / 0.7)
    drops = drop_epochs(settings.milestones, settings.epochs)
    return settings.lr * 0.1 ** sum(epoch >= drop for drop in drops)


def epoch_at(share: float, epochs: int) -> int:
    """The epoch (from 0) at which a share of them is done; 0.29 of 100 is 29 despite rounding."""
    return int(share * epochs + 1e-9)


def drop_epochs(milestones, epochs: int) -> list[int]:
    """The epochs (from 0) at which the learning rate drops: where its shares of them are done.

    Few epochs leave no room for all: drops in one epoch count once, and none comes before the
    first epoch is done.
    """
    drops = {max(1, epoch_at(share, epochs)) for share in milestones}
    return sorted(drop for drop in drops if drop < epochs)


def swa_epoch(settings) -> int:
    """First epoch (from 0) whose weights enter the average.

    It is where a share `swa_start` of the epochs is done, at the latest the last one; by default
    that is the first learning-rate drop.
    """
    return min(epoch_at(settings.swa_start, settings.epochs), settings.epochs - 1)
