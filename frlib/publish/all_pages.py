"""Every generated page of the book, written from the results of a preset."""

from __future__ import annotations

from pathlib import Path

from frlib.publish import plots
from frlib.publish.book_tables import (
    FOLLOW_UP,
    READINGS,
    ablations,
    follow_up,
    needed,
    paper_table1,
    paper_table2,
    readings,
    settings,
    table1,
    table2,
)
from frlib.publish.claims import apart
from frlib.publish.claims_tables import claims
from frlib.publish.collected import PUBLISHED, collect
from frlib.publish.curves_tables import curves
from frlib.publish.first_page import FOREST, headline, picture, verdicts
from frlib.publish.more_images import more_images_page
from frlib.publish.sources import badge, copy_files, costs, preset_costs, provenance
from frlib.publish.speed_tables import ascent, load, precision, speed
from frlib.run.files import atomic
from frlib.run.places import project_root
from frlib.run.presets import shipped

CHOICES = "small"  # the preset of PUBLISHED at which the open choices were tried one by one
WIDER = "resnet18"  # a preset that has a Table 2 of its own and decides no claim
AS_RELEASED = "at-fr@fr_transform=batch-class,fr_start_epoch=11"
PAGES = ("paper_table1", "paper_table2", "badge", "headline", "verdicts", "claims", "table1",
         "table2", "readings", "ablations", "settings", "costs", "provenance", "follow_up", "speed",
         "precision", "load", "curves", "preset_costs", "table2_wider", "more_images_wider")


def _before(preset: str) -> tuple[str, ...]:
    """Those of PUBLISHED that are of larger scale than this one; none for another preset."""
    return PUBLISHED[:PUBLISHED.index(preset)] if preset in PUBLISHED else ()


def _apart(preset: str) -> tuple[str, ...]:
    """The presets that decide some claims beside one of PUBLISHED; none beside another."""
    return apart() if preset in PUBLISHED else ()


def write_pages(out: str | Path, preset: str, *folders: str | Path) -> None:
    """Write the tables of a preset, those of PAGES, as `out`/<name>.md, each atomically.

    Those of `speed`, `precision`, `load` and `curves` belong to no preset: they are made of the
    root's benchmarks/*.json, and so is a figure, precision.svg, where there is one to draw.
    Copies of the results themselves go to `out`/extra, which the book takes to its root.
    """
    measured = project_root() / "benchmarks"
    results = collect(preset, *folders)
    others = {name: collect(name, *folders) for name in FOLLOW_UP}
    larger = {name: collect(name, *folders) for name in _before(preset)}
    with_apart = larger | {name: collect(name, *folders) for name in _apart(preset)}
    choices = collect(CHOICES, *folders) if preset in PUBLISHED else {}
    choices = choices if preset != CHOICES else {}
    wider = collect(WIDER, *folders)
    beside = with_apart | ({CHOICES: choices} if choices else {})
    beside |= {WIDER: wider} if wider and preset in PUBLISHED else {}

    shown = beside | ({CHOICES: needed(choices)} if choices else {}) | {preset: results}
    whole = not choices or all(label in results for label in READINGS)
    made = {
        "paper_table1": paper_table1(), "paper_table2": paper_table2(),
        "badge": "".join(badge(*each) for each in shown.items()),
        "headline": headline(preset, results, with_apart),
        "verdicts": verdicts(preset, results, with_apart),
        "claims": claims(preset, results, with_apart),
        "table1": table1(preset, results, larger, {WIDER: wider} if preset in PUBLISHED else None),
        "table2": table2(preset, results, larger),
        "readings": readings(preset, results) if whole else readings(CHOICES, choices),
        "ablations": ablations(preset, results, {CHOICES: choices} if choices else None),
        "settings": settings(preset, results, beside), "costs": costs(preset, results, beside),
        "provenance": provenance(preset, results, beside),
        "follow_up": follow_up(others), "speed": speed(measured), "precision": precision(measured),
        "load": load(measured), "curves": curves(measured),
        "preset_costs": preset_costs({name: collect(name, *folders) for name in shipped()}),
        "table2_wider": table2(WIDER, wider, name=f"our-table2-{WIDER}"),
        "more_images_wider": more_images_page(wider, [AS_RELEASED], "at", WIDER, measured)}
    for name in PAGES:
        with atomic(Path(out) / f"{name}.md") as temporary:
            temporary.write_text(made[name])
    if lines := ascent(measured):
        with atomic(Path(out) / "precision.svg") as temporary:
            plots.ascent(lines).savefig(temporary, format="svg")
    with atomic(Path(out) / FOREST) as temporary:
        picture(preset, results, with_apart).savefig(temporary, format="svg")
    extra = Path(out) / "extra"
    extra.mkdir(exist_ok=True)
    for name, found in {**others, **beside, WIDER: wider, preset: results}.items():
        copy_files(extra, name, found)
