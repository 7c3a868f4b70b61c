"""AutoAttack on images that no result has, as benchmarks/autoattack.py stores them: the tables.

A file autoattack-<preset>.json is of the published weights, one autoattack-<preset>-seed<k>.json of
finished runs of that seed. Where these are the weights of the results, too, a row has the images of
both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from frlib.publish.claims import NOT_RUN
from frlib.publish.comparison import short
from frlib.publish.markup import NONE, chance, html_table, myst_table, percent, points
from frlib.publish.statistics import interval, paired_interval, sign_flip
from frlib.run.export import SEED
from frlib.run.files import flags_of, read_json

CAPTION = ("AutoAttack on more test images: accuracy in %, differences in points, with 95 % "
           "intervals of the paired difference.")


def more_images_table(results: dict, labels, base: str, preset: str, folder: str | Path) -> str:
    """What each label has over `base` on more images, image by image, as HTML.

    folder: of the files. "not run" without one.
    """
    return html_table(preset, *_head_and_rows(results, labels, base, preset, folder),
                      caption=CAPTION)


def more_images_page(results: dict, labels, base: str, preset: str, folder: str | Path) -> str:
    """The same as a table of the book, with the name more-images-<preset>."""
    return myst_table(preset, f"more-images-{preset}", CAPTION,
                      *_head_and_rows(results, labels, base, preset, folder))


def _head_and_rows(results, labels, base, preset, folder) -> tuple[list[str], list[list[str]]]:
    head = ["Test images", "Seed", short(base)]
    for label in labels:
        head += [short(label), f"minus {short(base)}", "chance"]
    files = [*Path(folder).glob(f"autoattack-{preset}.json"),
             *sorted(Path(folder).glob(f"autoattack-{preset}-seed*.json"))]
    rows = [row for file in files for row in _rows(read_json(file), "-seed" in file.stem, results,
                                                   labels, base)]
    return head, rows or [[NOT_RUN, *[NONE] * (len(head) - 1)]]


def _rows(made: dict, of_runs: bool, results: dict, labels, base: str) -> list[list[str]]:
    """The rows of one file: the results' images, those that follow them, and all of these.

    of_runs: of a training that need not be that of the results; where it is another, the images
    that follow stand alone. Published weights that are not those of the results, as after a
    training of a reader's own, are "not run".
    """
    seed = made.get("seed", SEED)
    first, total = made["first"], made["first"] + made["images"]
    flags = {}
    for label in (base, *labels):
        of_result, more = results.get(label, {}).get(seed), made["networks"].get(label)
        if of_result and more and of_result["checkpoint_sha256"] == more["checkpoint_sha256"] \
                and of_result["scores"]["aa"]["total"] >= first:
            known = flags_of(of_result["scores"]["aa"])[:first]
            flags[label] = np.concatenate([known, flags_of(more)])
    if of_runs and base not in flags:
        spans = {(first, total): {label: flags_of(more)
                                  for label, more in made["networks"].items()}}
    else:
        spans = {(start, end): {label: held[start:end] for label, held in flags.items()}
                 for start, end in ((0, first), (first, total), (0, total))}
    return [[f"{start + 1:,} to {end:,}", str(seed), *_over(here, labels, base)]
            for (start, end), here in spans.items()]


def _over(flags: dict, labels, base: str) -> list[str]:
    """Cells of one row: the accuracy of `base`, then of each label with what it has over `base`.

    flags: {label: int array (N,), 1 where AutoAttack found nothing}; "not run" for a label that is
    not in it. p is that of the paired permutation test.
    """
    if base not in flags:
        return [NOT_RUN, *[NOT_RUN, NONE, NONE] * len(labels)]
    cells = [percent(flags[base].mean(), *interval(flags[base].sum(), len(flags[base])))]
    for label in labels:
        if label not in flags:
            cells += [NOT_RUN, NONE, NONE]
            continue
        ours, change = flags[label], flags[label] - flags[base]
        cells += [percent(ours.mean(), *interval(ours.sum(), len(ours))),
                  points(100 * change.mean(), *(100 * e for e in paired_interval(change))),
                  chance(sign_flip(change))]
    return cells
