"""What notebooks show: which results, and sentences and tables made from their numbers."""

import pytest

from frlib import config, pages, results


def epoch(number, lr=0.1, **values):
    row = {"epoch": number, "lr": lr, "loss_ce": 2.0, "val_clean": 0.5, "val_pgd": 0.2,
           "test_clean": 0.6, "test_pgd": 0.3, "seconds": 1.0}
    return {**row, **values}


HISTORY = {"at": [epoch(1), epoch(2, val_pgd=0.4, test_pgd=0.35), epoch(3, lr=0.01, swa_val_pgd=0.3,
                                                                        swa_test_pgd=0.31,
                                                                        swa_test_clean=0.7)]}


def test_lines_drops_and_the_chosen_epoch():
    lines = pages.lines(HISTORY, ["test_pgd", "swa_test_pgd", "loss_fr"])
    assert [line["values"] for line in lines] == [[0.3, 0.35, 0.3], [None, None, 0.31]]
    assert pages.drops(HISTORY) == [2.5]
    assert pages.best(HISTORY, "test_pgd") == {lines[0]["label"]: 2}


def test_sentences_say_the_numbers_of_the_history():
    text = pages.seen(HISTORY, "mini", averaged=True)
    for figure in ("epoch 2 of 3", "35.0 % PGD", "30.0 %", "31.0 % at epoch 3"):
        assert figure in text
    assert "not run" in pages.seen({}, "mini")


def test_smoke_numbers_carry_their_mark():
    assert pages.mark("smoke") and pages.mark("mini") is None
    assert "smoke-mark" in pages.history_table(HISTORY, "smoke")
    assert "smoke-mark" not in pages.history_table(HISTORY, "mini")
    assert "&lt;b&gt;" in pages.grid({"<b>": {"a": 0.5}}, "mini")  # nothing becomes markup


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("FRLIB_ROOT", str(tmp_path))

    def write(folder, preset, label, seed=0, **content):
        path = tmp_path / folder / preset / label / f"seed{seed}.json"
        results.write_json(path, {"scores": {}, "table1": {}, "history": HISTORY["at"], **content})
    return write


def test_smoke_shows_committed_mini_results_where_there_are_some(stored):
    own = config.load("smoke")
    assert pages.shown(own) == ("smoke", {})
    stored("results", "mini", "at", mark=1)
    name, found = pages.shown(own)
    assert name == "mini" and found["at"][0]["mark"] == 1
    assert pages.histories(found, ["at", "at-fr"]) == HISTORY
    assert pages.shown(own, "smoke") == ("smoke", {})


def test_own_results_stand_before_committed_ones(stored):
    stored("results", "mini", "at", mark="committed")
    stored("runs/results", "mini", "at", mark="own")
    assert pages.shown(config.load("mini"))[1]["at"][0]["mark"] == "own"


def test_figures_fall_back_to_the_own_run(stored):
    stored("results", "mini", "at")
    with pytest.raises(FileNotFoundError, match="run notebooks"):
        pages.shown_figures(config.load("smoke"))
    stored("runs/results", "smoke", "figures", mark="own")
    assert pages.shown_figures(config.load("smoke"))[1]["mark"] == "own"
    stored("results", "mini", "figures", mark="committed")
    assert pages.shown_figures(config.load("smoke"))[1]["mark"] == "committed"


def test_table_1_as_lines():
    score = results.score([True, False, True, True])
    figures = {"table1": {"at": {"clean": {"32": score, "16": score}}}, "full_scale": None}
    (bandwidths, accuracies, lows, highs), = pages.low_pass_lines(figures).values()
    assert bandwidths == [32, 16] and accuracies == [0.75, 0.75]
    assert lows[0] < 0.75 < highs[0]
    assert "75.0 [19.4, 99.4]" in pages.low_pass_table(figures, "mini")


def test_legends_have_short_labels():
    assert pages.short("at-fr@fr_transform=batch-class") == "at-fr, batch-class"
    label = "at@epochs=3"
    line, = pages.lines({label: HISTORY["at"]}, ["test_pgd"])
    assert line["label"] in pages.best({label: HISTORY["at"]}, "test_pgd")
