"""Any set of labels side by side, and the labels of a sweep."""

import base64
import csv
import io
import re

import pytest

from frlib.publish import comparison
from frlib.run import config, files, sweep

N = 40


def result(label, **right):
    return {"label": label, "config": {}, "data": {"test": "abc"}, "scores": {
        name: files.score([i < count for i in range(N)]) for name, count in right.items()}}


@pytest.fixture
def results():
    return {"at": {0: result("at", clean=20, pgd20=10), 1: result("at", clean=22, pgd20=10)},
            "at-fr": {0: result("at-fr", clean=16, pgd20=14), 1: result("at-fr", clean=16,
                                                                       pgd20=16)}}


def test_accuracies_are_means_over_seeds_and_differences_are_paired(results):
    found = comparison.compared(results, ["at", "at-fr", "trades"], "at")
    clean = found["at"]["clean"]["accuracy"]
    assert clean["share"] == 0.525 and clean["seeds"] == 2 and clean["images"] == N
    assert clean["spread"] == pytest.approx(0.03535534) and clean["low"] < 0.525 < clean["high"]
    change = found["at-fr"]["pgd20"]["difference"]
    assert change["left"] - change["right"] == pytest.approx(12.5)  # 4 and 6 of 40
    assert found["at"]["clean"]["difference"] is None and found["at-fr"]["aa"]["accuracy"] is None
    assert found["trades"]["clean"] == {"accuracy": None, "difference": None}
    with pytest.raises(ValueError, match="base = 'mart': must be one of the labels, at, at-fr"):
        comparison.compared(results, ["at", "at-fr"], "mart")


def test_a_difference_says_of_how_many_seeds_it_is_where_one_side_has_more(results):
    del results["at"][1]
    table = comparison.table(results, ["at", "at-fr"], "at", metrics=("clean",))
    assert "of 1 shared seed<" in table and "(2 seeds)" in table
    rows = list(csv.DictReader(io.StringIO(comparison.as_csv(results, ["at", "at-fr"], "at"))))
    row, = (r for r in rows if (r["label"], r["attack"]) == ("at-fr", "pgd20"))
    assert (row["seeds"], row["shared_seeds"]) == ("2", "1")
    assert float(row["difference"]) == pytest.approx(10)  # 14 and 10 of 40, seed 0
    results["at"][1] = result("at", clean=22, pgd20=10)
    assert "shared" not in comparison.table(results, ["at", "at-fr"], "at", metrics=("clean",))


def test_the_best_and_the_last_checkpoint_are_compared_where_a_run_has_both(results):
    scores = {count: result("", pgd20=count)["scores"] for count in (4, 12)}
    results["at"][0]["last"] = scores[4]
    results["at-swa"] = {0: {**result("at-swa", pgd20=9), "best": scores[12]}}
    shares = {which: [comparison.accuracy(comparison.at_checkpoint(results, which), label, "pgd20")
                      for label in ("at", "at-swa", "at-fr")] for which in ("best", "last")}
    assert [found["share"] for found in shares["best"]] == [10 / N, 12 / N, 15 / N]
    assert [found and found["share"] for found in shares["last"]] == [4 / N, 9 / N, None]
    with pytest.raises(ValueError, match="which = 'first': choose 'best' or 'last'"):
        comparison.at_checkpoint(results, "first")


def test_two_values_of_a_swept_setting_are_compared_what_no_label_says_is_not():
    swept = {f"at-fr@fr_lambda={value}": {0: {**result("at-fr", clean=20), "config": {
        "method": "at-fr", "fr_lambda": value}}} for value in (0.01, 1.0)}
    low, high = swept
    assert comparison.difference(swept, high, low, "clean")["p"] == 1
    swept[high][0]["config"]["epochs"] = 3
    with pytest.raises(ValueError, match="of two experiments: epochs = "):
        comparison.difference(swept, high, low, "clean")


