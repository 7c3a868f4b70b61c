"""Intervals, tests and verdicts on hand-made flags, and tables that hold only what files say."""

import copy
import re
from urllib.parse import unquote

import numpy as np
import pytest
from scipy import stats

from frlib.publish import (
    all_pages,
    book_tables,
    claims,
    claims_tables,
    first_page,
    markup,
    sources,
    statistics,
)
from frlib.publish.collected import collect
from frlib.run import config, evaluate_run, presets, provenance
from frlib.run.files import score, write_json

pytestmark = pytest.mark.filterwarnings("error")
N, AA = 200, 100
NAMES = {"claims": "claims", "table1": "our-table1",
         "table2": "our-table2", "readings": "readings", "provenance": "provenance",
         "paper_table1": "paper-table1", "paper_table2": "paper-table2", "speed": "speed",
         "precision": "precision-attacks",
         "follow_up": "follow-up-tiny-imagenet-40",
         "ablations": "ablations", "settings": "settings", "costs": "costs",
         "preset_costs": "preset-costs", "load": "load", "curves": "curves",
         "table2_wider": "our-table2-resnet18", "more_images_wider": "more-images-resnet18"}
OURS = {"claims", "table1", "table2", "readings", "ablations", "settings",
        "costs", "provenance"}  # of a preset's results
MADE = {"commit": "0123456789abcdef", "dirty": True, "versions": {"torch": "2.11.0"},
        "device": "CPU Model(R) @ 2 GHz, 2 cores", "threads": 1, "date": "2026-01-02 03:04:05"}
STATEMENTS = {s["id"]: s for s in claims.paper()["statements"]}


@pytest.fixture(autouse=True)
def current(monkeypatch):
    monkeypatch.setitem(provenance.NUMERICS, "train", 2)


def first(count, total=N):
    """Flags of which the first `count` are right."""
    return score(np.arange(total) < count)


def result(label, *, pgd20=100, last=100, aa=50, clean=150, roughness=1.0, preset="mini", seed=0):
    return {"preset": preset, "label": label, "seed": seed,
            "scores": {"clean": first(clean), "fgsm": first(pgd20 + 5), "pgd20": first(pgd20),
                       "cw": first(pgd20 - 5), "aa": first(aa, AA)},
            "last": {"clean": first(clean), "pgd20": first(last)},
            "roughness": [[roughness + i / 100] * 3 for i in range(16)],
            "history": [{"epoch": 1, "loss_ce": 2.0, **({"loss_fr": 0.123} if "fr" in label
                                                        else {})}],
            "config": {"model": "resnet8-32", "dataset": "cifar10", "train_size": 8000,
                       "curve_images": 300, "judge_images": 0, "aa_images": 100, "epochs": 15,
                       "batch_size": 64, "lr": 0.1, "schedule": "step", "milestones": [0.75, 0.9],
                       "momentum": 0.9, "weight_decay": 5e-4, "eps": 8 / 255, "steps": 3,
                       "step_size": 4 / 255, "fr_lambda": 0.1, "swa_start": 0.75},
            "data": {"test": "abc"}, "seconds": {"train": 4000.0, "judge": 65.0},
            "warnings": ["w"], "provenance": MADE, "train_provenance": MADE,
            "update_precision": "bfloat16",
            "numerics": {"train": 1, "judge": 1}}


def rows(natural_clean, natural_pgd, robust_clean, robust_pgd):
    """table1 of a figures file: correct images at no filter and at every other bandwidth."""
    def row(counts):
        return {str(b): first(counts[b != 32]) for b in (32, 28, 24, 20, 16)}
    return {"natural": {"clean": row(natural_clean), "pgd20": row(natural_pgd)},
            "at": {"clean": row(robust_clean), "pgd20": row(robust_pgd)}}


def as_paper(preset="mini"):
    """Results in which every claim on our own rows holds beyond doubt."""
    made = [result("natural", clean=190, pgd20=2, roughness=5.0),
            result("at", pgd20=80, last=40, aa=30, clean=160, roughness=3.0),
            result("at-swa", pgd20=85, last=84, aa=50, roughness=1.0),
            result("at-fr", pgd20=110, last=80, aa=60, clean=120),
            result("at-fr-swa", pgd20=120, last=120, aa=80, clean=125)]
    made = {r["label"]: {0: {**r, "preset": preset}} for r in made}
    made["figures"] = {0: {"preset": preset, "seed": 0, "full_scale": None, "provenance": MADE,
                           "seconds": 3.0, "numerics": {"figures": 1},
                           "table1": rows((180, 100), (0, 60), (150, 148), (90, 91))}}
    made["lens"] = {0: {"seed": 0, "provenance": MADE, "numerics": {"lens": 1}, "scores": {},
                        "shares": {"natural": [[0.3, 0.3, 0.4]] * 20, "at": [[0.7, 0.2, 0.1]] * 20},
                        "preset": preset}}
    return made


def store(results, folder, preset="mini"):
    for label, seeds in results.items():
        for seed, content in seeds.items():
            write_json(folder / preset / label / f"seed{seed}.json",
                       {**content, "preset": preset, "seed": seed})
    return folder


@pytest.fixture
def good(tmp_path):
    return collect("mini", store(as_paper(), tmp_path))


