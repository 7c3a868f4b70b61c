"""The numbers of chapters 5 and 8: made once for each network, stored with what they are of."""

import pytest
import torch
from conftest import write_preset
from safetensors.torch import save_file

from frlib import attacks, data, evaluate, models, train
from frlib.__main__ import main
from frlib.publish import notebook_views, plots
from frlib.publish.collected import collect
from frlib.run import config, evaluate_run, export, figures, files, soundness
from frlib.run.places import resolve

SMALL = """preset: drawn
settings: {runs: [natural, at], threads: 1, dataset: digits, train_size: 64, flip: false,
           model: resnet8-16, epochs: 1, batch_size: 32, steps: 1, curve_images: 4, curve_steps: 1,
           judge_images: 12, aa_images: 1, judge_batch: 100}
"""
MAKE = {"figures": figures.figures, "lens": figures.lens}
ALL = {**MAKE, "soundness": soundness.soundness}


@pytest.fixture(scope="module")
def trained(own_root, tmp_path_factory):
    (own_root / "drawn").mkdir()
    (own_root / "drawn" / "drawn.yaml").write_text(SMALL)
    folder = tmp_path_factory.mktemp("drawn")
    for method in ("natural", "at"):
        train.train(config.load("drawn/drawn.yaml", method=method, runs_dir=str(folder)))
    return folder


@pytest.fixture
def base(trained, tmp_path, monkeypatch):
    """The preset of the two runs, with results of this test's own; nothing slow is computed."""
    monkeypatch.setattr(figures, "attacked_images", lambda model, x, y, config, *attack, **more:
                        (x + config.judge_eps).clamp(max=1))
    images = figures.images
    monkeypatch.setattr(figures, "images", lambda c, count: images(c, min(count, 20)))
    monkeypatch.setattr(figures, "wave_map", lambda *a, **k: torch.zeros(8, 8))
    (tmp_path / "drawn").mkdir()
    for method in ("natural", "at"):
        (tmp_path / "drawn" / method).symlink_to(trained / "drawn" / method)
    return config.load("drawn/drawn.yaml", runs_dir=str(tmp_path))


@pytest.fixture
def measured(monkeypatch):
    """The labels of the networks that are measured, in turn."""
    labels, network = [], figures.network
    for module in "figures", "measured":
        monkeypatch.setattr(f"frlib.run.{module}.network",
                            lambda c, test: labels.append(c.label) or network(c, test))
    return labels


@pytest.mark.parametrize("what", MAKE)
def test_numbers_are_made_once_with_what_they_are_of(base, measured, what):
    made = MAKE[what](base)
    labels = ["natural", "at", "at-swa"]
    assert measured == labels and made == files.read_json(evaluate_run.result_path(base, what))
    assert MAKE[what](base) == made and measured == labels
    assert made["checkpoint_sha256"] == {
        label: evaluate_run.trained_checksum(c)
        for label, c in figures.finished(base).items()}
    test = figures.images(base, made["images"])
    assert made["data"] == {"test": test.checksum} and made["provenance"]["device"]
    right = files.score(evaluate.correct(figures.network(figures.finished(base)["at"], test),
                                         test.x, test.labels))
    clean = {"figures": lambda: made["table1"]["at"]["clean"]["32"],
             "lens": lambda: made["scores"]["at"]["clean"]}[what]()
    assert clean == right and clean["total"] == {"figures": 12, "lens": 20}[what]


def test_soundness_is_stored_like_them_network_by_network(base, measured, monkeypatch):
    monkeypatch.setattr("frlib.run.measured.brief", lambda config: False)  # of all networks
    monkeypatch.setattr(soundness, "STEPS", 2)
    assert main(["soundness", "--preset", "drawn/drawn.yaml", "--runs-dir", base.runs_dir]) == 0
    assert measured == 2 * ["at", "at-swa"]  # each by itself, then its images on all of them
    path = evaluate_run.result_path(base, "soundness")
    made = files.read_json(path)
    assert soundness.soundness(base) == made and measured == 2 * ["at", "at-swa"]
    assert made["numerics"] == {"judge": 1} and made["images"] == 1
    assert list(made["transfer"]["at"]) == list(made["radius"]) == ["at", "at-swa"]
    assert collect("drawn", path.parents[2])["soundness"][0]["scale"] == made["scale"]
    path.unlink()  # what was measured of each network is still there
    monkeypatch.setattr("frlib.run.measured.finished", lambda c, methods: {"at": c})
    assert soundness.soundness(base)["transfer"].keys() == {"at"}
    assert measured == [*2 * ["at", "at-swa"], "at"]  # only the transfer depends on them all


