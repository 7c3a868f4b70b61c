"""The page on the spectral lens: intervals, what is drawn, and sentences, from known numbers."""

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
    "size": {"natural": {"low": [0.7, 0.5], "middle": [0.3], "high": []}, "at": {"low": [0.8]}},
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
    assert found["at-fr, batch-class"] == ("low", 1.0)


def test_agreement_is_a_rank_correlation_and_undefined_without_ranks():
    found = frequency_views.agreement(NUMBERS)
    assert found["natural"] > 0.9 and found["at-fr, batch-class"] is None
    # at: the centre first in both; middle before high in both; ties in both
    assert found["at"] == pytest.approx(1)
    turned = copy.deepcopy(NUMBERS)
    turned["maps"]["at"] = (1 - np.array(turned["maps"]["at"])).tolist()
    assert frequency_views.agreement(turned)["at"] == pytest.approx(-1)


# --- sentences


def test_sentences_hold_the_numbers():
    text = frequency_views.seen_shares(NUMBERS)
    assert "the low band holds 10.0 % [10.0, 10.0] (**natural**) to 70.0 % [70.0, 70.0] (**at**)" \
        in text
    assert "the high band holds 10.0 % [10.0, 10.0] (**at**) to 50.0 %" in text
    assert "White noise would have 10 / 40 / 50 %" in text
    text = frequency_views.seen_bands(NUMBERS)
    assert "the low band for **at**; the high band for **natural**" in text
    assert "no band beyond chance for **at-fr, batch-class**" in text
    assert "at least 70.0 %" in text and "(natural, low band)" in text
    assert "square is 0.30 to 0.80 of the radius" in text
    assert "at 10 / 50 / 70" in frequency_views.seen_maps(NUMBERS)
    text = frequency_views.seen_agreement(NUMBERS)
    assert "over the 9 frequencies" in text and "at-fr, batch-class undefined" in text
    assert "for 2 of 3 models (**natural**, **at**)" in text  # a map without weak spots agrees not
    # half-way from chance, 4 of 40, to 36 and to 30 right
    assert "natural 32 and 8; at 32 and 1; at-fr, batch-class 8 and none" \
        in frequency_views.seen_filters(NUMBERS)


def test_a_network_that_gets_no_image_right_has_its_numbers_and_sentences():
    wrong = {**NUMBERS, "scores": {"at": scores(0, 0, 0, 0, 0)},
             "inside": {"at": {"low": [], "middle": [], "high": []}},
             "size": {"at": {"low": [], "middle": [], "high": []}},
             "maps": {"at": [[0.0] * 3] * 3}, "energy": {"at": [[1.0] * 3] * 3},
             "shares": {"at": NUMBERS["shares"]["at"]}, "filters": {"at": NUMBERS["filters"]["at"]}}
    assert frequency_views.weakest(wrong)["at"][1] == 1
    assert frequency_views.agreement(wrong) == {"at": None}
    for seen in ("seen_shares", "seen_bands", "seen_maps", "seen_agreement", "seen_filters"):
        assert "nan" not in getattr(frequency_views, seen)(wrong)


def test_a_band_without_a_frequency_on_a_coarse_map_is_left_out():
    coarse = {**NUMBERS, "vertical": [-1], "horizontal": [-1, 0], "maps": {"at": [[0.2, 0.4]]},
              "energy": {"at": [[2.0, 1.0]]}}
    assert frequency_views.band_means(coarse, "maps") == {"at": {"middle": 0.4, "high": 0.2}}
    assert "of the middle / high band: at 40 / 20." in frequency_views.seen_maps(coarse)
    assert "for 1 of 1 models" in frequency_views.seen_agreement(coarse)


# --- figures