def test_table_csv_and_trade_off_show_the_same_numbers(results):
    table = comparison.table(results, ["at", "at-fr"], "at", metrics=("clean", "aa"))
    assert "<td>52.5 [" in table and "(2 seeds)" in table and "<td>minus at</td>" in table
    assert table.count("<td>not run</td>") == 2
    text = base64.b64decode(re.search('href="data:text/csv;base64,([^"]*)"', table)[1]).decode()
    assert text == comparison.as_csv(results, ["at", "at-fr"], "at")
    rows = list(csv.DictReader(io.StringIO(text)))
    row, = (r for r in rows if (r["label"], r["attack"]) == ("at-fr", "pgd20"))
    assert float(row["accuracy"]) == 0.375 and float(row["difference"]) == pytest.approx(12.5)
    assert row["base"] == "at" and rows[0]["base"] == ""
    pairs = comparison.trade_off(results, ["at", "at-fr", "mart"], "pgd20")
    assert pairs["at"][0][0] == 0.525 and pairs["at"][1][0] == 0.25
    assert set(pairs) == {"at", "at-fr"}


def test_no_two_columns_are_on_different_images_unsaid():
    shown = {"at": {0: result("at", clean=30, pgd20=25, cw=8)}}
    assert list(comparison.columns(shown)) == ["Clean", "FGSM", "PGD-20", "C&W", "AutoAttack"]
    shown["at"][0]["scores"]["aa"] = files.score([True] * 5 + [False] * 5)
    found = comparison.columns(shown, ("clean", "pgd20", "cw", "aa"))
    assert list(found) == ["Clean", "PGD-20", "C&W", "AutoAttack (first 10)", "PGD-20, same 10",
                           "C&W, same 10"]
    values = [comparison.accuracy(view, "at", metric)["share"] for metric, view in found.values()]
    assert values == [0.75, 0.625, 0.2, 0.5, 1, 0.8]  # of the first 10, 10 and 8
    assert "<td>80.0 [44.4,\u00a097.5]</td>" in comparison.table(shown, ["at"], "at")
    clean, robust = comparison.trade_off(shown, ["at"])["at"]
    assert clean[0] == 1 and robust[0] == 0.5  # both on AutoAttack's images


def test_results_are_grouped_by_regulariser_and_ordered_by_its_weight():
    def of(label, **config):
        return {0: {**result(label, clean=20, pgd20=10), "config": config}}

    fr = {"fr_transform": "class", "beta": 6.0}
    shown = {"at": of("at", fr_lambda=0.1), "at-fr": of("at-fr", fr_lambda=0.1, **fr),
             "at-fr@fr_lambda=0.005": of("at-fr", fr_lambda=0.005, **fr),
             "at-fr@fr_transform=none": of("at-fr", fr_lambda=0.1, fr_transform="none"),
             "at-fr@fr_start_epoch=11": of("at-fr", fr_lambda=0.1, **fr),
             "trades": of("trades", beta=6.0), "natural": of("natural"),
             "at@epochs=3": of("at"), "published-x": of("published-x"), "lens": {0: {}}}
    groups = comparison.grouped(shown)
    assert groups == {"AT": {"at": ""},
                      "AT-FR, equation 2": {"at-fr@fr_lambda=0.005": "λ 0.005", "at-fr": "λ 0.1"},
                      "AT-FR, logit pairing": {"at-fr@fr_transform=none": "λ 0.1"},
                      "AT-FR, equation 2, from epoch 11": {"at-fr@fr_start_epoch=11": "λ 0.1"},
                      "TRADES": {"trades": "β 6"}}
    released = {"at-fr@fr_start_epoch=11,fr_transform=batch-class": of(
        "at-fr", fr_lambda=0.1, fr_transform="batch-class", fr_start_epoch=11)}
    assert [*comparison.grouped(released)] == ["AT-FR, as released, from epoch 11"]
    drawn = comparison.frontier(shown, "pgd20")
    assert list(drawn["AT-FR, equation 2"]) == ["λ 0.005", "λ 0.1", comparison.PAPER]
    assert drawn["MART"][comparison.PAPER] == ((0.8417, None, None), (0.5856, None, None))
    assert "AT" in comparison.frontier({}, "aa")  # without any result, the paper's rows


