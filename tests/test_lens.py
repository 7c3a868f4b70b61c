"""The page on the spectral lens: intervals, tables, and what is drawn, from known numbers."""

import copy

import numpy as np
import pytest

from frlib.publish import frequency_views
from frlib.run.files import score


def first(count, total=40):
    """Flags of which the first `count` are right."""
    return score(np.arange(total) < count)


def scores(clean, low, middle, high, free):
    return {"clean": first(clean), "low": first(low), "middle": first(middle), "high": first(high),
            "all": first(free)}


def curve(*counts):
    return dict(zip(("1", "8", "32"), map(first, counts), strict=True))


NUMBERS = {  # on a 3 x 3 map: the centre is low, its four neighbours middle, the corners high
    "images": 40, "classes": 10, "edges": [0.5, 1.2],
    "bands": {"low": 0.1, "middle": 0.4, "high": 0.5},
    "vertical": [-1, 0, 1], "horizontal": [-1, 0, 1],
    "scores": {"natural": scores(36, 30, 20, 2, 0), "at": scores(30, 8, 20, 21, 10),
               "at-fr@fr_transform=batch-class": scores(30, 20, 20, 21, 10)},
    "inside": {"natural": {"low": [0.8, 0.6], "middle": [1.0], "high": []},
               "at": {"low": [0.9]}, "at-fr@fr_transform=batch-class": {"low": [1.0]}},
    "size": {"natural": {"low": [0.7, 0.5], "middle": [0.3], "high": []}, "at": {"low": [0.8]},
             "at-fr@fr_transform=batch-class": {"low": [0.8]}},
    "shares": {"natural": [[0.1, 0.4, 0.5]] * 40, "at": [[0.7, 0.2, 0.1]] * 40,
               "at-fr@fr_transform=batch-class": [[0.4, 0.4, 0.2]] * 40},
    "maps": {"natural": [[0.0, 0.5, 0.1], [0.6, 0.9, 0.4], [0.1, 0.5, 0.2]],
             "at": [[0.7, 0.5, 0.7], [0.5, 0.1, 0.5], [0.7, 0.5, 0.7]],
             "at-fr@fr_transform=batch-class": [[0.5] * 3] * 3},
    "energy": {"natural": [[3.0, 1.5, 2.9], [1.4, 0.1, 1.6], [2.9, 1.5, 2.8]],
               "at": [[0.1, 0.5, 0.1], [0.5, 6.0, 0.5], [0.1, 0.5, 0.1]],
               "at-fr@fr_transform=batch-class": [[0.1, 0.5, 0.1], [0.5, 6.0, 0.5],
                                                  [0.1, 0.5, 0.1]]},
    "filters": {"natural": {"low_pass": curve(4, 19, 36), "high_pass": curve(36, 20, 4)},
                "at": {"low_pass": curve(4, 16, 30), "high_pass": curve(30, 16, 4)},
                "at-fr@fr_transform=batch-class": {"low_pass": curve(15, 30, 30),
                                                   "high_pass": curve(14, 14, 14)}}}


# --- bootstrap


