"""What notebooks show: which results, and sentences and tables made from their numbers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from frlib import attacks, losses, spectral
from frlib.publish import book_tables, claims_tables
from frlib.publish import notebook_views as views
from frlib.run import config, files

REPO = Path(__file__).resolve().parents[1]

def epoch(number, lr=0.1, **values):
    row = {"epoch": number, "lr": lr, "loss_ce": 2.0, "val_clean": 0.5, "val_pgd": 0.2,
           "test_clean": 0.6, "test_pgd": 0.3, "seconds": 1.0}
    return {**row, **values}


HISTORY = {"at": [epoch(1), epoch(2, val_pgd=0.4, test_pgd=0.35), epoch(3, lr=0.01, swa_val_pgd=0.3,
                                                                        swa_test_pgd=0.31,
                                                                        swa_test_clean=0.7)]}


def test_lines_drops_and_the_chosen_epoch():
    lines = views.lines(HISTORY, ["test_pgd", "swa_test_pgd", "loss_fr"])
    assert [line["values"] for line in lines] == [[0.3, 0.35, 0.3], [None, None, 0.31]]
    assert views.drops(HISTORY) == [2.5]
    assert views.best(HISTORY, "test_pgd") == {lines[0]["label"]: 2}
    assert views.short("at-fr@fr_transform=batch-class") == "at-fr, released transform"
    assert views.short("at-fr@fr_transform=none") == "at-fr, logit pairing"
    assert views.short("at-fr-swa@fr_lambda=0.005") == "at-fr-swa, equation 2, λ 0.005"
    assert views.short("trades@fr_lambda=0.5") == "trades, fr_lambda=0.5"  # whose it is not
    assert views.short("at-fr@epochs=3") == "at-fr, epochs=3" and views.short("at-fr") == "at-fr"
    rows = [epoch(1), *(epoch(n, swa_val_pgd=v) for n, v in ((2, 0.1), (3, 0.4), (4, 0.2)))]
    assert book_tables.averaged_epochs(rows, views.best_epoch("at", rows, "swa_")["epoch"]) == 2


def test_the_table_of_the_curves_has_the_epochs_that_count():
    text = views.curve_points(HISTORY, "small", averaged=True)
    for cells in ("2, chosen on validation|60.0|35.0", "3, last|60.0|30.0", "3, average of 1|"):
        assert "<td>" + cells.replace("|", "</td><td>") in text, cells
    assert "The first 300 images, under PGD-4" in text
    assert "under PGD" not in views.curve_points(HISTORY, "somebodys-own")
    assert "not run" in views.curve_points({}, "small")


def test_tables_of_spectra_hold_what_the_figures_do():
    filters = [[1.0, 1.1, 1.2], [1.1, 1.2, 1.3], [1.0, 1.2, 1.25]] * 4  # of three kernels each
    figures = {"roughness": {"at": filters, "at-swa": filters,
                             "natural": [[kernel + 1 for kernel in row] for row in filters]},
               "radial": {"at": [8.0, 1.0, 1.0], "natural": [0.0, 1.0, 3.0]}}
    text = views.roughness_table(figures, "mini")
    assert "<td>natural</td><td>2.15</td><td>—</td><td>rougher (p &lt; 0.001)</td>" in text
    assert "<td>at</td><td>1.15</td><td>smoother (p &lt; 0.001)</td><td>—</td>" in text
    assert "<td>smoother (p &lt; 0.001)</td><td>alike (p = 1)</td>" in text
    assert "<td>at</td><td>0</td></tr><tr><td>natural</td><td>2</td>" in \
        views.radial_table(figures, "mini")


@pytest.mark.parametrize("side", [8, 32, 64])
def test_white_noise_has_the_rings_of_the_images(side):
    noise = torch.randn(400, 1, side, side, generator=torch.Generator().manual_seed(0))
    energy = spectral.radial_energy(noise).numpy()
    flat = views.flat_radial({"radial": {"at": energy.tolist()}})
    np.testing.assert_allclose(flat / flat.sum(), energy / energy.sum(), rtol=0.3)


def test_the_code_that_a_page_shows_is_what_runs_without_its_docstring():
    text = views.source(losses.dft_of_classes, attacks.pgd_step)
    assert text.startswith("```python\ndef dft_of_classes(difference: Tensor) -> Tensor:\n    ret")
    assert '"""' not in text and text.count("\ndef ") == 2 and text.endswith("high)\n```")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("FRLIB_ROOT", str(tmp_path))

    def write(folder, preset, label, seed=0, **content):
        path = tmp_path / folder / preset / label / f"seed{seed}.json"
        files.write_json(path, {"scores": {}, "table1": {}, "history": HISTORY["at"], **content})
    return write


