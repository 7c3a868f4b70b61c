"""No page states a number that neither the paper nor a result holds; claims.yml is consistent."""

import json
import re
from itertools import permutations
from pathlib import Path

import pytest
import yaml

from frlib.publish import book_tables, claims, comparison
from frlib.publish.claims import paper
from frlib.publish.collected import collect
from frlib.publish.statistics import paired_interval
from frlib.run import config
from frlib.run.files import read_json, unpack_flags
from frlib.run.settings import FIELDS

REPO = Path(__file__).resolve().parents[1]
PAGES = [*sorted((REPO / "book").glob("*.md")), *sorted((REPO / "notebooks").glob("*.ipynb"))]
PRESETS = sorted((REPO / "notebooks" / "presets").glob("*.yaml"))
# what looks like an accuracy: a share in percent or points, or any decimal number in prose
NUMBER = re.compile(r"(?<![\w./-])(?:\d+(?:\.\d+)?(?=\s?%|\s(?:percent|points?)\b)"
                    r"|\d+\.\d+(?![\w./]*\d))")
SKIPPED = re.compile("|".join([
    r"<!--.*?-->",                             # comments
    r"^(`{3,})(?:\{math\}|[a-z]*)\n.*?^\1$",   # code and formulas; a table is prose
    r"^[`:]{3,}(?:\{[a-z-]+\})?", r"^:[\w-]+:[^\n]*$",  # directives and their options
    r"\{math\}`[^`]*`", r"\$[^$]*\$",          # formulas
    r"`[^`]*`", r"https?://\S+"]), re.M | re.S)  # code, names of references, addresses
ALLOWED = {  # page, number: why neither a result nor claims.yml holds it
    ("*", "95"): "the level of the intervals",
    ("ledger.md", "1.8"): "a version of PyTorch",
    ("paper.md", "1.6"): "follows from the definitions: the ratio of the two readings for noise",
    ("paper.md", "0.7"): "the standard error of a difference on the table's 10,000 images",
    ("results.md", "0.004"): "the p of a paired test, released against AT under PGD-20",
    ("10_is_it_the_spectrum.ipynb", "0.04"): "p of paired tests, in the CSV files of its tables",
    ("small_runs.md", "0.04"): "p of paired tests, in its tables",
    ("log.md", "1.7"): "what was asked of a speed measurement, not what it gave",
    ("log.md", "1.8"): "likewise",
    **{("log.md", number): "of overfit in float32, whose results stand at commit 8a882c0"
       for number in ("20.7", "20.8", "23.9", "26.6", "55.9", "56.6")},
}


def prose(path: Path) -> str:
    """The text of a page, or of a notebook's markdown cells."""
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]
                       if cell["cell_type"] == "markdown")


def numbers(content) -> set[float]:
    """Every number in a nest of dicts and lists, keys included."""
    if isinstance(content, dict):
        return numbers([*content, *content.values()])
    if isinstance(content, list | tuple):
        return set().union(*map(numbers, content))
    return {float(content)} if isinstance(content, int | float) else set()


def accuracies(content) -> set[float]:
    """Every {"correct", "total"} in a result, in percent."""
    if not isinstance(content, dict):
        return set()
    own = {100 * content["correct"] / content["total"]} if "correct" in content else set()
    return own.union(*map(accuracies, content.values()))


def known(log: bool = False) -> set[float]:
    """What a page may state: the paper's figures, accuracies and losses of results, means,
    differences, how strong each regulariser is, and where a curve ends.

    log: and means of the two seeds that overfit had when older entries of the log were written.
    """
    folder = REPO / "results"
    stored = [read_json(path) for path in folder.glob("*/*/seed*.json")]
    values = numbers(paper()).union(*map(accuracies, stored))
    values |= {row[loss] for result in stored for row in result.get("history", ())
               for loss in ("loss_ce", "loss_fr") if loss in row}
    for file in (REPO / "benchmarks").glob("strength*.json"):
        strength = read_json(file)
        values |= numbers([strength["terms"], strength["ratios"]])
    for file in (REPO / "benchmarks").glob("autoattack-*.json"):
        values |= more_images(read_json(file)["networks"])
    for preset in read_json(REPO / "benchmarks" / "curves.json")["presets"].values():
        ends = [run["history"][-1] for seeds in preset["runs"].values() for run in seeds.values()]
        values |= {100 * share for row in ends for name, share in row.items()
                   if name.endswith(("_clean", "_pgd"))}
    values |= {abs(left - right) for left, right in
               (statement["paper"] for statement in paper()["statements"] if statement["paper"])}
    rows = list(paper()["table2"]["rows"].values())  # differences between rows, or two attacks
    values |= {abs(row[c] - other[c]) for row in rows for other in rows for c in row}
    values |= {row["pgd20"] - row["aa"] for row in rows}
    presets = [collect(path.name, folder) for path in folder.iterdir()]
    if log:
        presets += [first_seeds(found, 2) for found in presets]
    # older entries of the log are of the first thousand images, on which mini was judged then
    for results in [*presets, *(comparison.first_images(found, 1000) for found in presets),
                    *(comparison.at_checkpoint(found, which) for found in presets
                      for which in ("best", "last"))]:
        values |= {100 * share for row in book_tables.bars(results).values()
                   for share, *_ in row.values()}
        values |= {abs(difference) for row in book_tables.effects(results).values()
                   for difference, *_ in row.values()} | gains(results)
    return values


