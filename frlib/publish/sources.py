"""Where results come from: runs, machines, cost, and whether today's code would give them.

Collected results are what `collected.collect` gives: {label: {seed: result}}. Every result that
a page shows is copied beside the pages, so that a link opens it without a network.
"""

from __future__ import annotations

import html
import shutil
from pathlib import Path
from urllib.parse import quote

from frlib.publish.claims import NOT_RUN
from frlib.publish.markup import NONE, SMOKE, escaped, myst_table
from frlib.run import evaluate_run
from frlib.run.config import load
from frlib.run.cost import duration
from frlib.run.files import atomic
from frlib.run.labels import run_label
from frlib.run.places import project_root
from frlib.run.presets import shipped
from frlib.run.provenance import stale

FILES = "result-files"  # the folder of the built book that holds the copies


def address(preset: str, label: str, seed: int, up: str = "..") -> str:
    """The link from a page to the copy of a result; `up` leads from the page to the book's root."""
    return quote(f"{up}/{FILES}/{preset}/{label}/seed{seed}.json")


def copy_files(out: Path, preset: str, results: dict) -> None:
    """Copy the results of a preset to where `address` points, below `out`."""
    for label, seed, result in _each(results):
        with atomic(out / FILES / preset / label / f"seed{seed}.json") as temporary:
            shutil.copyfile(project_root() / result["file"], temporary)


def badge(preset: str, results: dict, up: str = "..", ran: str = "") -> str:
    """A fold of HTML: what made these results, how long it took, and a link to each file.

    It says so when today's code would give other numbers, or when a working tree with changes of
    its own ("+dirty") made them. `up` leads from the page to the root of the built book. `ran`: the
    preset that the cells of the page run, told where it is another.
    """
    mark = SMOKE if preset == "smoke" else ""
    if not results:
        return f'{mark}<p class="origin">Preset <strong>{preset}</strong>: {NOT_RUN}.</p>\n'
    each = _each(results)
    made = [part for *_, result in each for part in _made(result)]
    dates = sorted({part["date"][:10] for part in made if "date" in part})
    days = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""
    spent = sum(seconds for part in ("train", "judge")
                for _, seconds in _times(results, part).values())
    seeds = sorted({seed for _, seed, _ in each})
    facts = [f"Preset <strong>{preset}</strong>",
             f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
             html.escape(_unique(part.get("device", NONE) for part in made)),
             f"commit {_unique(map(_commit, made))}", f"{duration(spent)} of computing", days]
    links = ", ".join(_links(preset, label, results[label], up) for label in results)
    old = dict.fromkeys(reason for *_, result in each for reason in stale(result))
    aged = ", ".join(dict.fromkeys(label for label, _, result in each if stale(result)))
    changed = "; ".join(reason.partition(": ")[2] or reason for reason in old)
    warning = f'<p class="origin"><a class="stale" href="{up}/book/provenance.html">' \
              f'To be run again: {html.escape(aged)}, since today\'s code gives other numbers ' \
              f'({html.escape(changed)}).</a></p>' if old else ""
    other = f", while the cells of this page run {html.escape(ran)}" \
        if ran not in ("", preset) else ""
    return (f'{mark}{warning}<details class="origin"><summary>Where these numbers come from: '
            f'preset {preset}{other}</summary>'
            f'<p class="origin">{" · ".join(filter(None, facts))} · {links}</p></details>\n')


def _links(preset: str, label: str, seeds, up: str) -> str:
    """The label as a link; with several seeds, the label and a link for each."""
    text = html.escape(label)
    if len(seeds) == 1:
        return f'<a href="{address(preset, label, *seeds, up)}">{text}</a>'
    each = (f'<a href="{address(preset, label, seed, up)}">{seed}</a>' for seed in seeds)
    return f"{text} ({', '.join(each)})"


def provenance(preset: str, results: dict, larger: dict | None = None) -> str:
    """A table of `runs` for the preset, and for each of `larger`, {preset: results}."""
    others = [runs(name, found, f"provenance-{name}") for name, found in (larger or {}).items()
              if found]
    return "\n".join([runs(preset, results), *others])


def runs(preset: str, results: dict, name: str = "provenance") -> str:
    """One row per result file: what made it, when, and whether today's code would give it."""
    head = ["Result", "Seed", "Numbers", "Training", "In", "Judging", "Warnings", "Date (UTC)",
            "Commit", "torch", "Threads", "Device"]
    rows = [_row(preset, label, seed, result) for label, seed, result in _each(results)]
    return myst_table(preset, name, f"The run behind each result of preset {preset}.", head,
                      rows or [[NOT_RUN] + [NONE] * (len(head) - 1)])


