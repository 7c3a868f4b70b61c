"""Every figure draws, opaque and labelled, and carries the mark it is given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from frlib.publish import plots

MARK = "smoke preset: not comparable with the paper"
RNG = np.random.default_rng(0)
EPOCHS = [1, 2, 3]
LINES = [
    {"label": "at clean", "epochs": EPOCHS, "values": [0.3, 0.4, 0.5], "group": "at"},
    {"label": "at PGD", "epochs": EPOCHS, "values": [0.2, None, 0.3], "group": "at"},
    {"label": "at-fr PGD", "epochs": EPOCHS, "values": np.array([0.1, 0.2, 0.3])},
]
SPECTRUM = {"title": "horse", "clean_spectrum": RNG.random((8, 8)), "adv_spectrum": np.ones((8, 8))}
FLAT = {"title": "flat", "clean_spectrum": np.ones((4, 5)), "adv_spectrum": np.ones((4, 5))}
IMAGES = {"clean_image": RNG.random((8, 8, 3)), "adv_image": RNG.random((8, 8, 3))}
ATTACKS = {"at": {"clean": (0.8, 0.78, 0.82), "AA": (0.5, None, None)},
           "at-fr": {"clean": (0.8, 0.79, 0.81)}}
FILTERED = {"natural": ([8, 6], [0.9, 0.5], [0.88, 0.48], [0.92, 0.52]),
            "paper": ([8, 4], [0.94, 0.4], None, None)}
SHARES = {"at": {"low": (0.7, 0.6, 0.8), "high": (0.3, 0.2, 0.4)}}
SIDES = {"at": {"low_pass": ([8, 4], [0.9, 0.5]), "high_pass": ([2, 4], [0.8, 0.3])}}
MAPS = {f"model {i}": np.random.default_rng(i).random((4, 3)) for i in range(7)}
AXES = [-4, -2, 0, 2], [-2, 0, 2]

GAINS = {"at-fr": {"clean": (-9.0, -10.0, -8.0, 0.0), "AA": (1.0, -0.5, 2.5, 0.2)},
         "at-fr-swa, equation 2, λ 0.005": {"clean": (0.5, 0.1, 0.9, 0.04)}}
CLAIMS = [{"text": "it holds", "paper": 4.5, "ours": (-6.0, -7.0, -5.0), "verdict": "contradicted",
           "released": {"ours": (2.0, 1.0, 3.0), "verdict": "reproduced"}},
          {"text": "another claim, " * 4, "paper": None, "ours": None, "verdict": "not run",
           "released": None}]
SHARE = (0.5, 0.4, 0.6)
FRONT = {"AA": {"AT": {"": (SHARE, SHARE), "hollow: paper": ((0.8, None, None),) * 2},
                "AT-FR": {"λ 0": (SHARE, SHARE), "λ 1": ((0.3, 0.2, 0.4), SHARE)},
                "AT-FR-SWA": {"λ 1": ((0.31, 0.2, 0.4), SHARE)}}}

FIGURES = {
    "kernels": lambda **k: plots.kernels({"at": RNG.normal(size=(5, 3, 3, 3))}, count=4, **k),
    "kernels, one channel": lambda **k: plots.kernels({"a": np.zeros((2, 1, 3, 3))}, **k),
    "roughness": lambda **k: plots.roughness({"natural": RNG.random(900), "at": [1.0]}, **k),
    "spectra": lambda **k: plots.spectra([SPECTRUM | IMAGES], **k),
    "spectra, no images": lambda **k: plots.spectra([SPECTRUM], **k),
    "spectra, no attack": lambda **k: plots.spectra([FLAT], **k),
    "curves": lambda **k: plots.curves(LINES, best={"at PGD": 3}, drop=[2, 3], **k),
    "losses": lambda **k: plots.losses(LINES, drop=2, log=True, **k),
    "ascent": lambda **k: plots.ascent(LINES, **k),
    "low_pass_accuracy": lambda **k: plots.low_pass_accuracy(FILTERED, **k),
    "radial": lambda **k: plots.radial({"clean": [4.0, 1.0, 0.0], "adv": np.ones(3)}, **k),
    "attack_bars": lambda **k: plots.attack_bars(ATTACKS, **k),
    "band_shares": lambda **k: plots.band_shares(SHARES, {"low": 0.1, "high": 0.9}, **k),
    "differences": lambda **k: plots.differences(GAINS, base="AT", **k),
    "differences, twice": lambda **k: plots.differences(GAINS, last=GAINS, **k),
    "frontier": lambda **k: plots.frontier(FRONT, **k),
    "filtered_accuracy": lambda **k: plots.filtered_accuracy(SIDES, **k),
    "frequency_maps": lambda **k: plots.frequency_maps(MAPS, *AXES, label="accuracy (%)", **k),
    "frequency_maps, log": lambda **k: plots.frequency_maps(
        {"one, long": np.zeros((4, 3))}, *AXES, label="energy", log=True, **k),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_labelled_opaque_and_marked(name):
    fig = FIGURES[name](title="A title", mark=MARK)
    fig.draw_without_rendering()
    assert all(to_rgba(part.get_facecolor()) == (1, 1, 1, 1) for part in (fig, *fig.axes))
    assert any(ax.get_xlabel() for ax in fig.axes) and any(ax.get_ylabel() for ax in fig.axes)
    assert not plt.get_fignums(), "a figure was left open"
    texts = {text.get_text(): text for text in fig.findobj(Text) if text.get_visible()}
    assert "A title" in texts
    box, page = texts[MARK].get_window_extent(), fig.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    for legend in filter(None, (ax.get_legend() for ax in fig.axes)):
        assert legend.get_window_extent().y0 >= box.y1, "the legend covers the mark"


def lines_of(fig):
    return {line.get_label(): line for line in fig.axes[0].get_lines()}


def test_lines_of_one_group_share_a_colour_and_gaps_stay_gaps():
    lines = lines_of(plots.curves(LINES))
    np.testing.assert_allclose(lines["at PGD"].get_ydata(), [20, np.nan, 30])  # in percent
    look = {label: (line.get_color(), line.get_marker()) for label, line in lines.items()}
    assert look["at clean"][0] == look["at PGD"][0] != look["at-fr PGD"][0]
    assert len(set(look.values())) == 3


def test_the_best_epoch_is_ringed_and_a_wrong_one_refused():
    ring = [line for line in plots.curves(LINES, best={"at PGD": 3}).axes[0].get_lines()
            if line.get_markersize() == 12]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in ring] == [(3, 30)]
    with pytest.raises(ValueError, match="best names no line: nobody"):
        plots.curves(LINES, best={"nobody": 3})
    with pytest.raises(ValueError, match="best epoch 9 of at PGD"):
        plots.curves(LINES, best={"at PGD": 9})


def test_a_line_that_begins_as_another_is_thin_on_a_wide_one():
    late = {"label": "late", "epochs": EPOCHS, "values": [0.3, 0.4, 0.9]}
    lines = lines_of(plots.curves([*LINES, late]))
    widths = {label: line.get_linewidth() for label, line in lines.items()}
    assert widths["at clean"] > widths["at PGD"] == widths["at-fr PGD"] > widths["late"]


def test_a_long_training_is_drawn_smoothed_on_its_own_epochs():
    epochs, values = list(range(1, 61)), [0.01 * (n % 2) for n in range(60)]
    values[:10] = [None] * 10  # an average begins later
    plot = plots.curves([{"label": "at", "epochs": epochs, "values": values},
                         {"label": "none", "epochs": [], "values": []}], best={"at": 20})
    pale, wide, ring, *_ = plot.axes[0].get_lines()
    assert np.nanmax(pale.get_ydata()) == 1 and np.nanmax(wide.get_ydata()[13:-3]) < 0.6
    assert np.isnan(wide.get_ydata()[:10]).all() and wide.get_ydata()[10] == 0.5  # of 4 values
    assert ring.get_ydata()[0] == wide.get_ydata()[19] and ring.get_color() == wide.get_color()
    assert "mean of 7" in " ".join(text.get_text() for text in plot.axes[0].get_legend().texts)
    steps = plots.ascent([{"label": "PGD", "epochs": epochs, "values": range(60)}])
    assert lines_of(steps)["PGD"].get_ydata()[0] == 0  # steps of an attack are no epochs


def test_nothing_shows_before_a_drop_that_comes_after_it():
    epochs, values = list(range(1, 61)), [0.1] * 30 + [0.5] * 30
    plot = plots.curves([{"label": "at", "epochs": epochs, "values": values}], drop=30.5)
    assert lines_of(plot)["at"].get_ydata().tolist() == pytest.approx([10] * 30 + [50] * 30)


def test_no_filter_stands_at_the_left_and_an_interval_is_as_long_as_given():
    ax = plots.low_pass_accuracy(FILTERED).axes[0]
    assert ax.xaxis_inverted() and list(ax.get_xticks()) == [4, 6, 8]
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[88, 92], [48, 52]])


def test_radial_energy_is_shown_as_a_share_without_zeros():
    share = lines_of(plots.radial({"clean": [4.0, 1.0, 0.0]}))["clean"].get_ydata()
    np.testing.assert_allclose(share, [0.8, 0.2, np.nan])
    lines = lines_of(plots.radial({"clean": [4.0, 1.0, 0.0]}, np.array([1.0, 2.0, 1.0])))
    np.testing.assert_allclose(lines["white noise"].get_ydata(), [0.25, 0.5, 0.25])


@pytest.mark.parametrize("function", [plots.kernels, plots.roughness, plots.spectra, plots.curves,
                                      plots.losses, plots.low_pass_accuracy, plots.radial,
                                      plots.attack_bars, plots.filtered_accuracy, plots.frontier,
                                      plots.differences, plots.forest,
                                      lambda empty: plots.band_shares(empty, {}),
                                      lambda none: plots.frequency_maps(none, [0], [0], label="")])
def test_nothing_to_draw_is_an_error(function):
    with pytest.raises(ValueError, match="nothing to draw"):
        function([] if function in (plots.spectra, plots.curves, plots.losses) else {})


def test_a_difference_within_chance_is_hollow_and_each_attack_has_its_scale():
    fig = plots.differences(GAINS, base="AT")
    clean, aa = fig.axes
    points = [[line for line in ax.lines if line.get_marker() == "o"] for ax in (clean, aa)]
    hollow = [[line.get_markerfacecolor() == "white" for line in found] for found in points]
    assert hollow == [[False, False], [True]]
    assert [line.get_xdata()[0] for line in points[0]] == [-9, 0.5]
    assert clean.get_xlim() != aa.get_xlim() and "not run" in [t.get_text() for t in aa.texts]
    assert [t.get_text() for t in clean.get_yticklabels()] == [
        "at-fr", "at-fr-swa, equation 2,\nλ\N{NO-BREAK SPACE}0.005"]


def test_the_differences_of_the_last_checkpoint_are_squares_below_the_circles():
    run = next(iter(GAINS))
    attack, (value, *_) = next(iter(GAINS[run].items()))
    fig = plots.differences({run: {attack: (value, value, value, 0)}},
                            last={run: {attack: (value + 3, value, value + 9, 0)}})
    marks = {line.get_marker(): line for line in fig.axes[0].lines if len(line.get_xdata()) == 1}
    circle, square = marks["o"], marks["s"]
    assert square.get_xdata()[0] - circle.get_xdata()[0] == 3
    assert square.get_ydata()[0] > circle.get_ydata()[0]  # the axis points down
    legend, = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["chosen checkpoint",
                                                                "last checkpoint"]


def test_the_verdicts_of_the_forest_stand_beside_their_marks_and_rows_apart():
    ax = plots.forest(CLAIMS).axes[0]
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    marks = {line.get_marker(): line.get_ydata()[0] for line in ax.lines
             if len(line.get_xdata()) == 1 and line.get_transform() != ax.transData}
    assert places["contradicted"] == marks["o"] or places["not run"] == marks["o"]
    assert places["reproduced"] == marks["s"]
    assert places["reproduced"] - places["contradicted"] > 1  # in lines of text
    bottom, top = ax.get_ylim()
    lines = (bottom - top) * 12 / 72  # inches
    assert lines < ax.figure.get_figheight()


def test_the_frontier_keeps_the_paper_apart_and_joins_a_regulariser():
    ours, paper = plots.frontier(FRONT).axes
    assert paper.get_title() == "paper" and ours.get_xlim()[1] < 80 < paper.get_xlim()[1]
    joined = [line for line in ours.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose([line.get_xdata() for line in joined], [[50, 30]])
    assert [text.get_text() for text in ours.texts] == ["λ 0", "λ 1"]
    handles = ours.figure.legends[0].legend_handles
    looks = [(handle.get_color(), handle.get_marker()) for handle in handles]
    assert looks[1][0] == looks[2][0] != looks[0][0] and len({marker for _, marker in looks}) == 3


def test_maps_share_a_scale_and_stand_at_their_frequencies():
    fig = plots.frequency_maps(MAPS, *AXES, label="accuracy (%)")
    images = [ax.get_images()[0] for ax in fig.axes[:7]]
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_extent() == [-3, 3, 3, -5]  # row 0 is the frequency -4, at the top
    assert [ax.get_visible() for ax in fig.axes[:9]] == [True] * 7 + [False] * 2


def test_long_names_in_the_legend_leave_the_panels_their_width():
    share = (0.5, 0.4, 0.6)
    names = [f"AT-FR-SWA, equation 2, from epoch {epoch}" for epoch in range(11, 21)]
    fig = plots.frontier({attack: {name: {"": (share, share)} for name in names}
                          for attack in ("PGD-20", "C&W")})
    fig.draw_without_rendering()
    assert all(ax.get_position().width > 0.7 for ax in fig.axes)
