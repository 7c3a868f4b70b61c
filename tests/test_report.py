"""Intervals, tests and verdicts on hand-made flags, and tables that hold only what files say."""

import copy
import re

import numpy as np
import pytest
from scipy import stats

from frlib import report, verdict
from frlib.results import score, write_json

pytestmark = pytest.mark.filterwarnings("error")
N, AA = 200, 100
NAMES = {"headline": "headline", "claims": "claims", "table1": "our-table1",
         "table2": "our-table2", "readings": "readings", "provenance": "provenance",
         "paper_table1": "paper-table1", "paper_table2": "paper-table2", "speed": "speed",
         "follow_up": "follow-up"}
OURS = {"headline", "claims", "table1", "table2", "readings", "provenance"}  # of a preset's results
MADE = {"commit": "0123456789abcdef", "dirty": True, "versions": {"torch": "2.11.0"},
        "device": "CPU Model(R) @ 2 GHz, 2 cores", "threads": 1, "date": "2026-01-02 03:04:05"}
STATEMENTS = {s["id"]: s for s in verdict.paper()["statements"]}


@pytest.fixture(autouse=True)
def current(monkeypatch):
    monkeypatch.setattr(report, "current_code", lambda: {"train": "new", "judge": "same"})


def first(count, total=N):
    """Flags of which the first `count` are right."""
    return score(np.arange(total) < count)


def result(label, *, pgd20=100, last=100, aa=50, clean=150, roughness=1.0, preset="mini", seed=0):
    return {"preset": preset, "label": label, "seed": seed,
            "scores": {"clean": first(clean), "fgsm": first(pgd20 + 5), "pgd20": first(pgd20),
                       "cw": first(pgd20 - 5), "aa": first(aa, AA)},
            "last": {"clean": first(clean), "pgd20": first(last)},
            "roughness": [roughness + i / 100 for i in range(16)],
            "history": [{"epoch": 1, "loss_ce": 2.0, **({"loss_fr": 0.123} if "fr" in label
                                                        else {})}],
            "config": {"model": "resnet8-32", "dataset": "cifar10"},
            "data": {"test": "abc"}, "seconds": {"train": 4000.0, "judge": 65.0},
            "warnings": ["w"], "provenance": MADE, "train_provenance": MADE,
            "code": {"train": "old", "judge": "same"}}


def rows(natural_clean, natural_pgd, robust_clean, robust_pgd):
    """table1 of a figures file: correct images at no filter and at every other bandwidth."""
    def row(counts):
        return {str(b): first(counts[b != 32]) for b in (32, 28, 24, 20, 16)}
    return {"natural": {"clean": row(natural_clean), "pgd20": row(natural_pgd)},
            "at": {"clean": row(robust_clean), "pgd20": row(robust_pgd)}}


def as_paper(preset="mini"):
    """Results in which every claim on our own rows holds beyond doubt."""
    made = [result("natural", roughness=5.0), result("at", pgd20=80, last=40, aa=30, clean=160,
                                                     roughness=3.0),
            result("at-swa", pgd20=85, last=84, aa=50, roughness=1.0),
            result("at-fr", pgd20=110, last=80, aa=60, clean=120),
            result("at-fr-swa", pgd20=120, last=120, aa=80, clean=125)]
    made = {r["label"]: {0: {**r, "preset": preset}} for r in made}
    made["figures"] = {0: {"preset": preset, "seed": 0, "full_scale": None, "provenance": MADE,
                           "seconds": 3.0, "code": "x",
                           "table1": rows((180, 100), (0, 60), (150, 148), (90, 91))}}
    return made


def store(results, folder, preset="mini"):
    for label, seeds in results.items():
        for seed, content in seeds.items():
            write_json(folder / preset / label / f"seed{seed}.json", content)
    return folder


@pytest.fixture
def good(tmp_path):
    return report.collect("mini", store(as_paper(), tmp_path))