@pytest.mark.parametrize("correct, total, low, high", [
    (0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (50, 100, 0.3983, 0.6017),
    (1, 1, 0.025, 1.0), (9_500, 10_000, 0.9455, 0.9542)])
def test_interval_is_clopper_pearson(correct, total, low, high):
    assert statistics.interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("correct, total", [(-1, 10), (11, 10), (0, 0)])
def test_interval_refuses_what_is_no_accuracy(correct, total):
    with pytest.raises(ValueError, match=f"{correct} correct of {total}"):
        statistics.interval(correct, total)


@pytest.mark.parametrize("better, worse", [(0, 0), (1, 0), (5, 5), (10, 2), (40, 60), (2000, 2200)])
def test_sign_flip_of_one_seed_is_exact_mcnemar(better, worse):
    differences = np.array([1] * better + [-1] * worse + [0] * 30)
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert statistics.sign_flip(differences) == pytest.approx(expected)


def test_sign_flip_counts_every_choice_of_signs():
    differences = np.array([2, 2, 1, -1, 3, 0])
    sums = [sum(d if k >> i & 1 else -d for i, d in enumerate(differences))
            for k in range(2 ** len(differences))]
    expected = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert statistics.sign_flip(differences) == pytest.approx(expected)


def test_the_interval_of_a_paired_difference_is_agresti_and_mins():
    differences = [1] * 20 + [-1] * 40 + [0] * 100  # the example of R's PropCIs::diffpropci.mp
    assert statistics.paired_interval(differences) == pytest.approx((-0.21601726, -0.03089632))
    low, high = statistics.paired_interval([0] * 200)
    assert low == -high and 0.005 < high < 0.015  # agreement on 200 images is not certainty
    halves = statistics.paired_interval([0.5, -0.5, 0, 0])  # two seeds that disagree
    assert halves == pytest.approx((-1.96 * 1.5**0.5 / 6, 1.96 * 1.5**0.5 / 6), abs=1e-4)
    with pytest.raises(ValueError, match="at least one image"):
        statistics.paired_interval([])


@pytest.mark.parametrize("better, worse, images", [(0.12, 0.10, 200), (0.02, 0.005, 1000),
                                                   (0.0, 0.0, 200)])
def test_the_interval_of_a_paired_difference_covers_the_truth(better, worse, images):
    draw = np.random.default_rng(0).choice([1, -1, 0], (400, images),
                                           p=[better, worse, 1 - better - worse])
    ends = [statistics.paired_interval(row) for row in draw]
    assert np.mean([low <= better - worse <= high for low, high in ends]) > 0.92


def test_claims_that_hold_are_reproduced(good):
    verdicts = {i: claims.verdict(s, good) for i, s in STATEMENTS.items()}
    rivals = {"C12", "C13", "C14"}
    assert {i for i, v in verdicts.items() if v == "reproduced"} == set(STATEMENTS) - rivals
    assert {verdicts[i] for i in rivals} == {"not run"}


def test_a_claim_is_judged_at_the_largest_scale_that_has_its_runs(good):
    large = {"natural": {0: result("natural", clean=190, preset="big")},
             "at": {0: result("at", pgd20=90, clean=100, preset="big")}}
    name, found = claims.deciding(STATEMENTS["C20"], "mini", good, {"big": large})
    assert name == "big" and found is large
    assert claims.deciding(STATEMENTS["C6"], "mini", good, {"big": large}) == ("mini", good)
    body = {row[0].partition(".")[0]: row
            for row in cells(claims_tables.claims("mini", good, {"big": large}))[1:]}
    assert body["C20"][2].startswith("preset big: natural: 95.0 > AT: 50.0")
    assert not body["C6"][2].startswith("preset")
    line = first_page.scales("mini", good, {"big": large})
    assert line.startswith("Trained for the 4 claims of preset big: resnet8-32, 15 epochs on 8,000")
    assert "For the others: resnet8-32" in line
    assert first_page.scales("mini", good) == first_page.scale("mini", good)
    tables = sources.provenance("mini", good, {"big": large})
    assert ":name: provenance-big" in tables and "result-files/big/at/seed0.json" in tables
    assert ":name: our-table2\n" in book_tables.table2("mini", good, {"big": large})
    both = book_tables.table2("mini", good, {"big": {**large, "at-fr": large["at"]}})
    places = [both.index(part) for part in ("preset big", "preset mini", ":name: our-table2-mini")]
    assert places == sorted(places)
    assert "* - Setting\n  - Paper\n  - big\n  - mini\n" in book_tables.settings(
        "mini", good, {"big": large})


def test_a_claim_that_names_a_preset_is_judged_there_and_no_other_is(good):
    late = {label: good[label] for label in ("at", "at-swa")}
    larger = {"big": good, "overfit": late}
    assert claims.apart() == ("overfit",)
    assert claims.deciding(STATEMENTS["C21"], "mini", good, larger)[0] == "overfit"
    assert claims.deciding(STATEMENTS["C16"], "mini", good, larger)[0] == "big"  # no at-fr there
    assert claims.deciding(STATEMENTS["C9"], "mini", good, {"overfit": late}) == ("mini", good)
    body = {row[0].partition(".")[0]: row
            for row in cells(claims_tables.claims("mini", good, {"overfit": late}))[1:]}
    assert [i for i, row in body.items() if row[2].startswith("preset overfit: ")] == ["C21", "C15"]


def test_the_first_page_is_made_of_verdicts(good):
    text = first_page.headline("mini", good)
    assert f"Of {len(STATEMENTS)} claims 21 are reproduced. 3 are not run." in text
    assert "the regulariser raises accuracy under PGD-20: paper +4.5, ours +15.0, from" in text
    text = first_page.verdicts("mini", good)
    assert f"Of {len(STATEMENTS)} claims 21 are reproduced, among them: a low" in text
    assert "None is contradicted." in text and "cannot be decided" not in text
    assert "\n\n3 are not run, among them: both together beat TRADES, MART and AWP" in text
    assert "resnet8-32, 15 epochs on 8,000 training images of cifar10, 1 seed" in text
    assert "WRN-34-10, the network of the paper's Table 2, was not run." in text
    more = {**good, "at": {0: good["at"][0], 1: result("at", seed=1)}}
    assert "of cifar10, 1 to 2 seeds; judged on" in first_page.trained(more)
    good["at-fr"][0] = result("at-fr", pgd20=79, last=79, aa=10)
    text = first_page.sentences("mini", good)
    assert "1 is contradicted: the regulariser raises accuracy under AutoAttack." in text
    assert "smaller than published: the regulariser raises accuracy under PGD-20" in text
    counted = first_page.counted("mini", good)
    assert "1 smaller than published. 1 is contradicted: the regulariser raises accuracy" in counted
    assert "2 cannot be decided at this scale." in counted
    assert "2 are open: no late fall of robust accuracy is seen here (2)." in text
    empty = first_page.headline("smoke", {})
    assert f"Of {len(STATEMENTS)} claims none is reproduced" in empty
    assert "smoke-mark" in empty
    assert "Nothing of preset smoke was run; neither was WRN-34-10." in empty


def test_a_claim_about_the_regulariser_is_judged_as_released_too_where_that_was_run(good):
    assert first_page.as_released("mini", good) == ""
    assert not any(row["released"] for row in first_page.forest("mini", good))
    late = "@fr_transform=batch-class,fr_start_epoch=11"
    good[f"at-fr{late}"] = {0: result("at-fr", pgd20=60, aa=35, clean=120)}
    good["at-fr@fr_start_epoch=11"] = {0: result("at-fr", pgd20=1)}  # another reading
    good["small-only"] = {0: result("at", pgd20=1)}
    rows = cells(claims_tables.claims("mini", good))
    again = {row[0].partition(",")[0]: row for row in rows if "as its code was released" in row[0]}
    assert list(again) == ["C6", "C7", "C8", "C16"]  # for the others the average is missing
    assert again["C6"][2].startswith("AT-FR: 30.0 < AT: 40.0, -10.0 [")
    assert again["C6"][3] == "**contradicted**" and again["C8"][3].startswith("**reproduced**")
    good[f"at-fr-swa{late}"] = {0: result("at-fr-swa", pgd20=120, last=120, aa=80, clean=125)}
    text = first_page.as_released("mini", good)
    assert re.search("of 8 claims about it .* contradicted .the regulariser raises acc", text)
    assert text in first_page.sentences("mini", good)
    assert re.search("as its code was released, 4 of the 8 claims about it are reproduced, 1 ",
                     first_page.counted("mini", good))
    row, = (row for row in first_page.forest("mini", good) if "under PGD-20" in row["text"])
    assert row["verdict"] == "reproduced" and row["ours"][0] == pytest.approx(15)
    assert row["released"]["verdict"] == "contradicted"
    assert row["released"]["ours"][0] == pytest.approx(-10)
    assert "as released -10.0, from" in first_page.in_words([row])
    assert "C6, the regulariser as its code was released" in claims_tables.claims_html(
        "mini", good, ["C6"])
    del good["at"]
    assert first_page.as_released("mini", good).startswith("With the regulariser")  # C10 alone


def test_the_worst_comparison_stands_in_the_picture(good):
    good |= {rival: {0: result(rival, aa=aa)} for rival, aa in
             (("trades", 60), ("mart", 70), ("at-awp", 65))}
    row = first_page.forest("mini", good)[-1]
    assert row["ours"][0] == pytest.approx(10) and row["paper"] == 3.25  # MART, in the paper 51.10


TOO_FEW = "too few images: the interval holds 0 and the paper's figure"
NO_FALL = "no late fall of robust accuracy is seen here"
UNDECIDED, SMALLER = "cannot be decided here", "smaller than published"


@pytest.mark.parametrize("ident, changes, verdict, reason", [
    ("C6", {"at": {"pgd20": 180}}, "contradicted", ""),  # the opposite beyond chance
    ("C8", {"at": {"clean": 60}}, "contradicted", ""),
    ("C7", {"at-fr": {"aa": 5}}, "contradicted", ""),
    ("C11", {"at-swa": {"aa": 99}}, "contradicted", ""),
    ("C15", {"at-swa": {"pgd20": 150, "last": 50}}, "contradicted", ""),
    ("C16", {"at-fr": {"last": 170}}, UNDECIDED, NO_FALL),  # a rise is no fall
    ("C5", {"natural": {"roughness": 0.1}}, "contradicted", ""),
    ("C6", {"at-fr": {"pgd20": 110}, "at": {"pgd20": 112}}, SMALLER, ""),  # in the paper +4.48
    ("C6", {"at-fr": {"pgd20": 110}, "at": {"pgd20": 110}}, SMALLER, ""),
    ("C6", {"at-fr": {"pgd20": 110}, "at": {"pgd20": 105}}, UNDECIDED, TOO_FEW),
    ("C6", {"at-fr": {"pgd20": 110}, "at": {"pgd20": 100}}, "reproduced", ""),
    ("C6", {"at-fr": {"pgd20": 140}, "at": {"pgd20": 100}}, "reproduced",
     "its size is larger than published"),
    ("C8", {"at": {"clean": 150}, "at-fr": {"clean": 144}}, "reproduced", ""),
    ("C19", {"at": {"pgd20": 60}}, "reproduced", "its size is smaller than published"),
    ("C7", {"at-fr": {}, "at": {}}, UNDECIDED, TOO_FEW),  # +0.64
    ("C12", {"at-fr-swa": {"pgd20": 120}, "trades": {"pgd20": 120}, "mart": {"pgd20": 116},
             "at-awp": {"pgd20": 90}}, UNDECIDED, TOO_FEW),  # +3.79, +1.56, +1.98
    ("C12", {"at-fr-swa": {"pgd20": 120}, "trades": {"pgd20": 119}, "mart": {"pgd20": 90},
             "at-awp": {"pgd20": 90}}, SMALLER, ""),
    ("C15", {"at": {"pgd20": 80, "last": 80}}, UNDECIDED, NO_FALL),
    ("C16", {"at": {"pgd20": 40, "last": 80}}, UNDECIDED, NO_FALL),
    ("C17", {"at-fr": {"pgd20": 80, "last": 80}}, UNDECIDED, NO_FALL),
    ("C5", {"at": {"roughness": 5.01}}, UNDECIDED,
     "chance explains the difference, and the paper prints none")])
def test_a_verdict_and_its_reason_follow_from_the_paired_difference(good, ident, changes, verdict,
                                                                    reason):
    for label, values in changes.items():
        good[label] = {0: result(label, **values)}
    assert claims.reasoned(STATEMENTS[ident], good) == (verdict, reason)


def test_a_claim_that_names_a_preset_is_called_smaller_by_no_other():
    stays = as_paper("mini"), as_paper("overfit")
    for found in stays:
        found["at"][0]["last"]["pgd20"] = found["at"][0]["scores"]["pgd20"]
    assert [claims.reasoned(STATEMENTS["C21"], found) for found in stays] \
        == [(UNDECIDED, NO_FALL), (SMALLER, "")]
    stays[1]["at"][0]["last"]["pgd20"] = stays[1]["at"][0]["scores"]["clean"]  # a rise is no fall
    assert claims.reasoned(STATEMENTS["C21"], stays[1]) == (SMALLER, "there is no fall at all")


def test_what_a_claim_needs_must_be_run(good):
    good["at"][0]["last"] = {}
    assert {claims.verdict(STATEMENTS[i], good) for i in ("C21", "C15", "C16")} == {"not run"}


def test_the_size_of_a_comparison_is_that_of_table_2():
    assert claims.published(STATEMENTS["C11"]) == [2.93, 2.1, 2.29]
    assert claims.published(STATEMENTS["C23"]) == [8.51, 8.64]
    assert claims.published(STATEMENTS["C3"]) == [40.69]
    assert claims.published(STATEMENTS["C24"]) == [None, None]


def test_the_energy_of_attacks_is_compared_image_by_image(good):
    assert [c["than"] for c in claims.evidence(STATEMENTS["C24"], good)] == ["middle", "high"]
    comparison, = claims.evidence(STATEMENTS["C25"], good)
    assert (comparison["left"], comparison["right"]) == pytest.approx((40, 10))
    assert comparison["count"] == "20 images" and comparison["p"] < 1e-4
    good["lens"][0]["shares"]["natural"] = [[0.2, 0.2, 0.6]] + [[0.9, 0.05, 0.05]] * 19
    assert claims.verdict(STATEMENTS["C25"], good) == "contradicted"
    del good["lens"]
    assert claims.verdict(STATEMENTS["C25"], good) == "not run"


def test_pairing_decides_what_intervals_alone_would_not(good):
    good["at"][0]["scores"]["pgd20"], good["at-fr"][0]["scores"]["pgd20"] = first(100), first(110)
    assert statistics.interval(100, N)[1] > statistics.interval(110, N)[0]
    comparison, = claims.evidence(STATEMENTS["C6"], good)
    assert comparison["p"] == pytest.approx(2 / 2 ** 10)
    assert (comparison["left"], comparison["right"]) == pytest.approx((55, 50))
    assert claims.verdict(STATEMENTS["C6"], good) == "reproduced"


@pytest.mark.parametrize("ident, table, expected", [
    # C4, a change: its size counts, whatever its sign
    ("C4", ((180, 100), (0, 60), (150, 148), (90, 91)), "reproduced"),
    ("C4", ((180, 100), (60, 0), (150, 148), (90, 91)), "reproduced"),
    ("C4", ((180, 100), (60, 0), (150, 148), (90, 110)), "reproduced"),
    ("C4", ((180, 100), (60, 59), (150, 148), (90, 40)), "contradicted"),
    ("C4", ((180, 100), (60, 61), (150, 148), (40, 90)), "contradicted"),
    ("C4", ((180, 100), (60, 100), (150, 148), (90, 50)), SMALLER),
    ("C4", ((180, 100), (60, 0), (150, 148), (90, 145)), SMALLER),
    ("C1", ((180, 182), (60, 0), (150, 148), (90, 91)), "contradicted"),
    ("C2", ((180, 182), (60, 0), (150, 148), (90, 91)), SMALLER),
    # C22: high frequencies explain a loss if the filter leaves little of it
    ("C22", ((180, 140), (0, 60), (138, 0), (90, 91)), "reproduced"),
    ("C22", ((180, 140), (0, 60), (101, 0), (90, 91)), SMALLER),
    ("C22", ((180, 170), (0, 60), (100, 0), (90, 91)), "contradicted")])
def test_claims_on_filters_are_decided_by_the_accuracies_behind_them(good, ident, table, expected):
    good["figures"][0]["table1"] = rows(*table)
    assert claims.verdict(STATEMENTS[ident], good) == expected


def test_a_change_is_compared_by_size_and_so_is_its_interval(good):
    good["figures"][0]["table1"] = rows((180, 100), (60, 0), (150, 148), (90, 91))
    comparison, = claims.evidence(STATEMENTS["C4"], good)
    assert (comparison["left"], comparison["right"]) == pytest.approx((30, 0.5))
    low, high = comparison["interval"]
    assert low < 29.5 < high and high - low < 14


def test_several_seeds_show_their_mean_deviation_and_number(good):
    for seed, correct in enumerate((100, 110, 120)):  # 50, 55 and 60 %: 5 points apart
        good["at"][seed] = {**copy.deepcopy(good["at"][0])}
        good["at"][seed]["scores"]["pgd20"] = first(correct)
    low, high = (f"{100 * end:.1f}" for end in statistics.interval(110, N))
    text = book_tables.table2("mini", good)
    assert f"  - 55.0 [{low},\N{NO-BREAK SPACE}{high}] ± 5.0 (3 seeds)" in text
    assert "mean ± standard deviation of seeds 0, 1, 2" in text
    del good["at"][1], good["at"][2]
    text = book_tables.table2("mini", good)
    assert "±" not in text and ", seed 0." in text and "Epochs in" not in text
    good["at-swa"][0] |= {"epoch": 3, "history": [{"epoch": 1}, *({"epoch": n, "swa_val_pgd": 0.1}
                                                                  for n in (2, 3, 4))]}
    assert "averages: AT-SWA 2." in book_tables.table2("mini", good)


def test_several_seeds_count_an_image_once(good):
    good["at"][0]["scores"]["pgd20"], good["at-fr"][0]["scores"]["pgd20"] = first(106), first(110)
    for label in ("at", "at-fr"):
        good[label] |= {seed: copy.deepcopy(good[label][0]) for seed in (1, 2)}
    comparison, = claims.evidence(STATEMENTS["C6"], good)
    assert comparison["p"] == pytest.approx(2 / 2 ** 4)  # four images, not twelve
    del good["at"][0], good["at-fr"][1], good["at-fr"][2]
    assert claims.verdict(STATEMENTS["C6"], good) == "not run"  # no seed in common


@pytest.mark.parametrize(("part", "key", "value", "said"), [
    ("data", "test", "other", "test data"), ("config", "judge_eps", 0.031, "judge_eps")])
def test_other_images_or_another_radius_are_no_evidence(good, part, key, value, said):
    ablated(good)["at-fr"][0][part][key] = value
    with pytest.raises(ValueError, match=f"{said} = .*for C6"):
        claims.verdict(STATEMENTS["C6"], good)
    with pytest.raises(ValueError, match=f"{said} = .*for The DFT"):
        book_tables.ablations("mini", good)
    good["at"][0][part][key] = value
    assert claims.verdict(STATEMENTS["C6"], good) == "reproduced"


def test_missing_attack_or_folder_is_not_run(good):
    del good["at"][0]["scores"]["aa"]
    assert claims.verdict(STATEMENTS["C7"], good) == "not run"
    assert claims.verdict(STATEMENTS["C6"], good) == "reproduced"
    assert collect("mini", "nowhere") == {}
    assert {claims.verdict(s, {}) for s in STATEMENTS.values()} == {"not run"}


def test_first_folder_wins_per_label_and_seed(tmp_path):
    fresh = store({"at": {0: result("at", pgd20=10)}}, tmp_path / "fresh")
    published = store({"at": {0: result("at"), 1: result("at")}}, tmp_path / "published")
    found = collect("mini", fresh, published)["at"]
    assert [found[k]["scores"]["pgd20"]["correct"] for k in (0, 1)] == [10, 100]
    assert found[0]["file"].endswith("fresh/mini/at/seed0.json")


@pytest.mark.parametrize(("place", "says"), [
    ("mini/at/seed1", "says seed 0, but lies at mini/at/seed1.json"),
    ("mini/at-fr/seed0", "says label 'at', but lies at mini/at-fr/seed0.json"),
    ("paper/at/seed0", "says preset 'mini', but lies at paper/at/seed0.json"),
    ("mini/figures/seed1", "says seed 0, but lies at mini/figures/seed1.json")])
def test_a_copied_result_is_no_other_one(tmp_path, place, says):
    """A result names its preset, label and seed; one without them is known by its place."""
    store(as_paper(), tmp_path / "stored")
    source = tmp_path / "stored/mini" / ("figures" if "figures" in place else "at") / "seed0.json"
    path = tmp_path / "copied" / f"{place}.json"
    path.parent.mkdir(parents=True)
    path.write_text(source.read_text())
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {re.escape(says)}"):
        collect(place.split("/")[0], tmp_path / "copied")


def pages_beside(other, folder):
    """{page: text} of mini's pages where the preset `other` was run, too, as the paper has it."""
    for preset in "mini", other:
        store(as_paper(preset), folder, preset)
    all_pages.write_pages(folder / "out", "mini", folder)
    return {path.stem: path.read_text() for path in (folder / "out").glob("*.md")}


def test_a_preset_that_decides_a_claim_stands_in_the_tables_of_claims_and_runs_alone(tmp_path):
    text = pages_beside("overfit", tmp_path)
    assert "Trained for the 4 claims of preset overfit: resnet8-32" in text["headline"]
    assert ":name: provenance-overfit" in text["provenance"] and "- overfit" in text["settings"]
    assert "preset overfit" in text["claims"] and "overfit" not in text["table2"]
    assert (tmp_path / "out/extra/result-files/overfit/at/seed0.json").is_file()


def test_a_wider_network_has_a_table_of_its_own_and_decides_nothing(tmp_path):
    text = pages_beside("resnet18", tmp_path)
    assert "preset resnet18" in text["table2_wider"].lower()
    assert not any("resnet18" in text[page] for page in ("headline", "claims", "table2"))
    assert ":name: provenance-resnet18" in text["provenance"] and "resnet18" in text["badge"]
    assert "- resnet18" in text["settings"]
    assert (tmp_path / "out/extra/result-files/resnet18/at/seed0.json").is_file()


def test_the_open_choices_are_shown_at_the_preset_that_tried_them(tmp_path):
    text = pages_beside("small", tmp_path)
    assert "preset small" in text["readings"] and "preset mini" not in text["readings"]
    assert text["ablations"].index("preset mini") < text["ablations"].index("preset small")
    for page in "readings", "ablations":
        assert re.findall(":name: (.*)", text[page]) == [page]
    assert "small" not in text["table2"] and "- small" in text["settings"] + text["costs"]
    assert "small/at/" in text["badge"] and "small/trades/" not in text["badge"]
    assert ":name: provenance-small" in text["provenance"]
    assert (tmp_path / "out/extra/result-files/small/at/seed0.json").is_file()


def test_a_filter_counts_once_however_many_colours_it_has():
    alike = [[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]]
    assert claims.of_filters(alike) == pytest.approx([1.1, 2.1])
    assert claims.of_filters(sum(alike, [])) == pytest.approx([1.1, 2.1])  # as it once was stored
    assert claims.of_filters([[1.0], [2.0]]) == pytest.approx([1.0, 2.0])
    assert claims.of_filters([]).size == 0


def test_a_chapters_numbers_of_other_weights_are_left_out(tmp_path, caplog):
    made = as_paper()
    for label in "natural", "at":
        made[label][0]["checkpoint_sha256"] = label
    for kind in "figures", "lens":
        made[kind][0]["checkpoint_sha256"] = {"natural": "natural", "at": "at", "mart": "gone"}
    found = collect("mini", store(made, tmp_path))
    assert "figures" in found and not caplog.text
    made["at"][0]["checkpoint_sha256"] = "trained anew"
    found = collect("mini", store(made, tmp_path))
    assert not {"figures", "lens"} & found.keys()
    assert "figures/seed0.json is left out: it is of other weights than the result of at; " \
        "`python -m frlib figures --redo`" in caplog.text
    assert claims.verdict(STATEMENTS["C1"], found) == "not run"


@pytest.mark.parametrize("preset, made", [("mini", True), ("smoke", False)])
def test_pages(tmp_path, preset, made):
    if made:
        store(as_paper(preset), tmp_path, preset)
    all_pages.write_pages(tmp_path / "out", preset, tmp_path)
    assert {p.stem for p in (tmp_path / "out").glob("*.md")} \
        == {*NAMES, "badge", "headline", "verdicts"}
    for stem, name in NAMES.items():
        text = (tmp_path / "out" / f"{stem}.md").read_text()
        assert re.search(f"^```{{list-table}} [^`\n]+\n:name: {name}\n", text, re.M)
        assert ("smoke-mark" in text) == (preset == "smoke" and stem in OURS)
        for table in text.split("```{list-table}")[1:]:
            assert len({len(row) for row in cells(table)}) == 1
        if stem in ("speed", "precision", "follow_up", "table2_wider") or not made and stem in OURS:
            assert "not run" in text
        elif stem in OURS - {"settings", "costs", "provenance"}:
            assert "resnet8-32 on cifar10, the first 200 test images, 100 of them" in text


def cells(text):
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    return [re.findall(r"(?:^\* -|^  -) (.*)", row, re.M)
            for row in re.split(r"^(?=\* - )", text, flags=re.M)[1:]]


def test_paper_tables_equal_claims():
    head, *body = cells(book_tables.paper_table2())
    table = claims.paper()["table2"]
    assert head[1:] == list(table["column_titles"].values())
    assert {row[0]: list(map(float, row[1:])) for row in body} == {
        table["row_titles"][m]: list(v.values()) for m, v in table["rows"].items()}
    _, *body = cells(book_tables.paper_table1())
    assert [list(map(float, row[2:])) for row in body] == [
        list(row["accuracy"].values()) for row in claims.paper()["table1"]["rows"]]


def test_ours_stands_beside_the_paper(good):
    readings = "at-fr@fr_transform=batch-class,fr_start_epoch=11", "at-fr@fr_start_epoch=11"
    for label in readings:  # one that the preset runs, one that it lists as an ablation
        good[label] = {0: result(label)}
    head, *body = cells(book_tables.table2("mini", good))
    assert head[2:] == ["Clean", "FGSM", "PGD-20", "C&W", "AutoAttack (first 100)",
                        "PGD-20, same 100", "C&W, same 100"]
    ours = {row[0]: after for row, after in zip(body, body[1:], strict=False) if row[0]}
    assert ours["AT"] == ["", "ours", "80.0 [73.8, 85.3]", "42.5 [35.6, 49.7]",
                          "40.0 [33.2, 47.1]", "37.5 [30.8, 44.6]", "30.0 [21.2, 40.0]",
                          "80.0 [70.8, 87.3]", "75.0 [65.3, 83.1]"]  # 80 and 75 of the first 100
    assert ours["TRADES"][2:] == ["not run"] * 7 and body[0][-2:] == ["—", "—"]
    assert set(claims.paper()["table2"]["row_titles"].values()) | {"Natural"} == set(ours)
    sources = [row[1] for row in body if row[1].startswith("ours: ")]  # which FR a row is
    assert sources == [f"ours: {told}" for told in (
        "equation 2", "as released, from epoch 11", "equation 2, from epoch 11", "equation 2")]
    page = book_tables.table2_html("mini", good)
    assert "C&amp;W" in page and "30.0 [21.2,\N{NO-BREAK SPACE}40.0]" in page
    assert "smoke-mark" not in page
    assert book_tables.table2_html("smoke", good).startswith(markup.SMOKE)


def test_table1_readings_and_claims(good):
    _, *body = cells(book_tables.table1("mini", good))
    assert len(body) == 10 and body[2][1:3] == ["shipped ResNet-18", "not run"]
    assert body[1][2] == "90.0 [85.0, 93.8]" and body[-1][2] == "45.0 [38.0, 52.2]"
    good["figures"][0]["full_scale"] = rows((180, 9), (0, 60), (1, 1), (1, 1))["natural"]
    assert "first 200 test images of CIFAR-10" in book_tables.table1("mini", good)
    good["figures"][0]["images"] = 1000
    assert "Behind the filter: the first 1,000, seed 0." in book_tables.table1("mini", good)
    wider = {"figures": {1: {"images": 40, "table1": rows((190, 9), (0, 60), (1, 1), (1, 1))}}}
    text = book_tables.table1("mini", good, None, {"wide": wider})
    _, *body = cells(text)
    assert len(body) == 14 and body[2][1:3] == ["ours, wide", "95.0 [91.0, 97.6]"]
    assert "“ours, wide” is of that preset: the first 40, seed 1." in text
    _, *body = cells(book_tables.readings("mini", good))
    assert [row[-1] for row in body] == ["—", "0.123", "not run", "—", "0.123", "not run"]
    body = {row[0].partition(".")[0]: row for row in cells(claims_tables.claims("mini", good))[1:]}
    low, high = (100 * end for end in statistics.paired_interval([1] * 30 + [0] * 170))
    told = f"AT-FR: 55.0 > AT: 40.0, +15.0 [{low:+.1f}, {high:+.1f}] " \
           "(p < 0.001; 200 images, 1 seed)"
    assert body["C6"][1:] == ["59.49 > 55.01 (+4.48)", told,
                             "**reproduced**: its size is larger than published"]
    assert body["C15"][1] == "about 5 > 0 (+5)" and body["C5"][1] == "—"
    for told in ("AT-FR-SWA: 80.0 > AT: 30.0", "AT-FR-SWA: 80.0 > AT-FR: 60.0"):
        assert told in body["C11"][2]
    assert body["C5"][2].startswith("natural: 5.075 > AT: 3.075 (p < 0.001; 16 and 16 filters")
    good["at"][0] = result("at", aa=60)
    body = {row[0].partition(".")[0]: row for row in cells(claims_tables.claims("mini", good))[1:]}
    assert body["C7"][3] == f"**cannot be decided here**: {TOO_FEW}"


def ablated(good):
    label = "at-fr@fr_transform=batch-class"
    good[label] = {0: result(label, pgd20=114, clean=120, aa=50)}  # at-fr: 110, 120, 60 of 100
    good["at-swa@swa_batchnorm=running"] = {1: result("x")}  # no seed in common with its base
    return good


def test_an_open_detail_is_worth_the_paired_difference_to_its_base(good):
    _, *table = cells(book_tables.ablations("mini", ablated(good)))
    body = {re.search(r"\((.*)\)$", row[2])[1]: row[4:] for row in table}
    assert {row[3] for row in table} == {"mini", "—"}
    both = cells(book_tables.ablations("mini", good, {"small": good}))[1:3]
    assert [row[3] for row in both] == ["mini", "small"] and both[1][:3] == ["", "", ""]
    low, high = (100 * end for end in statistics.paired_interval([1] * 4 + [0] * 196))
    row = body["`at-fr@fr_transform=batch-class`"]
    assert table[0][0] == "The DFT" and row[0].startswith("+0.0 [-")
    assert row[1:] == [f"+2.0 [{low:+.1f}, {high:+.1f}]"] * 2 + ["-10.0 [-15.9, -3.7]"]
    last = body["`at`, last checkpoint"]  # 80 of 200 right at best, 40 at last
    assert last[1].startswith("-20.0 [") and last[2] == "not run"
    assert body["`at-swa@swa_batchnorm=running`"] == ["not run"] * 4
    found = book_tables.effects(good)
    assert set(found) == {"at-fr@fr_transform=batch-class", "at, last checkpoint"}
    difference, low, high, p = found["at-fr@fr_transform=batch-class"]["AutoAttack"]
    assert difference == pytest.approx(-10) and low < -10 < high and p < 0.05
    assert set(found["at, last checkpoint"]) == {"Clean", "PGD-20"}
    assert book_tables.effects({}) == {} and len(cells(book_tables.ablations("mini", {}))) \
        == 1 + sum("run" in entry for entry in claims.paper()["open_details"])


def test_settings_stand_beside_the_papers(good):
    body = {row[0]: row[1:] for row in cells(book_tables.settings("mini", good))[1:]}
    assert body.items() >= {
        "Network": ["wrn-34-10", "resnet8-32"], "λ": ["0.1", "0.1"], "Its step α": [
            "2/255", "4/255"], "Training images": ["45,000", "8,000"], "Test images": [
            "10,000", "all"], "It drops after epochs": ["75, 90", "11, 13"],
        "Averaging starts after epoch": ["75", "11"]}.items()
    good["at"][0]["config"]["fr_lambda"] = 0.5
    assert "0.1 / 0.5" in book_tables.settings("mini", good).replace("0.5 / 0.1", "0.1 / 0.5")
    assert {row[2] for row in cells(book_tables.settings("mini", {}))[1:]} == {"not run"}


def test_costs_count_a_training_once(good):
    del good["figures"]
    body = cells(sources.costs("mini", good))[1:]
    # natural, at with at-swa, at-fr with at-fr-swa: three trainings of 4,000 s, five judgements
    assert body == [["mini", "CPU Model(R) @ 2 GHz, 2 cores, threads: 1", "3", "3 h 20 min",
                     "67 min", "5", "5 min"]]
    larger = {"big": {"at": good["at"]}}
    assert [row[:3:2] for row in cells(sources.costs("mini", {}, larger))[1:]] == [["big", "1"]]
    good["at"][0]["train_provenance"] = {**MADE, "device": "GPU"}
    assert ["mini", "GPU, threads: 1", "1", "67 min"] in [
        row[:4] for row in cells(sources.costs("mini", good))[1:]]
    assert cells(sources.costs("mini", {}))[1] == ["mini", "not run"] + ["—"] * 5


def test_runs_that_went_on_from_one_checkpoint_share_the_cost_of_the_epochs_before_it(good):
    rows = [{"epoch": epoch, "loss_ce": 2.0, "seconds": 100.0} for epoch in (1, 2, 3)]
    other = [*rows[:2], {**rows[2], "loss_ce": 1.9}]
    for label, history in ("at", rows), ("at-fr", other):
        good[label][0] |= {"history": history, "seconds": {"train": 300.0, "judge": 65.0}}
    found = sources._times({label: good[label] for label in ("at", "at-fr")}, "train")
    assert [spent for _, spent in found.values()] == [300, 100]


def test_provenance_tells_when_todays_code_gives_other_numbers(good):
    body = {re.search(">(.*)</a>", row[0])[1]: row
            for row in cells(sources.provenance("mini", good))[1:]}
    assert set(body) == set(good) and "result-files/mini/at/seed0.json" in body["at"][0]
    assert body["at"][1:] == ["0", "train 1 -> 2: no reason written down", "67 min",
                              "bfloat16", "65 s", "1",
                              "2026-01-02", "0123456+dirty", "2.11.0", "1",
                              "CPU Model(R) @ 2 GHz, 2 cores"]
    good["at"][0]["numerics"]["train"] = 2
    assert "as now" in cells(sources.provenance("mini", good))[1]


def test_a_badge_says_what_made_a_page(good):
    for label in ("natural", "at-swa", "at-fr", "at-fr-swa", "figures", "lens"):
        del good[label]
    text = sources.badge("mini", good)
    for fact in ("Preset <strong>mini</strong>", "seed 0", "CPU Model(R) @ 2 GHz, 2 cores",
                 "commit 0123456+dirty", "68 min of computing", "2026-01-02",
                 '<a href="../result-files/mini/at/seed0.json">at</a>',
                 "To be run again: at, since today's code gives other numbers (no reason"):
        assert fact in text
    assert text.index("stale") < text.index("<details") < text.index("0123456+dirty")
    good["at"][0]["numerics"]["train"] = 2
    assert "stale" not in sources.badge("mini", good)
    good["at"][2] = copy.deepcopy(good["at"][0])
    text = sources.badge("mini", good, up="../..")
    folder = '<a href="../../result-files/mini/at'
    assert f'at ({folder}/seed0.json">0</a>, {folder}/seed2.json">2</a>)' in text
    assert "seeds 0, 2" in text
    assert "smoke-mark" in sources.badge("smoke", good)
    assert "not run" in sources.badge("mini", {})


def test_every_link_of_the_pages_leads_to_a_copy(tmp_path):
    store(as_paper() | {"at@epochs=3,lr=0.5": {1: result("at@epochs=3,lr=0.5")}}, tmp_path)
    all_pages.write_pages(tmp_path / "out", "mini", tmp_path)
    for page in ("badge", "provenance"):
        text = (tmp_path / "out" / f"{page}.md").read_text()
        links = re.findall('href="../(result-files/[^"]+)"', text)
        assert len(links) == 8
        for link in map(unquote, links):
            copied = tmp_path / "out" / "extra" / link
            assert copied.read_text() == (tmp_path / link.removeprefix("result-files/")).read_text()


def test_bars_leave_out_what_was_not_run(good):
    del good["at"][0]["scores"]["aa"]
    table = book_tables.bars(good)
    assert list(table) == ["at", "at-swa", "at-fr", "at-fr-swa", "natural"]
    assert list(table["at"]) == ["Clean", "FGSM", "PGD-20", "C&W", "PGD-20, same 100",
                                 "C&W, same 100"]
    assert table["at-fr"]["PGD-20"] == pytest.approx((0.55, *statistics.interval(110, N)))
    assert book_tables.bars({}) == {}


def test_claims_at_the_end_of_a_notebook():
    text = claims_tables.claims_html("smoke", {}, ["C6"])
    assert "C6" in text and "C7" not in text and "not run" in text and "smoke-mark" in text


def test_the_follow_up_says_not_run_until_it_is():
    nothing = book_tables.follow_up({}).split("```{list-table}")[1:]
    assert len(nothing) == 4 and all("* - not run" in table for table in nothing)
    labels = ("at-swa", "at-sar@fr_lambda=0.025", "at-sar-wa@fr_lambda=0.025", "at")
    found = {label: {0: result(label) | {"file": "x.json"}} for label in labels}
    text = book_tables.follow_up({"tiny-imagenet-40": found})
    assert "not comparable" not in text and text.count("{list-table}") == 4
    assert ":name: follow-up-cifar100-subset\n" in text
    assert ":name: follow-up-tiny-imagenet-40\n" in text
    rows = cells(text.split("```{list-table}")[3])[1:]
    assert [row[0] for row in rows] == [
        "at", "at-swa", "minus at", "at-sar, equation 2, λ 0.025", "minus at",
        "at-sar-wa, equation 2, λ 0.025", "minus at"]


def test_a_preset_that_cannot_be_read_stops_no_page(tmp_path, monkeypatch):
    (tmp_path / "odd.yaml").write_text("preset: odd\nsettings: {epocs: 3}\n")
    monkeypatch.setattr(presets, "shipped", lambda: {"odd": tmp_path / "odd.yaml"})
    monkeypatch.setattr(sources, "shipped", presets.shipped)
    _, row = cells(sources.preset_costs({"odd": {}}))
    assert row[0] == "`odd`" and row[1].startswith("unknown parameter") and len(row) == 5


def test_the_hours_of_a_preset_count_a_training_once():
    made = {"train_provenance": {"device": "CPU X", "threads": 1},
            "provenance": {"device": "Card Y", "threads": 1}}
    results = {label: {0: {**made, "seconds": {"train": 7200, "judge": 1800}}}
               for label in ("at-fr", "at-fr-swa", "at-fr@fr_transform=none")}
    head, row, empty = cells(sources.preset_costs({"small": results, "paper": {}}))
    listed = sum(len(evaluate_run.siblings(run)) for run in config.load("small").runs)
    assert row == ["`small`", f"2 of {listed}", "4", "1.5", "1.5"]
    assert empty[2:] == ["not measured"] * 3 and len(head) == len(row)