def _row(preset, label, seed, result) -> list:
    made = _made(result)  # of the training, then of the judging
    last = made[-1] if made else {}
    seconds, state = _seconds(result), "; ".join(stale(result)) or "as now"
    took = [NONE if seconds.get(part) is None else duration(seconds[part])
            for part in ("train", "judge")]
    took.insert(1, result.get("update_precision") or NONE)
    return [f'<a href="{address(preset, label, seed)}">{escaped(label)}</a>', seed, state, *took,
            len(result.get("warnings", [])), last.get("date", NONE)[:10],
            _unique(map(_commit, made)) or NONE,
            _unique(part.get("versions", {}).get("torch", NONE) for part in made) or NONE,
            _unique(str(part.get("threads") or "all") for part in made) or NONE,
            escaped(_unique(part.get("device", NONE) for part in made) or NONE)]


def costs(preset: str, results: dict, larger: dict | None = None) -> str:
    """Time spent by the preset, and by each of `larger`, {preset: results}, on each device."""
    rows = []
    for name, found in {**(larger or {}), preset: results}.items():
        trained, judged = _times(found, "train"), _times(found, "judge")
        for device in dict.fromkeys(each for each, _ in [*trained.values(), *judged.values()]):
            training, judging = ([spent for used, spent in times.values() if used == device]
                                 for times in (trained, judged))
            rows.append([name, escaped(device), len(training), duration(sum(training)),
                         duration(max(training, default=0)), len(judging),
                         duration(sum(judging))])
    return myst_table(
        preset, "costs", "What the results cost, added up from their files.",
        ["Preset", "Device", "Trainings", "Time", "Longest", "Judgements", "Time"],
        rows or [[preset, NOT_RUN] + [NONE] * 5])


def preset_costs(collected: dict) -> str:
    """Hours behind the results of every preset, {preset: results}: what was run, by kind of device.

    A process has one device; results that a preset does not list (`ablations`) count too. A preset
    that cannot be read stands there with what is wrong with it.
    """
    rows = []
    for name, results in collected.items():
        try:
            settings = load(name)
        except ValueError as error:
            rows.append([f"`{name}`", escaped(str(error).removeprefix(f"{shipped()[name]}: ")),
                         *[NONE] * 3])
            continue
        listed = [label for run in settings.runs for label in evaluate_run.siblings(run)]
        there = sum(seed in results.get(label, {}) for label in listed for seed in settings.seeds)
        parts = [list(_times(results, part).values()) for part in ("train", "judge")]
        gpu = [spent for part in parts for device, spent in part if not device.startswith("CPU")]
        rows.append([f"`{name}`", f"{there} of {len(listed) * len(settings.seeds)}",
                     *(_hours([spent for _, spent in part]) for part in parts), _hours(gpu)])
    return myst_table(
        None, "preset-costs", "Hours of computing behind the results of each preset, added up from "
        "their files. The count is of the preset's own list; the hours hold its ablations, too, so "
        "they do not grow with that count.",
        ["Preset", "Results", "Training, h", "Judging, h", "Both, on a GPU, h"], rows)


def _hours(seconds: list[float]) -> str:
    return f"{sum(seconds) / 3600:.3g}" if seconds else "not measured"


def _times(results: dict, part: str) -> dict[tuple, tuple[str, float]]:
    """{(run, seed): (device, seconds)} of "train" or "judge", where a result says both.

    Methods that are read from one training count it once; and so do runs that went on from the
    same checkpoint the epochs before it, whose rows of the history are the same to the last digit.
    """
    times, counted = {}, set()
    for label, seed, result in _each(results):
        made = result.get("train_provenance" if part == "train" else "provenance")
        spent = _seconds(result).get(part)
        run = run_label(label) if part == "train" else label
        if not made or spent is None or (run, seed) in times:
            continue
        if part == "train":
            epochs = {(seed, *sorted(row.items())): row.get("seconds", 0)
                      for row in result.get("history", ())}
            spent -= sum(epochs[row] for row in epochs.keys() & counted)
            counted |= epochs.keys()
        device = f"{made.get('device', NONE)}, threads: {made.get('threads', NONE)}"
        times[run, seed] = (device, spent * made.get("processes", 1))
    return times


def _each(results: dict) -> list[tuple[str, int, dict]]:
    return [(label, seed, result) for label, seeds in results.items()
            for seed, result in seeds.items()]


def _made(result: dict) -> list[dict]:
    """The provenances of a result's training and of its judging, as far as it has them."""
    last = [result[key] for key in ("train_provenance", "provenance") if result.get(key)]
    return [part for made in last for part in [*made.get("earlier", []), made]]


def _seconds(result: dict) -> dict:
    """{"train": seconds, "judge": seconds}; figures hold one number, or none."""
    seconds = result.get("seconds")
    return seconds if isinstance(seconds, dict) else {"judge": seconds}


def _commit(made: dict) -> str:
    return made.get("commit", NONE)[:7] + ("+dirty" if made.get("dirty") else "")


def _unique(values) -> str:
    return ", ".join(dict.fromkeys(values))
