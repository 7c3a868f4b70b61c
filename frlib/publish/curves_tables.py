"""Trainings that are known by their curves alone: benchmarks/curves.json as tables of the book."""

from __future__ import annotations

from pathlib import Path

from frlib.publish.claims import NOT_RUN
from frlib.publish.comparison import short
from frlib.publish.markup import NONE, escaped, myst_table, percent
from frlib.publish.statistics import interval
from frlib.run.files import read_json

COLUMNS = ("test_clean", "test_pgd", "swa_test_clean", "swa_test_pgd")


def curves(folder: str | Path) -> str:
    """A table for each preset in `folder`/curves.json, which benchmarks/curves.py writes: the last
    epoch of every training, on the test images of its curves; "not run" without the file.

    ValueError naming the file for damaged JSON or a file that it did not write.
    """
    path = Path(folder) / "curves.json"
    head = ["Training", "Seed", "Clean", "PGD", "Average, clean", "Average, PGD", "Minutes"]
    if not path.is_file():
        return myst_table(None, "curves", "Trainings known by their curves.", head,
                          [[NOT_RUN, *[NONE] * 6]])
    content = read_json(path)
    try:
        return "\n".join(_table(name, found, head) for name, found in content["presets"].items())
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not of benchmarks/curves.py ({error!r}); make it again") \
            from error


def _table(preset: str, found: dict, head: list[str]) -> str:
    setting, images = found["setting"], found["setting"]["curve_images"]
    rows, made = [], []
    for label, seeds in found["runs"].items():
        for seed, run in seeds.items():
            last = run["history"][-1]
            shares = [last.get(column) for column in COLUMNS]
            rows.append([short(label), seed, *(_accuracy(share, images) for share in shares),
                         f"{sum(row['seconds'] for row in run['history']) / 60:.0f}"])
            made.append(run["provenance"])
    where = "; ".join(sorted({f"{m['device']}, torch {m['versions']['torch']}, "
                              f"commit {m['commit'][:7]}" for m in made}))
    on = f"the first {images:,} test images, in % with 95 % intervals" if images \
        else "all test images, in %"
    return myst_table(
        None, f"curves-{preset}", f"Preset {preset}: the last of "
        f"{setting['epochs']} epochs, on {on}; without attack and under "
        f"PGD-{setting['curve_steps']}, the network and the average of its weights. "
        f"The minutes are beside other trainings. {escaped(where)}.",
        head, rows)


def _accuracy(share: float | None, images: int) -> str:
    """In percent, with its interval where the number of images is known: 0 stands for all."""
    if share is None or not images:
        return NONE if share is None else f"{100 * share:.1f}"
    return percent(share, *interval(round(share * images), images))
