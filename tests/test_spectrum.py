"""The page on the spectrum: gaps, fronts and doubts, from known flags."""

import matplotlib

matplotlib.use("Agg")

import pytest

from frlib.publish import comparison, more_images, plots, result_format, spectrum_views
from frlib.run import config
from frlib.run.files import score, write_json


def first(count, total=40):
    """Flags of which the first `count` are right."""
    return score([i < count for i in range(total)])


def result(clean, pgd20, cw, aa, **config):
    return {0: {"config": config, "data": {"test": "abc"}, "scores": {
        "clean": first(clean), "pgd20": first(pgd20), "cw": first(cw),
        "aa": {**first(aa, 20), "stages": {"apgd-ce": aa + 2, "square": aa}}}}}


RESULTS = {"at": result(30, 18, 16, 10, beta=6.0),
           "at-fr": result(24, 20, 16, 11, fr_lambda=0.1),
           "at-fr@fr_transform=none": result(28, 40, 15, 9, fr_lambda=0.1, fr_transform="none")}
LABELS = [*RESULTS, "mart"]


def test_the_gap_is_on_autoattacks_images():
    value, low, high = spectrum_views.gap(RESULTS, "at")  # 18 and 10 of the first 20
    assert value == pytest.approx(40) and low < 40 < high
    assert spectrum_views.gap(RESULTS, "mart") is None
    table = spectrum_views.gap_table(RESULTS, LABELS, "small")
    assert "<td>+40.0 [" in table and "<td>+3.59</td>" in table and "first 20 test" in table
    assert "<td>90.0 [68.3,\u00a098.8]</td>" in table  # PGD-20 of AT: 18 of 20, not of 40
    gains = spectrum_views.gains_table(RESULTS, LABELS, "at", "small")
    assert "<td>+10.0 [" in gains and "<td>+4.48</td><td>" in gains and "not run" in gains
    assert "<td>at</td><td>12</td><td>10</td>" in spectrum_views.stages_table(RESULTS, LABELS, "")


def test_autoattack_on_more_images_is_set_beside_that_of_the_results(tmp_path):
    file = tmp_path / "autoattack-mini.json"
    here = {label: {0: {"checkpoint_sha256": label, "scores": {"aa": first(count, 20)}}}
            for label, count in (("at", 10), ("at-fr", 14))}

    def shown():
        return more_images.more_images_table(here, ["at-fr", "mart"], "at", "mini", tmp_path)

    assert "not run" in shown()
    write_json(file, {"first": 20, "images": 40, "networks": {
        label: {"checkpoint_sha256": label, **first(count)}
        for label, count in (("at", 20), ("at-fr", 22))}})
    text = shown()
    assert "<td>1 to 20</td><td>0</td><td>50.0 [" in text and "<td>+20.0 [" in text
    assert "<td>21 to 60</td><td>0</td><td>50.0 [" in text and "<td>+5.0 [" in text
    assert "<td>1 to 60</td>" in text and "<td>+10.0 [" in text and "<td>p = 0.031</td>" in text
    assert text.count("not run") == 3 and text.count("<tr>") == 4
    write_json(tmp_path / "autoattack-mini-seed2.json", {
        "seed": 2, "first": 20, "images": 40, "networks": {"at": first(20), "at-fr": first(12)}})
    text = shown()  # runs of another seed, of other weights
    assert "<td>21 to 60</td><td>2</td><td>50.0 [" in text and "<td>-20.0 [" in text
    here["at"][3] = {"checkpoint_sha256": "kept", "scores": {"aa": first(5, 20)}}
    write_json(tmp_path / "autoattack-mini-seed3.json", {
        "seed": 3, "first": 20, "images": 40, "networks": {
            "at": {"checkpoint_sha256": "kept", **first(10)}}})
    text = shown()  # runs that the results are of
    assert "<td>1 to 60</td><td>3</td><td>25.0 [" in text and text.count("<tr>") == 8
    page = more_images.more_images_page(here, ["at-fr"], "at", "mini", tmp_path)
    assert ":name: more-images-mini" in page and "  - +5.0 [" in page
    here["at"][3]["scores"]["aa"] = first(5, 50)  # judged again, on some of the others, too
    assert "<td>1 to 60</td><td>3</td><td>25.0 [" in shown()
    (tmp_path / "autoattack-mini-seed3.json").unlink()
    here["at"][0]["checkpoint_sha256"] = "trained again"  # by a reader: other weights
    text = shown()
    assert "<td>+5.0 [" not in text and text.count("not run") == 3 * 3 + 1 and "<td>-20.0 [" in text