def test_soundness_of_published_weights_needs_no_run(base, tmp_path, measured, monkeypatch):
    place = tmp_path / "committed"
    monkeypatch.setattr("frlib.run.export.project_root", lambda: place)
    where = ["--preset", "drawn/drawn.yaml", "--runs-dir", str(tmp_path / "none")]
    assert main(["soundness", "--published", *where]) == 1  # nothing is published
    model = models.create("resnet8-16").eval()
    file = export.weights_path("drawn", "at", 0, place / "results")
    file.parent.mkdir(parents=True)
    save_file({name: tensor.float() for name, tensor in model.state_dict().items()
               if not name.endswith("num_batches_tracked")}, file)
    own = config.load("drawn/drawn.yaml", runs_dir=str(tmp_path / "none"))
    about = {"config": own.of("at").group("train", "judge"), "checkpoint_sha256": "that of the run",
             "weights": files.file_checksum(file)}
    files.write_json(file.with_name("seed0.json"), about)
    assert main(["soundness", "--published", *where]) == 0 and not measured
    made = files.read_json(place / "results/drawn/soundness/seed0.json")  # beside the weights
    assert not evaluate_run.result_path(own, "soundness").exists()
    assert made["checkpoint_sha256"] == {"at": "that of the run"} and made["images"] == 1
    test = figures.images(own, 1)
    right = files.score(evaluate.correct(model, test.x, test.labels))
    assert made["radius"]["at"]["0"] == right  # at a radius of 0: without attack
    with monkeypatch.context() as patch:  # no images, as of a wrong --data-root
        patch.setattr("frlib.run.measured.images", lambda *_: open(tmp_path / "nowhere"))
        assert main(["soundness", "--published", "--redo", *where]) == 1
    path = place / "results/drawn/soundness/seed0.json"
    assert files.read_json(path) == made and list(path.parent.iterdir()) == [path]
    for other in ({"seed": 1}, {"epochs": 2}):
        with pytest.raises(ValueError, match="published weights are those of seed 0"):
            soundness.soundness(config.load("drawn/drawn.yaml", **other), published=True)
    about["config"]["eps"] = 1
    files.write_json(file.with_name("seed0.json"), about)
    with pytest.raises(ValueError, match="made with another eps than the preset has now"):
        soundness.soundness(own, published=True)


@pytest.mark.parametrize("what, knob", [("figures", {"bandwidths": [32, 16]}), (
    "lens", {"images": 5, "methods": ["at"], "stride": 16, "bandwidths": [1]})])
def test_a_turned_knob_is_measured_and_not_stored(base, what, knob):
    made = MAKE[what](base, **knob)
    assert {key: made["settings"][key] for key in knob} == knob
    assert not evaluate_run.result_path(base, what).exists()
    assert not (resolve(base.runs_dir) / "drawn" / what).exists()


def test_a_killed_one_goes_on_and_a_later_run_is_added(base, measured, monkeypatch):
    finished, sound = figures.finished, figures.spectral.radial_energy
    calls = iter([sound])

    def killed(change):
        return next(calls, None)(change)  # TypeError at the second network

    monkeypatch.setattr(figures, "finished", lambda c: {
        label: each for label, each in finished(c).items() if label != "natural"})
    monkeypatch.setattr(figures.spectral, "radial_energy", killed)
    with pytest.raises(TypeError):
        figures.figures(base)
    path = evaluate_run.result_path(base, "figures")
    assert measured == ["at", "at-swa"] and not path.exists()
    monkeypatch.setattr(figures.spectral, "radial_energy", sound)
    some = figures.figures(base)
    assert measured == ["at", "at-swa", "at-swa"]
    monkeypatch.setattr(figures, "finished", finished)
    whole = figures.figures(base)
    assert measured[3:] == ["natural"] and whole["radial"].items() > some["radial"].items()
    aside, = path.parent.glob("older-*/seed0.json")
    assert files.read_json(aside) == some