def test_autoattack_on_more_images_is_of_the_committed_weights():
    for name, folder, seed in (("autoattack-mini", "mini", 0),
                               ("autoattack-resnet18-seed1", "resnet18", 1)):
        networks = read_json(REPO / "benchmarks" / f"{name}.json")["networks"]
        assert "at" in networks
        for label, found in networks.items():
            result = read_json(REPO / "results" / folder / label / f"seed{seed}.json")
            assert found["checkpoint_sha256"] == result["checkpoint_sha256"], label


def more_images(networks: dict) -> set[float]:
    """AutoAttack's accuracies on further images, what they differ by, and its interval."""
    flags = [unpack_flags(found["flags"], found["total"]).astype(int)
             for found in networks.values()]
    found = accuracies(networks)
    for left, right in permutations(flags, 2):
        found |= {100 * end for end in (*paired_interval(left - right), (left - right).mean())}
    return found


def first_seeds(results: dict, count: int) -> dict:
    """The same results without those of further seeds."""
    return {label: {seed: result for seed, result in seeds.items() if seed < count}
            for label, seeds in results.items()}


def gains(results: dict) -> set[float]:
    """What a result has over AT, in points: with each seed that both have, and in their mean."""
    found = set()
    for seeds in results.values():
        shared = [(result, results["at"][seed]) for seed, result in seeds.items()
                  if seed in results.get("at", {})]
        for metric in comparison.METRICS:
            pairs = [(share(ours, metric), share(theirs, metric)) for ours, theirs in shared]
            each = [ours - theirs for ours, theirs in pairs if None not in (ours, theirs)]
            found |= {abs(gain) for gain in (*each, sum(each) / max(1, len(each)))}
    return found


def share(result: dict, metric: str) -> float | None:
    """An accuracy in percent; None where it was not run."""
    score = result.get("scores", {}).get(metric, {})
    return 100 * score["correct"] / score["total"] if "correct" in score else None


def unfounded(text: str, values: set[float], page: str = "") -> list[str]:
    """The numbers of a text that are none of the values, rounded, and that nothing allows."""
    def holds(number):
        half = 0.5 * 10 ** -len(number.partition(".")[2])
        return any(abs(value - float(number)) <= half + 1e-9 for value in values)

    return [number for number in NUMBER.findall(SKIPPED.sub("", text))
            if not holds(number) and not {(page, number), ("*", number)} & ALLOWED.keys()]


@pytest.fixture(scope="module")
def values():
    return known()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_states_no_number_of_its_own(path, values):
    found = unfounded(prose(path), known(log=True) if path.name == "log.md" else values, path.name)
    assert not found, f"{path}: {found}: glue or include what a run gave, or say why in ALLOWED"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_expects_the_accuracies_that_were_measured(path, values):
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    shares = " ".join(re.findall(r"\d+(?:\.\d+)? %", header))  # minutes are no accuracies
    assert not unfounded(shares, values), path


MADE_UP = """AT reaches 84.62 %, rounded 84.6 %.
```{list-table} A table is prose: 12.34
* - 23.45
  - **34.5 %**, 45.6 percent, 56.78
```
```{math}
0.11
```
```python
lr = 0.22
```
PyTorch `0.33`, {math}`0.44`, $0.55$, release 2.11.0, [arXiv](https://arxiv.org/abs/2212.12732),
{cite:p}`x0.66`, 67 images. About 78 % of them, 8.9 points less."""