def test_controls_are_what_the_preset_lists_or_has():
    smoke, wanted = config.load("smoke"), ["at", "at-fr", "at-fr@fr_transform=none"]
    assert spectrum_views.controls(smoke, "smoke", RESULTS) == wanted
    found = spectrum_views.controls(smoke, "mini", {})
    assert "at-fr@fr_lambda=0.42,fr_transform=none" in found
    assert not any("start_epoch" in label for label in found)
    assert "at-fr@fr_lambda=0.005" not in found
    assert spectrum_views.late_controls(smoke, "smoke", RESULTS) == ["at"]
    late = spectrum_views.late_controls(smoke, "mini", {})
    assert late[:2] == ["at", "at-fr@fr_start_epoch=11"] and len(late) == 4
    assert all("fr_transform" in label and "start_epoch=11" in label for label in late[2:])


def test_the_front_is_what_none_beats_on_both_axes():
    points = {"a": (3, 1), "b": (2, 2), "c": (1, 1), "d": (2, 1)}
    assert spectrum_views.unbeaten(points) == ["a", "b", "d"]
    text = spectrum_views.unbeaten_table(RESULTS, "small")
    assert "<td>PGD-20</td><td>at; at-fr, logit pairing</td>" in text
    assert "<td>AT-AWP; AT-SWA; AT-FR-SWA</td></tr></tbody>" in text
    assert spectrum_views.unbeaten_table({}, "small").count("not run") == 3


FOUND = {  # a sound network and one that hides its gradient
    "images": 40, "settings": {"eps": 0.1},
    "radius": {"at": {"0": first(30), "8": first(20), "64": first(0)},
               "at-fr": {"0": first(30), "8": first(30), "64": first(9)}},
    "scale": {"at": {"0.1": first(20), "1": first(20)}, "at-fr": {"0.1": first(8), "1": first(30)}},
    "stronger": {"at": {"margin": first(18)}, "at-fr": {"margin": first(10)}},
    "transfer": {"at": {"at": first(20), "at-fr": first(12)},
                 "at-fr": {"at": first(28), "at-fr": first(30)}}}


def test_a_hidden_gradient_is_told_by_every_check():
    told = spectrum_views.doubts(FOUND)
    assert told == {"at": [], "at-fr": [
        "9 of 40 images hold at 64/255", "logits times 0.1: 22 more broken",
        "the images of at: 18 more broken", "margin: 20 more broken"]}
    text = spectrum_views.doubts_table(FOUND, "small")
    assert "<td>at</td><td>nothing</td>" in text and "<td>at-fr</td><td>9 of 40" in text
    assert "not run" in spectrum_views.doubts_table({}, "small")
    assert "<td>50.0 [" in spectrum_views.checks_table(FOUND, "transfer", "small", "from")
    assert "not run" in spectrum_views.checks_table({}, "scale", "small", "x")
    assert not result_format.misfit({**FOUND, "seed": 0}, result_format.SOUNDNESS)
    broken = {"radius": {"at": {"0": {**first(3), "correct": 4}}}}
    assert result_format.misfit(broken, result_format.SOUNDNESS) == "radius.at.0 is not a score"


# --- figures

def test_the_frontier_has_two_panels_for_each_attack_and_begins_at_at():
    panels = spectrum_views.panels(RESULTS)
    assert list(panels) == ["PGD-20, first 40 test images", "C&W, first 40 test images",
                            "AutoAttack, first 20 test images"]
    groups = panels["C&W, first 40 test images"]
    assert list(groups["AT-FR, equation 2"]) == ["λ 0", "λ 0.1", comparison.PAPER]
    assert groups["AT-FR, equation 2"]["λ 0"] == groups["AT"][""]
    assert list(groups["AT-FR-SWA, equation 2"]) == [comparison.PAPER]  # AT-SWA was not run
    fig = plots.frontier(panels, title="t")
    assert {ax.get_title() for ax in fig.axes[::2]} == set(panels)
    assert {ax.get_title() for ax in fig.axes[1::2]} == {"paper, WRN-34-10"}
    hollow = [line for line in fig.axes[1].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 7  # the rows of Table 2
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert "AT-FR, logit pairing" in legend


def test_differences_are_in_points_by_run_and_attack():
    found = spectrum_views.differences(RESULTS, LABELS, "at")
    assert list(found) == ["at-fr", "at-fr, logit pairing"]
    assert list(found["at-fr"]) == ["Clean", "PGD-20", "C&W", "AutoAttack (first 20)"]
    value, low, high, p = found["at-fr"]["Clean"]
    assert value == pytest.approx(-15) and low < -15 < high and 0 < p < 1
    assert list(spectrum_views.differences(RESULTS, LABELS, "at", ["cw"])["at-fr"]) == ["C&W"]