def test_smoke_shows_the_first_committed_preset_that_has_what_is_needed(stored):
    own = config.load("smoke")
    assert views.shown(own) == ("smoke", {})
    for label in "at", "at-fr":
        stored("results", "small", label, mark=1)
    stored("results", "mini", "at")
    name, found = views.shown(own)
    assert name == "small" and found["at"][0]["mark"] == 1
    assert views.histories(found, ["at"]) == HISTORY
    assert views.shown(own, needed=["at"])[0] == "mini"
    stored("results", "table1", "at")
    assert views.shown(own, needed=["at"], before=["table1"])[0] == "table1"
    assert views.shown(own, before=["table1"])[0] == "small"  # no at-fr there
    assert views.shown(own, "smoke") == ("smoke", {})
    stored("runs/results", "small", "at", mark="own")  # own ones stand before them
    assert views.shown(config.load("small"))[1]["at"][0]["mark"] == "own"


def test_a_turned_knob_is_shown_itself_beside_the_partner_that_shares_all_else(stored):
    stored("results", "mini", "at-fr")
    for label in ("at", "at-fr", "at-fr@fr_lambda=0.5", "at@judge_images=20"):
        stored("runs/results", "smoke", label, made=label)
    turned = config.load("smoke", method="at-fr", fr_lambda=0.5)
    name, found = views.shown(turned)
    own = views.labels(turned, name)
    assert name == "smoke" and own["at-fr"] == "at-fr@fr_lambda=0.5" and own["at"] == "at"
    assert views.labels(turned, "mini", ["at-fr"]) == {"at-fr": "at-fr"}
    assert list(views.progress(turned, name, found, ["at", "at-fr", "trades"])) == [
        "at", "at-fr@fr_lambda=0.5"]
    text = views.curve_points({"at": HISTORY["at"]}, "smoke", wanted=[
        "at@judge_images=20", own["at-fr"]])
    assert text.count("not run") == 1 and "<td>at-fr@fr_lambda=0.5</td><td>not run</td>" in text
    badge = views.badge(turned, ["at", "at-fr"])
    assert ">at-fr@fr_lambda=0.5</a>" in badge and ">at-fr</a>" not in badge and ">at</a>" in badge
    caption = claims_tables.claims_html(name, found, ["C6"], own)
    assert "In these verdicts AT-FR is at-fr@fr_lambda=0.5." in caption
    assert "In these verdicts" not in claims_tables.claims_html(name, found, ["C19"], own)
    assert "<td>ours: at-fr@fr_lambda=0.5</td>" in book_tables.table2_html(name, found, own)
    # a partner that was not run, or not with this seed, is not another's
    for other in {"epochs": 3}, {"seed": 1}:
        c = config.load("smoke", method="at-fr", **other)
        assert views.progress(c, "smoke", views.shown(c)[1], ["at", "at-fr"]) == {}
    listed = book_tables.listed_readings("mini")[0]
    assert views.labels(config.load("mini", judge_eps="4/255"), "mini")[listed] == \
        f"{listed},judge_eps={4 / 255}"  # none of another radius stands beside the others unsaid
    judged = config.load("smoke", judge_images=20)
    assert views.shown(judged)[0] == "smoke"
    assert views.labels(judged, "smoke", ["at"]) == {"at": "at@judge_images=20"}
    official = config.load("smoke", method="trades", recipe="official")
    assert views.labels(official, "smoke", ["mart", "at-fr"]) == {"mart": "mart@recipe=official"}


def test_results_of_other_settings_are_not_the_presets(stored):
    stored("results", "small", "at", config={"model": "resnet8-32", "train_size": 2000})
    for preset in ("smoke", "small"):
        with pytest.raises(ValueError, match="preset small .*train_size = 2000 and 8000"):
            views.shown(config.load(preset), needed=["at"])