@pytest.mark.parametrize("correct, total, low, high", [
    (0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (50, 100, 0.3983, 0.6017),
    (1, 1, 0.025, 1.0), (9_500, 10_000, 0.9455, 0.9542)])
def test_interval_is_clopper_pearson(correct, total, low, high):
    assert verdict.interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("correct, total", [(-1, 10), (11, 10), (0, 0)])
def test_interval_refuses_what_is_no_accuracy(correct, total):
    with pytest.raises(ValueError, match=f"{correct} correct of {total}"):
        verdict.interval(correct, total)


@pytest.mark.parametrize("better, worse", [(0, 0), (1, 0), (5, 5), (10, 2), (40, 60), (2000, 2200)])
def test_sign_flip_of_one_seed_is_exact_mcnemar(better, worse):
    differences = np.array([1] * better + [-1] * worse + [0] * 30)
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert verdict.sign_flip(differences) == pytest.approx(expected)


def test_sign_flip_counts_every_choice_of_signs():
    differences = np.array([2, 2, 1, -1, 3, 0])
    sums = [sum(d if k >> i & 1 else -d for i, d in enumerate(differences))
            for k in range(2 ** len(differences))]
    expected = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert verdict.sign_flip(differences) == pytest.approx(expected)


def test_claims_that_hold_are_reproduced(good):
    verdicts = {i: verdict.verdict(s, good) for i, s in STATEMENTS.items()}
    rivals = {"C12", "C13", "C14"}
    assert {i for i, v in verdicts.items() if v == "reproduced"} == set(STATEMENTS) - rivals
    assert {verdicts[i] for i in rivals} == {"not run"}


@pytest.mark.parametrize("ident, changes", [
    ("C6", {"at": {"pgd20": 180}}), ("C8", {"at": {"clean": 60}}),
    ("C7", {"at-fr": {"aa": 5}}), ("C11", {"at-swa": {"aa": 99}}),
    ("C15", {"at-swa": {"pgd20": 150, "last": 50}}), ("C16", {"at-fr": {"last": 170}}),
    ("C5", {"natural": {"roughness": 0.1}})])
def test_the_opposite_beyond_chance_is_not_reproduced(good, ident, changes):
    for label, values in changes.items():
        good[label][0] = result(label, **values)
    assert verdict.verdict(STATEMENTS[ident], good) == "not reproduced"


@pytest.mark.parametrize("ident, changes", [
    ("C6", {"at": {"pgd20": 108}}), ("C6", {"at": {"pgd20": 110}}), ("C6", {"at": {"pgd20": 112}}),
    ("C11", {"at-swa": {"aa": 79}}), ("C16", {"at-fr": {"last": 100}}),
    ("C18", {"at": {"roughness": 1.01}})])
def test_what_chance_explains_is_within_noise(good, ident, changes):
    good["at-fr"][0] = result("at-fr", pgd20=110 if ident == "C6" else 100)
    for label, values in changes.items():
        good[label][0] = result(label, **values)
    assert verdict.verdict(STATEMENTS[ident], good) == "within noise"


def test_pairing_decides_what_intervals_alone_would_not(good):
    good["at"][0]["scores"]["pgd20"], good["at-fr"][0]["scores"]["pgd20"] = first(100), first(110)
    assert verdict.interval(100, N)[1] > verdict.interval(110, N)[0]
    comparison, = verdict.evidence(STATEMENTS["C6"], good)
    assert comparison["p"] == pytest.approx(2 / 2 ** 10)
    assert (comparison["left"], comparison["right"]) == pytest.approx((55, 50))
    assert verdict.verdict(STATEMENTS["C6"], good) == "reproduced"


@pytest.mark.parametrize("natural, robust, expected", [
    ((0, 60), (90, 91), "reproduced"), ((60, 0), (90, 91), "reproduced"),
    ((60, 0), (90, 110), "reproduced"), ((60, 59), (90, 40), "not reproduced"),
    ((60, 61), (40, 90), "not reproduced"), ((60, 100), (90, 50), "within noise"),
    ((60, 0), (90, 145), "within noise")])
def test_change_compares_sizes_whatever_their_signs(good, natural, robust, expected):
    good["figures"][0]["table1"] = rows((180, 100), natural, (150, 148), robust)
    assert verdict.verdict(STATEMENTS["C4"], good) == expected


def test_filter_claims_in_both_directions(good):
    good["figures"][0]["table1"] = rows((180, 182), (60, 0), (150, 148), (90, 91))
    assert verdict.verdict(STATEMENTS["C1"], good) == "not reproduced"
    assert verdict.verdict(STATEMENTS["C2"], good) == "within noise"


def test_several_seeds_count_an_image_once(good):
    good["at"][0]["scores"]["pgd20"], good["at-fr"][0]["scores"]["pgd20"] = first(106), first(110)
    for label in ("at", "at-fr"):
        good[label] |= {seed: copy.deepcopy(good[label][0]) for seed in (1, 2)}
    comparison, = verdict.evidence(STATEMENTS["C6"], good)
    assert comparison["p"] == pytest.approx(2 / 2 ** 4)  # four images, not twelve
    assert report.bars(good)["at-fr"]["PGD-20"] == pytest.approx((0.55, *verdict.interval(110, N)))
    del good["at"][0], good["at-fr"][1], good["at-fr"][2]
    assert verdict.verdict(STATEMENTS["C6"], good) == "not run"  # no seed in common


def test_other_test_data_are_no_evidence(good):
    good["at"][0]["data"]["test"] = "other"
    with pytest.raises(ValueError, match="C6.*different test data"):
        verdict.verdict(STATEMENTS["C6"], good)


def test_missing_attack_or_folder_is_not_run(good):
    del good["at"][0]["scores"]["aa"]
    assert verdict.verdict(STATEMENTS["C7"], good) == "not run"
    assert verdict.verdict(STATEMENTS["C6"], good) == "reproduced"
    assert report.collect("mini", "nowhere") == {}
    assert {verdict.verdict(s, {}) for s in STATEMENTS.values()} == {"not run"}


def test_first_folder_wins_per_label_and_seed(tmp_path):
    fresh = store({"at": {0: result("at", pgd20=10)}}, tmp_path / "fresh")
    published = store({"at": {0: result("at"), 1: result("at")}}, tmp_path / "published")
    found = report.collect("mini", fresh, published)["at"]
    assert [found[k]["scores"]["pgd20"]["correct"] for k in (0, 1)] == [10, 100]
    assert found[0]["file"].endswith("fresh/mini/at/seed0.json")


@pytest.mark.parametrize("name, text, message", [
    ("seed0.json", '{"scores": {', "seed0.json: damaged JSON"),
    ("seed0.json", "{}", "seed0.json: not a result file"), ("seed-x.json", "{}", "seed<number>")])
def test_damaged_files_are_named(tmp_path, name, text, message):
    (tmp_path / "mini" / "at").mkdir(parents=True)
    (tmp_path / "mini" / "at" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        report.collect("mini", tmp_path)


@pytest.mark.parametrize("preset, made", [("mini", True), ("smoke", True), ("mini", False),
                                          ("smoke", False)])
def test_pages(tmp_path, preset, made):
    if made:
        store(as_paper(preset), tmp_path, preset)
    report.write_pages(tmp_path / "out", preset, tmp_path)
    assert {p.stem for p in (tmp_path / "out").iterdir()} == set(NAMES)
    for stem, name in NAMES.items():
        text = (tmp_path / "out" / f"{stem}.md").read_text()
        assert re.search(f"^```{{list-table}} [^`\n]+\n:name: {name}\n", text, re.M)
        assert ("smoke-mark" in text) == (preset == "smoke" and stem in OURS)
        for table in text.split("```{list-table}")[1:]:
            assert len({len(row) for row in cells(table)}) == 1
        if stem in ("speed", "follow_up") or not made and stem in OURS:
            assert "not run" in text
        elif stem in OURS - {"provenance"}:
            assert "resnet8-32 on cifar10, the first 200 test images, 100 of them" in text


def cells(text):
    return [re.findall(r"(?:^\* -|^  -) (.*)", row, re.M)
            for row in re.split(r"^(?=\* - )", text, flags=re.M)[1:]]


def test_paper_tables_equal_claims():
    head, *body = cells(report.paper_table2())
    table = verdict.paper()["table2"]
    assert head[1:] == list(table["column_titles"].values())
    assert {row[0]: list(map(float, row[1:])) for row in body} == {
        table["row_titles"][m]: list(v.values()) for m, v in table["rows"].items()}
    _, *body = cells(report.paper_table1())
    assert [list(map(float, row[2:])) for row in body] == [
        list(row["accuracy"].values()) for row in verdict.paper()["table1"]["rows"]]


def test_ours_stands_beside_the_paper(good):
    _, *body = cells(report.table2("mini", good))
    ours = dict(zip([row[0] for row in body[::2]], body[1::2], strict=True))
    assert ours["AT"] == ["", "ours", "80.0 [73.8, 85.3]", "42.5 [35.6, 49.7]",
                          "40.0 [33.2, 47.1]", "37.5 [30.8, 44.6]", "30.0 [21.2, 40.0]"]
    assert ours["TRADES"][2:] == ["not run"] * 5
    assert set(verdict.paper()["table2"]["row_titles"].values()) | {"Natural"} == set(ours)
    page = report.table2_html("mini", good)
    assert "C&amp;W" in page and "30.0 [21.2, 40.0]" in page and "smoke-mark" not in page
    assert report.table2_html("smoke", good).startswith(report.SMOKE)


def test_table1_readings_and_claims(good):
    _, *body = cells(report.table1("mini", good))
    assert len(body) == 10 and body[2][1:3] == ["ResNet-18", "not run"]
    assert body[1][2] == "90.0 [85.0, 93.8]" and body[-1][2] == "45.0 [38.0, 52.2]"
    good["figures"][0]["full_scale"] = rows((180, 9), (0, 60), (1, 1), (1, 1))["natural"]
    assert "first 200 test images of CIFAR-10" in report.table1("mini", good)
    _, *body = cells(report.readings("mini", good))
    assert [row[-1] for row in body] == ["—", "0.123", "not run", "—", "0.123", "not run"]
    body = {row[0]: row for row in cells(report.claims("mini", good))[1:]}
    assert body["C6"][2:] == ["59.49 > 55.01", "55.0 > 40.0 (p < 0.001; 200 images)",
                              "**reproduced**"]
    assert body["C15"][2] == "about 5 > 0" and body["C5"][2] == "—"
    assert body["C11"][3].startswith("AT: 80.0 > 30.0") and "AT-FR: 80.0 > 60.0" in body["C11"][3]


def test_provenance_tells_when_code_has_changed(good):
    body = {row[0]: row for row in cells(report.provenance("mini", good))[1:]}
    assert set(body) == {f"`{label}`" for label in good}
    assert body["`at`"][1:11] == ["0", "0123456+dirty", "CPU Model(R) @ 2 GHz, 2 cores", "1",
                                  "2.11.0", "67 min", "65 s", "2026-01-02 03:04:05", "1",
                                  "train code since changed"]
    good["at"][0]["code"]["train"] = "new"
    assert "as now" in cells(report.provenance("mini", good))[1]


def test_bars_leave_out_what_was_not_run(good):
    del good["at"][0]["scores"]["aa"]
    table = report.bars(good)
    assert list(table) == ["at", "at-swa", "at-fr", "at-fr-swa", "natural"]
    assert list(table["at"]) == ["Clean", "FGSM", "PGD-20", "C&W"]
    assert table["at-fr"]["PGD-20"] == pytest.approx((0.55, *verdict.interval(110, N)))
    assert report.bars({}) == {}


def test_claims_at_the_end_of_a_notebook():
    text = report.claims_html("smoke", {}, ["C6"])
    assert "C6" in text and "C7" not in text and "not run" in text and "smoke-mark" in text


def test_the_follow_up_says_not_run_until_it_is():
    assert "not run" in report.follow_up({})
    text = report.follow_up({"at-sar": {0: result("at-sar") | {"file": "x.json"}}})
    assert "`at-sar`" in text and "{list-table}" in text and "not comparable" not in text
    assert ":name: follow-up" in text and ":name: provenance-follow-up" in text