def test_a_made_up_number_is_found(tmp_path, values):
    assert {94.56, 54.35, 3.87, 0.9} <= values and unfounded("99.99 %", values)
    cells = [{"cell_type": "markdown", "source": ["It is\n", "12.34 %."]},
             {"cell_type": "code", "source": ["x = 23.45"]}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert unfounded(prose(tmp_path / "a.ipynb"), set()) == ["12.34"]
    assert unfounded(MADE_UP, {84.62, 56.78}) \
        == ["12.34", "23.45", "34.5", "45.6", "78", "8.9"]
    assert unfounded("It is 84.63 %, or 85.", {84.62}) == ["84.63"]
    assert unfounded("PyTorch 1.8, 95 %", set(), "ledger.md") == []
    assert unfounded("PyTorch 1.8, 95 %", set(), "paper.md") == ["1.8"]


def test_the_figures_of_a_statement_are_those_of_the_papers_tables():
    rows = {(row["model"], row["input"]): row["accuracy"] for row in paper()["table1"]["rows"]}
    table2, checked = paper()["table2"]["rows"], 0
    for statement in paper()["statements"]:
        test = statement["test"]
        if statement["where"] == "Table 2":
            sides = [claims.in_table2(table2[m], test["metric"])
                     for m in (test["greater"], *test["than"])]
            sides = [sides[0], max(sides[1:])]
        elif test["kind"] == "bandwidths":
            row = rows[test["model"], test["input"]]
            sides = [row[test["greater_at_bandwidth"]], row[test["than_at_bandwidth"]]]
        elif test["kind"] == "change":
            sides = [abs(row[test["from_bandwidth"]] - row[test["to_bandwidth"]])
                     for row in (rows[test[side], test["input"]] for side in ("greater", "than"))]
        elif test["kind"] == "explained":
            clean = rows["natural", "clean"]
            sides = [clean[32] - clean[20], clean[20] - rows["robust", "clean"][32]]
        elif statement["where"] == "Table 1":
            models = {method: model for model, method in claims.TABLE1_METHOD.items()}
            sides = [rows[models[method], test["metric"]][32]
                     for method in (test["greater"], *test["than"])]
        else:
            assert statement["paper"] is None or statement["read_off"]
            continue
        assert statement["paper"] == pytest.approx(sides), statement["id"]
        assert sides[0] > sides[1]
        checked += 1
    assert checked == 17


def test_every_row_of_the_ledger_is_measured_or_has_no_setting():
    text = (REPO / "book" / "ledger.md").read_text()
    table = text[text.index(":name: ledger-table"):]
    rows = re.findall(r"^\* - (.*)$", table[:table.index("\n```")], re.M)[1:]
    assert list(dict.fromkeys(entry["detail"] for entry in paper()["open_details"])) \
        == [row for row in rows if row != "Running the code"]


def test_a_measured_detail_is_one_change_to_its_base():
    runs = []
    for entry in paper()["open_details"]:
        assert ("run" in entry) == ("base" in entry), entry
        if entry.get("scores") == "last":
            assert entry["run"] == entry["base"]
        elif "run" in entry:
            runs.append(entry["run"])
            base, at, change = entry["run"].partition("@")
            assert (base, at) == (entry["base"], "@") and "," not in change
            assert change.partition("=")[0] in FIELDS
            assert config.load("small", **config.parse_label(entry["run"])).label == entry["run"], \
                "the setting differs from the preset's, and is written as a label has it"
    preset = yaml.safe_load((REPO / "notebooks" / "presets" / "small.yaml").read_text())
    assert set(preset["settings"].get("ablations", [])) <= set(runs)


@pytest.mark.parametrize("preset", [path.name for path in (REPO / "results").iterdir()])
def test_every_claim_has_a_verdict_at_every_preset(preset):
    results = collect(preset, REPO / "results")
    for statement in paper()["statements"]:
        assert claims.verdict(statement, results) in claims.VERDICTS


def test_a_claim_needs_one_that_says_what_is_missing_without_it():
    statements = {s["id"]: s for s in paper()["statements"]}
    needed = {s["needs"] for s in statements.values() if "needs" in s}
    assert needed == {i for i, s in statements.items() if "absent" in s}
    assert not any(len(s.get("headline", "")) > 80 for s in statements.values())