def test_a_badge_names_the_results_that_a_page_shows(stored):
    made = {"commit": "0123456789", "dirty": False, "device": "CPU", "threads": 1,
            "versions": {}, "date": "2026-01-02 03:04:05"}
    assert "smoke-mark" in views.badge(config.load("smoke"))
    stored("results", "small", "at", provenance=made, seconds={"train": 60, "judge": 60})
    stored("results", "small", "trades", provenance=made)
    text = views.badge(config.load("smoke"), ["at", "at-fr"], needed=["at"])
    assert ", while the cells of this page run smoke</summary>" in text
    assert "while" not in views.badge(config.load("small"), ["at"])
    assert "<strong>small</strong>" in text and "trades" not in text and "at-fr" not in text
    assert 'href="../../result-files/small/at/seed0.json"' in text and "commit 0123456 ·" in text
    assert ">trades</a>" in views.badge(config.load("smoke"), needed=["at"])
    assert "not run" in views.badge(config.load("smoke"), ["at-fr"], needed=["at"])


def test_figures_fall_back_to_the_own_run(stored):
    stored("results", "small", "at")
    with pytest.raises(FileNotFoundError, match="run notebooks"):
        views.shown_file("figures", config.load("smoke"))
    stored("runs/results", "smoke", "figures", mark="own")
    assert views.shown_file("figures", config.load("smoke"))[1]["mark"] == "own"
    stored("results", "small", "figures", mark="committed")
    assert views.shown_file("figures", config.load("smoke"))[1]["mark"] == "committed"


def test_table_1_as_lines():
    score = files.score([True, False, True, True])
    figures = {"table1": {"at": {"clean": {"32": score, "16": score}}}, "full_scale": None}
    (bandwidths, accuracies, lows, highs), = views.low_pass_lines(figures).values()
    assert bandwidths == [32, 16] and accuracies == [0.75, 0.75]
    assert lows[0] < 0.75 < highs[0]
    assert "75.0 [19.4,\u00a099.4]" in views.low_pass_table(figures, "small")
    assert views.low_pass_table({"table1": {}, "full_scale": None}, "small") == "not run"


# --- can the numbers be trusted?


def judged(**flags):
    """A result with these flags: strings of 0 and 1 per image."""
    scores = {name: files.score([int(flag) for flag in text]) for name, text in flags.items()}
    return {"scores": {"clean": files.score([1]), "cw": files.score([1]), **scores},
            "last": {}, "history": [], "checkpoint": "best"}


def suspicious(result):
    return {name for name, check in views.masking(result).items() if check and check["suspicious"]}


@pytest.mark.parametrize(("standing", "expected"), [(45, set()), (24, {"autoattack"})])
def test_a_far_stronger_autoattack_is_suspicious_a_stronger_one_is_not(standing, expected):
    result = judged(fgsm="1" * 60 + "0" * 40, pgd20="1" * 51 + "0" * 49,
                    aa="1" * standing + "0" * (50 - standing))
    result["scores"]["aa"]["stages"] = {"clean": 50, "fab-t": standing, "square": standing}
    result["zero_gradient"] = {"count": 0, "total": 100}
    assert "above 10 % in the first column" in views.masking_table({"at": result}, "small")
    found = [(check["count"], check["total"]) for check in views.masking(result).values()]
    assert found == [(50 - standing, 50), (0, 100), (0, 50), (0, 100)]
    assert suspicious(result) == expected
    natural = judged(fgsm="1" * 8 + "0" * 92, pgd20="0" * 100, aa="0" * 50)  # it breaks everywhere
    natural["scores"]["aa"]["stages"] = {"clean": 40, "apgd-ce": 0, "fab-t": 0, "square": 0}
    assert suspicious(natural) == set()


@pytest.mark.parametrize(("fgsm", "pgd20", "expected"), [
    ("0" * 8 + "1" * 92, "1" * 100, True), ("0" * 5 + "1" * 95, "1" * 100, False),
    ("0" * 8 + "1" * 92, "1" * 92 + "0" * 8, False), ("1" * 100, "0" * 8 + "1" * 92, False)])