def test_an_interval_is_as_wide_as_the_central_limit_says():
    values = np.random.default_rng(0).normal(5, 2, 400)
    mean, low, high = frequency_views.bootstrap(values, resamples=5000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert mean == values.mean()
    np.testing.assert_allclose([low, high], [mean - half, mean + half], atol=0.1 * half)
    _, lower, higher = frequency_views.bootstrap(values, confidence=0.5)
    assert low < lower < mean < higher < high
    first, again, other = (frequency_views.bootstrap(values[:30], seed=seed) for seed in (0, 0, 1))
    assert first == again == frequency_views.bootstrap(values[:30]) != other
    with pytest.raises(ValueError, match="at least one image"):
        frequency_views.bootstrap([])


# --- numbers


def test_numbers_keep_their_places_and_a_band_has_the_mean_of_its_ring():
    assert frequency_views.shares(NUMBERS)["at"]["high"] == pytest.approx((0.1, 0.1, 0.1))
    share, low, high = frequency_views.accuracies(NUMBERS)["natural"]["middle"]
    assert share == 0.5 and low < 0.4 and high > 0.6
    assert frequency_views.filtered(NUMBERS)["at"]["low_pass"] == ([1, 8, 32], [0.1, 0.4, 0.75])
    assert frequency_views.band_means(NUMBERS, "maps")["natural"] \
        == pytest.approx({"low": 0.9, "middle": 0.5, "high": 0.1})


def test_the_weakest_band_has_the_exact_p_of_the_next():
    found = frequency_views.weakest(NUMBERS)
    assert found["natural"] == ("high", pytest.approx(2 / 2 ** 18))
    assert found["at"] == ("low", pytest.approx(2 / 2 ** 12))
    assert found["at-fr, released transform"] == ("low", 1.0)


def test_agreement_is_a_rank_correlation_and_undefined_without_ranks():
    found = frequency_views.agreement(NUMBERS)
    assert found["natural"] > 0.9 and found["at-fr, released transform"] is None
    # at: the centre first in both; middle before high in both; ties in both
    assert found["at"] == pytest.approx(1)
    turned = copy.deepcopy(NUMBERS)
    turned["maps"]["at"] = (1 - np.array(turned["maps"]["at"])).tolist()
    assert frequency_views.agreement(turned)["at"] == pytest.approx(-1)


# --- tables


def test_the_table_holds_every_lens():
    text = frequency_views.summary_table(NUMBERS, "mini").replace("\N{NO-BREAK SPACE}", " ")
    for row in ("natural|10.0 [10.0, 10.0]|50.0 [50.0, 50.0]|high (p &lt; 0.001)|90 / 50 / 10|+",
                "at|70.0 [70.0, 70.0]|10.0 [10.0, 10.0]|low (p &lt; 0.001)|10 / 50 / 70|+1.00",
                "none (p = 1)|50 / 50 / 50|—|8|—"):
        assert row.replace("|", "</td><td>") in text, row
    # half-way from chance, 4 of 40, to 36 and to 30 right
    assert list(frequency_views.half_kept(NUMBERS).values()) == [(32, 8), (32, 1), (8, None)]
    text = frequency_views.kept_table(NUMBERS, "mini")
    assert "<td>natural</td><td>70.0 / 100.0 / —</td><td>0.60 / 0.30 / —</td>" in text


def test_a_network_that_gets_no_image_right_has_its_numbers_and_tables():
    wrong = {**NUMBERS, "scores": {"at": scores(0, 0, 0, 0, 0)},
             "inside": {"at": {"low": [], "middle": [], "high": []}},
             "size": {"at": {"low": [], "middle": [], "high": []}},
             "maps": {"at": [[0.0] * 3] * 3}, "energy": {"at": [[1.0] * 3] * 3},
             "shares": {"at": NUMBERS["shares"]["at"]}, "filters": {"at": NUMBERS["filters"]["at"]}}
    assert frequency_views.weakest(wrong)["at"][1] == 1
    assert frequency_views.agreement(wrong) == {"at": None}
    for table in (frequency_views.summary_table, frequency_views.kept_table):
        assert "nan" not in table(wrong, "mini")


def test_a_band_without_a_frequency_on_a_coarse_map_is_left_out():
    coarse = {**NUMBERS, "vertical": [-1], "horizontal": [-1, 0], "maps": {"at": [[0.2, 0.4]]},
              "energy": {"at": [[2.0, 1.0]]}}
    assert frequency_views.band_means(coarse, "maps") == {"at": {"middle": 0.4, "high": 0.2}}
    assert "under waves, middle / high<" in frequency_views.summary_table(
        {**coarse, **{key: {"at": NUMBERS[key]["at"]} for key in ("shares", "scores", "filters")}},
        "mini")


# --- figures