@pytest.mark.parametrize(("vary", "labels"), [
    (["fr_lambda=0.01,0.1,1"], ["at-fr@fr_lambda=0.01", "at-fr", "at-fr@fr_lambda=1.0"]),
    (["fr_lambda=0.1,1/10"], ["at-fr"]),
    (["fr_lambda=0.5", "fr_transform=class,none"],
     ["at-fr@fr_lambda=0.5", "at-fr@fr_lambda=0.5,fr_transform=none"]),
    (["flip=true,false"], ["at-fr@flip=true", "at-fr"]),
    (["recipe=preset"], ["at-fr"])])
def test_a_sweep_names_its_runs_as_they_are_named_elsewhere(vary, labels):
    base = config.load("smoke", method="at-fr")
    assert sweep.labels(base, sweep.parse_vary(vary)) == labels


def test_a_sweep_keeps_what_is_judged_otherwise():
    base = config.load("small", method="at-fr", judge_images=5000)
    assert sweep.labels(base, sweep.parse_vary(["fr_lambda=0.01,0.1"])) == [
        "at-fr@fr_lambda=0.01,judge_images=5000", "at-fr@judge_images=5000"]


def test_a_sweep_over_recipes_trains_with_each():
    base = config.load("mini", method="trades")
    found = sweep.labels(base, sweep.parse_vary(["recipe=preset,official", "epochs=3"]))
    assert found == ["trades@epochs=3", "trades@recipe=official,epochs=3"]
    assert base.sibling(found[1]).eps == 0.031


@pytest.mark.parametrize(("vary", "message"), [
    ("fr_lambda=0.5", "vary fr_lambda: it decides nothing of at; --run may be one of at-fr, "),
    ("epochs=0", "epochs = 0: must be at least 1")])
def test_a_sweep_that_cannot_be_trained_is_refused_at_the_start(vary, message):
    with pytest.raises(ValueError, match=message):
        sweep.labels(config.load("smoke", method="at"), sweep.parse_vary([vary]))
    idle = config.load("smoke", method="at", fr_lambda=0.5)  # as --run at@fr_lambda=0.5
    assert sweep.labels(idle, {"epochs": [7]}) == ["at@epochs=7"]


def test_no_two_sweeps_share_a_table():
    base = config.load("smoke", method="at-fr")
    sweeps = [({"fr_lambda": [0.1, 1.0]}, [0]), ({"fr_lambda": [0.1]}, [0]), ({"lr": [0.1]}, [0]),
              ({"lr": [0.1]}, [0, 1]), ({"epochs": list(range(99))}, [0]),
              ({"epochs": list(range(98))}, [0])]
    names = [sweep.table_name(base, *each) for each in sweeps]
    assert names[0] == "sweep-at-fr-fr_lambda=0.1,1.0-seeds=0.csv"
    assert len(set(names)) == len(names) and max(map(len, names)) < 255


@pytest.mark.parametrize("text", ["-1", "", "0,", "1.5", "a", "0 1", "99999999999999999999"])
def test_seeds_are_whole_numbers(text):
    assert sweep.parse_seeds("0,2,0") == [0, 2]
    with pytest.raises(ValueError, match="seeds.*whole numbers from 0"):
        sweep.parse_seeds(text)


@pytest.mark.parametrize(("vary", "message"), [
    ("fr_lamda=1", "'fr_lamda' decides no training; choose one of"),
    ("judge_images=5", "'judge_images' decides no training"),
    ("fr_lambda=x", "fr_lambda = 'x': must be a number"),
    ("fr_lambda", "fr_lambda = ")])
def test_what_cannot_be_varied_is_said(vary, message):
    with pytest.raises(ValueError, match=message):
        sweep.parse_vary([vary])