def test_one_step_better_than_twenty_is_suspicious_beyond_chance(fgsm, pgd20, expected):
    check = views.masking(judged(fgsm=fgsm, pgd20=pgd20, aa="1"))["fgsm"]
    assert check["suspicious"] is expected
    assert check["count"] == sum(a == "0" < b for a, b in zip(fgsm, pgd20, strict=True))


@pytest.mark.parametrize(("only", "total", "expected"), [
    (0, 1000, False), (5, 1000, False), (6, 1000, True), (2, 100, True), (1, 100, False)])
def test_square_alone_is_suspicious_above_the_packages_threshold(only, total, expected):
    result = judged(fgsm="1", pgd20="1", aa="1" * total)
    result["scores"]["aa"]["stages"] = {"clean": total, "fab-t": total, "square": total - only}
    assert views.masking(result)["square"] \
        == {"count": only, "total": total, "suspicious": expected}


def test_what_a_result_lacks_is_not_run():
    result = judged(fgsm="11", pgd20="11", aa="10")
    assert views.masking(result)["square"] is views.masking(result)["zero_gradient"] is None
    assert views.masking_table({"at": result}, "small").count(">not run</td>") == 2
    assert views.overfitting(result) == {}
    assert views.overfitting_table({"at": result}, "small").count(">—</td>") == 4


def test_robust_overfitting_is_what_the_last_checkpoint_loses_on_the_same_images():
    result = judged(fgsm="1", pgd20="1" * 40 + "0" * 60, aa="1")
    result["last"] = {name: files.score([1] * 30 + [0] * 70) for name in ("clean", "pgd20")}
    result["history"] = HISTORY["at"]
    found = views.overfitting(result)
    assert found["gap"] == pytest.approx(10) and found["p"] == pytest.approx(2 / 2**10)
    assert found["peak"] == pytest.approx(5)
    assert views.overfitting({**result, "checkpoint": "swa-best"})["peak"] == 0
    table = views.overfitting_table({"at": result}, "small")
    for cell in ("100.0", "30.0", "40.0", "10.0 (p = 0.002)", "5.0"):
        assert f">{cell}</td>" in table
    assert '<td data-head="PGD-20 %, best">40.0</td>' in table  # a card on a phone


def test_the_published_figures_stand_below_ours():
    score = files.score([1, 0])
    result = {"seed": 0, "scores": dict.fromkeys(("clean", "fgsm", "pgd20", "cw", "aa"), score),
              "published": {"clean": 84.92, "aa": 53.08, "eps": 0.031}, "config": {"eps": 8 / 255}}
    table = views.benchmark_table({"published-x": result}, "small")
    assert "<td>as published, eps = 0.031</td><td>84.92</td><td>—</td>" in table
    assert "<td>53.08</td></tr>" in table
    result["published"]["eps"] = 8 / 255
    assert "<td>as published</td>" in views.benchmark_table({"published-x": result}, "small")
    result["published"] = {"clean": None, "aa": None, "eps": 8 / 255}
    assert "as published" not in views.benchmark_table({"published-x": result}, "small")


def test_a_preset_to_show_that_is_none_is_refused_and_another_seed_is_told(tmp_path):
    with pytest.raises(ValueError, match="show = 'mimi': there are no results of such a preset"):
        views.shown(config.load("smoke", runs_dir=str(tmp_path)), "mimi")
    found = {"at": {0: {"seed": 0}, 1: {"seed": 1}}, "at-fr": {0: {"seed": 0}}, "lens": {0: {}}}
    assert list(views.of_seed(found, 1)) == ["at", "at-fr, seed 0"]
    assert list(views.of_seed(found, 0)) == ["at", "at-fr"]


@pytest.mark.parametrize("path", sorted(REPO.glob("book/*.md")) + [REPO / "README.md"],
                         ids=lambda path: path.stem)
def test_what_a_page_tells_the_reader_to_import_is_there(path):
    for line in re.findall(r"from frlib[\w.]* import \w+(?:, \w+)*", path.read_text()):
        exec(line, {})


def test_nothing_of_a_table_becomes_markup():
    assert "&lt;b&gt;" in views.grid({"<b>": {"a": 0.5}}, "small")