def test_numbers_of_other_weights_are_refused_and_kept(base, measured, capsys):
    path = evaluate_run.result_path(base, "figures")
    made = figures.figures(base)
    files.write_json(path, made | {"checkpoint_sha256": {**made["checkpoint_sha256"], "at": "0"}})
    other = path.read_bytes()
    arguments = ["figures", "--preset", "drawn/drawn.yaml", "--runs-dir", base.runs_dir]
    assert main(arguments) == 1 and path.read_bytes() == other
    assert "differs in checkpoint_sha256; results are never overwritten" in capsys.readouterr().err
    assert main([*arguments, "--redo"]) == 0 and files.read_json(path)["table1"] == made["table1"]
    aside, = path.parent.glob("older-*/seed0.json")
    assert aside.read_bytes() == other and measured == 2 * ["natural", "at", "at-swa"]


def test_a_redo_that_is_refused_changes_nothing_and_a_killed_one_goes_on(base, measured,
                                                                         monkeypatch):
    made, path = figures.figures(base), evaluate_run.result_path(base, "figures")
    stored, sound = path.read_bytes(), figures.spectral.radial_energy
    with monkeypatch.context() as patch:
        patch.setattr(figures, "network", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            figures.figures(base, redo=True)
    assert figures.figures(base) == made and len(measured) == 3
    calls = iter([sound])
    monkeypatch.setattr(figures.spectral, "radial_energy",
                        lambda change: next(calls, None)(change))  # TypeError at the second network
    with pytest.raises(TypeError):
        figures.figures(base, redo=True)
    assert path.read_bytes() == stored
    monkeypatch.setattr(figures.spectral, "radial_energy", sound)
    again = figures.figures(base)
    assert measured[3:] == ["natural", "at", "at", "at-swa"] and again["radial"] == made["radial"]
    aside, = path.parent.glob("older-*/seed0.json")
    assert aside.read_bytes() == stored and figures.figures(base) == again


def test_a_network_without_a_first_convolution_is_refused_before_it_is_attacked(base, monkeypatch):
    monkeypatch.setattr(models, "first_kernels", lambda model: None)
    monkeypatch.setattr(figures, "attacked_images", lambda *a: pytest.fail("attacked"))
    with pytest.raises(ValueError, match="natural: chapter 5 shows a first convolution"):
        figures.figures(base)


@pytest.mark.parametrize("what", ALL)
def test_without_a_run_the_command_says_so(what, capsys, tmp_path):
    assert main([what, "--runs-dir", str(tmp_path)]) == 1
    assert f"{what}: preset smoke has no finished run of seed 0: train one" \
        in capsys.readouterr().err


@pytest.mark.parametrize(
    "check, knob, message",
    [
        (
            figures.figures_settings,
            {"bandwidths": [33]},
            "bandwidths = .33.: must be a list of whole numbers from 1",
        ),
        (figures.figures_settings, {"bandwidths": []}, "bandwidths = "),
        (figures.figures_settings, {"full_scale_images": 10_001}, "from 0 to 10000"),
        (
            figures.lens_settings,
            {"methods": ["fr"]},
            "methods = .'fr'.: must be a list of some of natural, at",
        ),
        (figures.lens_settings, {"images": 0}, "images = 0"),
        (figures.lens_settings, {"radii": [14.8, 10.4]}, "two rising numbers"),
        (figures.lens_settings, {"norm": -1}, "norm = -1"),
        (figures.lens_settings, {"stride": 0}, "stride = 0"),
    ],
)
def test_a_bad_knob_is_named(check, knob, message):
    with pytest.raises(ValueError, match=message):
        check(config.load("smoke"), **knob)


@pytest.mark.parametrize("judged, images", [(40, 40), (5000, 1000), (0, 0)])
def test_the_filter_has_as_many_images_as_are_judged_up_to_a_thousand(judged, images):
    settings = figures.figures_settings(config.load("smoke", judge_images=judged))
    assert settings["images"] == images


@pytest.mark.parametrize("changes, images", [
    ({}, 0), ({"dataset": "cifar10"}, 40), ({"dataset": "cifar10", "judge_images": 0}, 1000)])
def test_the_row_at_full_scale_has_as_many_images_as_are_judged(changes, images):
    settings = figures.figures_settings(config.load("smoke", **changes))
    assert settings["full_scale_images"] == images


def test_a_listed_run_that_a_changed_setting_rules_out_is_left_out(own_root, caplog):
    run = "at-fr@fr_start_epoch=2"
    preset = write_preset(own_root, "late", runs=["at", run], epochs=3)
    assert run in evaluate_run.listed(config.load(preset))
    found = evaluate_run.listed(config.load(preset, epochs=2))
    assert {label: c.result_label for label, c in found.items()} \
        == {"at": "at@epochs=2", "at-swa": "at-swa@epochs=2"}
    assert f"preset late lists {run}, which is left out: fr_start_epoch = 2: a training of 2 " \
        "epochs would end before it" in caplog.text
    with pytest.raises(ValueError, match="fr_start_epoch = 2"):  # not so one that is asked for
        config.load(preset, epochs=2, **config.parse_label(run))


def test_the_lens_takes_what_a_preset_has(own_root):
    assert figures.lens_settings(config.load("smoke"))["methods"] == list(figures.LENS)
    rivals = figures.lens_settings(config.load("smoke", runs=["trades", "mart@beta=1.0"]))
    assert rivals["methods"] == ["trades", "mart"]


def test_figure_2_has_the_images_and_the_spectra_of_the_same_attack():
    few = data.Split(torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8),
                     torch.tensor([0, 1, 1, 0, 1]), ("ship", "cat"))
    attacked = (few.x + 0.1).clamp(max=1)
    rows = notebook_views.spectrum_rows({"at": notebook_views.spectra_of(few, attacked)})
    assert [row["title"] for row in rows] == ["at\nship", "at\ncat", "at\nmean of 5"]
    assert torch.equal(torch.from_numpy(rows[1]["adv_image"]), attacked[1].permute(1, 2, 0))
    assert rows[0]["adv_spectrum"].tolist() == figures.spectra(few.x[:1], attacked[:1])["adv"]
    assert "adv_image" not in rows[2] and len(plots.spectra(rows).axes) == 3 * 5 + 2


@pytest.mark.parametrize("labels, classes, expected", [
    ([2, 1, 0], ["cat", "horse", "ship"], {"horse": 1, "ship": 0}),
    ([1, 0, 2], ["ship", "cat", "dog"], {"ship": 1, "cat": 0}),  # no horse at all
    ([2, 2, 0], ["cat", "horse", "ship"], {"ship": 0, "cat": 2}),  # none among the images
    ([1, 1], ["cat", "dog"], {"dog": 0})])
def test_examples_are_of_classes_that_are_there(labels, classes, expected):
    found = figures.examples(torch.tensor(labels), classes)
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("bandwidth, size, side", [
    (32, (32, 32), 32), (1, (32, 32), 1), (1, (48, 48), 2), (1, (8, 8), 1), (32, (48, 64), 64)])
def test_a_bandwidth_is_scaled_to_the_images(bandwidth, size, side):
    assert figures.scaled(bandwidth, torch.zeros(1, 3, *size)) == side


def test_the_attack_is_pgd_from_one_seed_on():
    settings = config.load("smoke", seed=3, judge_batch=2, judge_eps=0.1)
    x, y, model = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), models.create("resnet8-16")
    generator = torch.Generator().manual_seed(3)
    expected = [attacks.pgd(model, bx, by, eps=0.1, step_size=0.025, steps=20, generator=generator)
                for bx, by in zip(x.split(2), y.split(2), strict=True)]
    assert torch.equal(figures.attacked_images(model, x, y, settings), torch.cat(expected))


def test_white_noise_is_as_dense_everywhere():
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[..., 3, 5] = 1
    assert torch.allclose(figures.density(impulse, 2), torch.ones(4, 4))
    assert sum(figures.white_noise(torch.zeros(1, 3, 64, 64), [20.8, 29.6])) \
        == pytest.approx(1, abs=1e-3)


def test_a_network_that_is_never_right_is_not_attacked(base):
    x, y = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    flags, share, size = figures.confined(
        models.create("resnet8-16"), x, y, torch.zeros(2, dtype=torch.bool), [10.4, 14.8], 1, base)
    assert not flags.any() and figures.rounded(share) == figures.rounded(size) == []
