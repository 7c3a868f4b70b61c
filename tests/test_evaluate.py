"""Accuracy is correct over total, and AutoAttack is the official one, resumable at any batch."""

import logging
import weakref

import pytest
import torch
from torch import nn

from frlib import attacks, evaluate, spectral
from frlib.evaluate import accuracy, autoattack, correct, robust
from frlib.run.files import score


class ByPixel(nn.Module):
    """The class is read off the first pixel: 0 -> 0, 0.1 -> 1, ..."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)  # in train mode it would spoil the answers

    def forward(self, x):
        value = x[:, 0, 0, 0] * 10
        return -(self.drop(value)[:, None] - torch.arange(10.0)).abs()


def by_pixel(labels, predicted):
    x = torch.full((len(labels), 1, 2, 2), 0.5)
    x[:, 0, 0, 0] = torch.tensor(predicted) / 10
    return x, torch.tensor(labels)


# --- accuracy


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_accuracy_is_correct_over_total_whatever_the_batches(batch_size):
    # two of three right, then one wrong: a mean of batch means would be off
    x, y = by_pixel([1, 2, 3, 4, 5, 6, 7], [1, 2, 0, 4, 5, 6, 0])
    model = ByPixel().train()
    flags = correct(model, x, y, batch_size=batch_size)
    assert flags.dtype == torch.bool
    assert flags.tolist() == [True, True, False, True, True, True, False]
    assert accuracy(model, x, y, batch_size=batch_size) == 5 / 7
    assert model.training and model.drop.training


@pytest.mark.parametrize(("x", "y", "message"), [
    (torch.rand(0, 1, 2, 2), torch.tensor([], dtype=torch.int64), "no examples"),
    (torch.full((1, 1, 2, 2), torch.nan), torch.tensor([0]), "finite numbers"),
    (torch.full((1, 1, 2, 2), torch.inf), torch.tensor([0]), "finite numbers"),
    *((torch.rand(1, 1, 2, 2), y, "labels must be") for y in (
        torch.tensor([-1]), torch.tensor([2]), torch.tensor([[0]]), torch.tensor([0, 1]),
        torch.tensor([0.0])))])
def test_accuracy_of_what_has_none_is_an_error(tiny, x, y, message):
    with pytest.raises(ValueError, match=message):
        accuracy(tiny, x, y)


# --- robust accuracy


@pytest.mark.parametrize("batch_size", [3, 100])
def test_robust_means_correct_before_and_under_attack(batch_size):
    x, y = by_pixel([1, 2, 3, 4, 5, 6, 7], [1, 2, 0, 4, 5, 6, 0])
    attacked, frozen, made = [], [], []

    def attack(model, bx, by):
        """Breaks labels below 5; would repair those that are wrong already."""
        attacked.extend(by.tolist())
        frozen.append(model.training)
        assert sum(batch() is not None for batch in made) <= 1  # memory for one batch, not for all
        out = bx.clone()
        out[:, 0, 0, 0] = torch.where(by < 5, torch.zeros(len(by)), by / 10)
        made.append(weakref.ref(out))
        return out
    model = ByPixel().train()
    flags = robust(model, x, y, attack, batch_size=batch_size)
    assert flags.tolist() == [False, False, False, False, True, True, False]
    assert attacked == [1, 2, 4, 5, 6]  # not the two wrong ones
    assert model.training and not any(frozen)
    clean = torch.arange(7) == 4  # known flags save the clean pass and stay as they are
    assert robust(model, x, y, attack, clean=clean).tolist() == clean.tolist()
    assert attacked[5:] == [5] and clean.tolist() == (torch.arange(7) == 4).tolist()


def test_full_precision_has_no_tf32_and_ends():
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    with pytest.raises(KeyError), evaluate.full_precision():
        assert [place.allow_tf32 for place in places] == [False, False]
        raise KeyError
    assert [place.allow_tf32 for place in places] == before and before[0]


def test_full_precision_beside_the_newer_switch_of_torch(tiny):
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        assert accuracy(tiny, torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)) in (0, 1)
        with evaluate.full_precision():
            assert {matmul.fp32_precision, conv.fp32_precision} == {"ieee"}
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


# --- accuracy by frequency


class HearsOneWave(nn.Module):
    """Right (class 0) unless more than 0.9 of one wave is in the first channel."""

    def __init__(self, wave):
        super().__init__()
        self.wave, self.seen = wave, 0

    def forward(self, x):
        self.seen += len(x)
        along = (x[:, 0] * self.wave).sum((-2, -1)).abs()
        return torch.stack([torch.full_like(along, 0.9), along], 1)


@pytest.mark.parametrize(("size", "heard"), [
    ((8, 8), (-4, 3)), ((8, 6), (0, -3)), ((7, 6), (-2, -1)), ((7, 7), (0, 0))])
def test_a_network_that_hears_one_wave_fails_there_and_at_its_twin(size, heard):
    height, width = size
    model = HearsOneWave(spectral.wave(height, width, *heard))
    x = torch.zeros(3, 2, height, width)
    x += 0.5 if heard != (0, 0) else 0  # a flat image has no wave but the zeroth
    found = evaluate.fourier_sensitivity(lambda x: model(x), x, torch.zeros(3).long(), norm=1.0,
                                         batch_size=2)
    expected = torch.ones(height, width)
    for i, j in (heard, (-heard[0], -heard[1])):
        expected[(i + height // 2) % height, (j + width // 2) % width] = 0
    assert torch.equal(found, expected)
    unique = sum(1 for i in range(height) for j in range(width)
                 if (i, j) <= (-i % height, -j % width))
    assert model.seen == 3 * unique  # each pair of twins once
    quiet = evaluate.fourier_sensitivity(model, x, torch.zeros(3).long(), norm=0.8)
    assert torch.equal(quiet, torch.ones(height, width))


def test_the_sign_of_a_wave_is_drawn_for_every_image_and_channel():
    """One that fails for the positive wave alone is right for about half of the images."""
    wave = spectral.wave(8, 8, 0, 1)
    model = lambda x: torch.stack([0 * x[:, 0, 0, 0] + 0.5,  # noqa: E731
                                   (x[:, 0] * wave).sum((-2, -1))], 1)
    both = lambda x: torch.stack([0 * x[:, 0, 0, 0] + 0.5,  # noqa: E731
                                  (x * wave).sum((1, 2, 3))], 1)
    x, y = torch.full((400, 2, 8, 8), 0.5), torch.zeros(400, dtype=torch.int64)
    results = [evaluate.fourier_sensitivity(m, x, y, norm=1.0, stride=1,
                                            generator=torch.Generator().manual_seed(0))
               for m in (model, model, both)]
    assert torch.equal(results[0], results[1])
    assert 0.42 < results[0][4, 5] < 0.58 and results[0][4, 5] == results[0][4, 3]
    assert 0.67 < results[2][4, 5] < 0.83  # wrong where both channels are positive
    assert (results[0] < 1).sum() == 2


def test_a_map_may_be_coarse_leaves_the_model_alone_and_refuses_wrong_input():
    heard = HearsOneWave(spectral.wave(8, 8, 2, -2))
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64)
    found = evaluate.fourier_sensitivity(heard, x, y, norm=1.0, stride=2)
    assert found.shape == (4, 4) and found.sum() == 14
    assert found[3, 1] == found[1, 3] == 0  # (2, -2) and (-2, 2), with 0 at index 2
    model, (x, y) = ByPixel().train(), by_pixel([1, 2], [1, 2])
    assert evaluate.fourier_sensitivity(model, x, y, norm=0.0).eq(1).all()
    assert model.training and model.drop.training
    for change, message in (({"norm": -1.0}, "norm = .*at least 0"),
                            ({"norm": float("nan")}, "norm = .*at least 0"),
                            ({"stride": 0}, "stride = 0: .*a whole number from 1"),
                            ({"x": x[:0], "y": y[:0]}, "no examples")):
        with pytest.raises(ValueError, match=message):
            evaluate.fourier_sensitivity(model, **{"x": x, "y": y, "norm": 1.0, **change})


# --- AutoAttack

SETTINGS = {"batch_size": 2, "seed": 3}


@pytest.fixture(scope="module")
def case():
    """A linear model on 8x8 images and an eps that breaks all but one.

    So steep that cross-entropy has lost its gradient on some images, which only a later attack
    breaks: survivors differ from stage to stage.
    """
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        model[1].weight.mul_(800)
        model[1].bias.mul_(800)
        x = 0.3 + 0.4 * torch.rand(5, 1, 8, 8)
        logits = model(x)
        y = logits.argmax(1)
        weight = model[1].weight
        gap = logits.gather(1, y[:, None]) - logits
        radii = gap / (weight[y][:, None] - weight).abs().sum(-1).clamp_min(1e-9)
        radius = radii.scatter(1, y[:, None], torch.inf).amin(1)
        y[2] = (y[2] + 1) % 10  # one is wrong already
        radius[2] = 0
    ranked = radius.sort(descending=True).values
    eps = ((ranked[0] + ranked[1]) / 2).item()
    assert ranked[0] > 1.02 * eps and ranked[1] < 0.98 * eps and eps < 0.25
    return model, x, y, eps, radius


@pytest.fixture(scope="module")
def whole(case, brief_square):
    """The evaluation in one go."""
    model, x, y, eps, _ = case
    return autoattack(model, x, y, eps=eps, **SETTINGS)


def test_autoattack_finds_what_is_robust_on_paper(case, whole):
    model, x, y, eps, radius = case
    assert torch.equal(whole.robust, radius > eps) and whole.robust.sum() == 1
    assert whole.robust.dtype == torch.bool and list(whole.stages) == ["clean", *evaluate.STAGES]
    survivors = list(whole.stages.values())
    assert survivors[0] == 4 and survivors[-1] == 1
    assert survivors == sorted(survivors, reverse=True) and len(set(survivors)) > 2
    assert whole.warnings == []
    assert (whole.x_adv - x).abs().max() <= eps + 1e-6
    assert torch.equal(model(whole.x_adv).argmax(1) == y, whole.robust)


def test_it_is_the_official_evaluation(case, whole):
    from pyautoattack import AutoAttack

    model, x, y, eps, _ = case
    official = AutoAttack(model, eps=eps, norm="Linf", seed=SETTINGS["seed"], version="standard")
    logger = logging.getLogger("auto-attack")
    logger.addHandler(quiet := logging.NullHandler())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x_adv, _ = official.run_standard_evaluation(x, y, batch_size=SETTINGS["batch_size"])
    logger.removeHandler(quiet)
    assert torch.equal(model(x_adv).argmax(1) == y, whole.robust)
    torch.testing.assert_close(x_adv, whole.x_adv)


def test_killed_after_any_batch_it_goes_on_to_the_same_end(case, whole, tmp_path, monkeypatch):
    model, x, y, eps, _ = case
    write = evaluate._write_state

    def write_and_die(*arguments):
        write(*arguments)
        raise KeyboardInterrupt
    monkeypatch.setattr(evaluate, "_write_state", write_and_die)
    batches = sum(-(-survivors // 2) for survivors in list(whole.stages.values())[:-1])
    for kills in range(100):  # each life writes once: a batch, or the end of a stage
        torch.manual_seed(kills)  # what ran before in this process must not matter
        try:
            result = autoattack(model, x, y, eps=eps, **SETTINGS, state_dir=tmp_path)
            break
        except KeyboardInterrupt:
            assert (tmp_path / "autoattack.pt").is_file()
    assert kills == batches + len(evaluate.STAGES)
    assert torch.equal(result.robust, whole.robust)
    assert torch.equal(result.x_adv, whole.x_adv)
    assert (result.stages, result.warnings) == (whole.stages, whole.warnings)

    # a finished evaluation is read back, not run again
    monkeypatch.setattr(evaluate, "_write_state", lambda *_: pytest.fail("it ran again"))
    again = autoattack(model, x, y, eps=eps, **SETTINGS, state_dir=tmp_path)
    assert torch.equal(again.x_adv, whole.x_adv) and again.stages == whole.stages

    # and belongs to this model, data and setting alone
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    others = [((other, x, y), {"eps": eps}), ((model, x.flip(0), y), {"eps": eps}),
              ((model, x, (y + 1) % 10), {"eps": eps}), ((model, x, y), {"eps": eps / 2}),
              ((model, x, y), {"eps": eps, "seed": 4}), ((model, x, y), {"eps": eps,
                                                                         "batch_size": 3})]
    for positional, change in others:
        with pytest.raises(ValueError, match="autoattack.pt: belongs to another model, data or"):
            autoattack(*positional, **SETTINGS | change, state_dir=tmp_path)

    state = (tmp_path / "autoattack.pt").read_bytes()
    (tmp_path / "autoattack.pt").write_bytes(state[:len(state) // 2])
    with pytest.raises(RuntimeError, match="autoattack.pt: damaged checkpoint .*delete its folder"):
        autoattack(model, x, y, eps=eps, **SETTINGS, state_dir=tmp_path)


@pytest.mark.parametrize("killed", [False, True])
def test_each_stage_sees_the_survivors_in_batches_and_warnings_are_kept(tiny, tmp_path,
                                                                        monkeypatch, killed):
    """The order of work, with the official attacks replaced by one that breaks what it is told."""
    from pyautoattack import AutoAttack

    x = 0.3 + 0.4 * torch.rand(7, 1, 2, 2)
    x[:, 0, 0, 0] = torch.arange(7) / 100  # so each image is known by its first pixel
    y = tiny(x).argmax(1)
    falls = {1: "apgd-ce", 4: "apgd-ce", 5: "fab-t"}  # image: the stage that breaks it
    seen = []

    def attack(self, bx, by, *, batch_size):
        stage, = self.attacks_to_run
        numbers = (bx[:, 0, 0, 0] * 100).round().int().tolist()
        seen.append((stage, numbers))
        logger = logging.getLogger("auto-attack")
        logger.debug("not a warning")
        logger.warning(f"something about {stage}")
        out = bx.clone()
        for row, number in enumerate(numbers):
            if falls.get(number) == stage:
                out[row, 0] = torch.tensor([[[1, 0], [0, 1]], [[0, 1], [1, 0]]])[1 - by[row]]
                assert tiny(out[row:row + 1]).argmax(1) != by[row]
        return out, None
    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", attack)
    monkeypatch.setattr(evaluate, "FEWEST_CLASSES", 2)  # this attack has no targets
    if killed:
        write = evaluate._write_state

        def write_and_die(*arguments):
            write(*arguments)
            raise KeyboardInterrupt
        monkeypatch.setattr(evaluate, "_write_state", write_and_die)
    while True:
        try:
            result = autoattack(tiny, x, y, eps=0.1, batch_size=3, seed=0, state_dir=tmp_path)
            break
        except KeyboardInterrupt:
            assert killed
    assert seen == [("apgd-ce", [0, 1, 2]), ("apgd-ce", [3, 4, 5]), ("apgd-ce", [6]),
                    ("apgd-t", [0, 2, 3]), ("apgd-t", [5, 6]),
                    ("fab-t", [0, 2, 3]), ("fab-t", [5, 6]),
                    ("square", [0, 2, 3]), ("square", [6])]
    assert result.stages == {"clean": 7, "apgd-ce": 5, "apgd-t": 5, "fab-t": 4, "square": 4}
    assert result.robust.tolist() == [i not in falls for i in range(7)]
    assert result.warnings == [f"something about {stage}" for stage in evaluate.STAGES]
    assert torch.equal(result.x_adv[result.robust], x[result.robust])
    assert torch.equal(tiny(result.x_adv).argmax(1) == y, result.robust)
    logger = logging.getLogger("auto-attack")
    assert logger.propagate and not any(h.level == logging.WARNING for h in logger.handlers)


@pytest.mark.parametrize(("change", "message"), [
    ({"eps": 8}, r"eps = 8: must be in \[0, 1\]"),
    ({"eps": 0}, r"eps = 0: must be in \(0, 1\]"),
    ({"x": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "float32 NCHW"),
    ({"x": torch.zeros(2, 1, 8, 8, dtype=torch.float64)}, "float32 NCHW"),
    ({"x": torch.full((2, 1, 8, 8), 1.5)}, r"in \[0, 1\]"),
    ({"x": torch.full((2, 1, 8, 8), torch.nan)}, "without NaN"),
    ({"x": torch.zeros(2, 64)}, "NCHW"),
    ({"x": torch.zeros(0, 1, 8, 8), "y": torch.zeros(0, dtype=torch.int64)}, "no examples"),
    ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, "3 classes: AutoAttack needs at le"),
])
def test_wrong_input_is_refused(change, message):
    arguments = {"x": torch.zeros(2, 1, 8, 8), "y": torch.zeros(2, dtype=torch.int64),
                 "eps": 0.1, "model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))} | change
    with pytest.raises(ValueError, match=message):
        autoattack(**SETTINGS, **arguments)


def test_a_function_has_no_weights_to_tell_what_is_stored_by(tmp_path):
    with pytest.raises(ValueError, match="give an nn.Module, or no state_dir"):
        autoattack(lambda x: x.flatten(1)[:, :10], torch.zeros(2, 1, 8, 8),
                   torch.zeros(2, dtype=torch.int64), eps=0.1, state_dir=tmp_path, **SETTINGS)


def test_autoattack_where_nothing_survives():
    """All wrong from the start: no stage has work, and the result says so."""
    x, y = torch.rand(3, 3, 8, 8), torch.zeros(3, dtype=torch.int64)
    wrong = lambda x: torch.eye(10)[torch.ones(len(x), dtype=torch.int64)]  # noqa: E731
    result = autoattack(wrong, x, y, eps=8 / 255, **SETTINGS)
    assert not result.robust.any() and result.stages["square"] == 0


# --- a model that is at hand


def test_judge_gives_the_row_of_a_table_for_any_module(tiny):
    x, y = torch.rand(12, 1, 2, 2), torch.arange(12) % 2
    row = evaluate.judge(tiny, x, y, eps="8/255", name="line", seed=3)
    assert (row["label"], row["seed"]) == ("line", 3)
    assert list(row["scores"]) == ["clean", "fgsm", "pgd20", "cw"]
    assert row["scores"]["clean"]["correct"] == evaluate.correct(tiny, x, y).sum()
    attack = robust(tiny, x, y, lambda m, x, y: attacks.fgsm(m, x, y, eps=8 / 255))
    assert row["scores"]["fgsm"] == score(attack)
    assert evaluate.judge(tiny, x, y, eps=8 / 255)["scores"] == row["scores"]


@pytest.mark.parametrize(("change", "message"), [
    ({"model": lambda x: x}, "function given: judge takes an nn.Module"),
    ({"eps": 8}, "eps = 8: must be in .*8/255"), ({"eps": "eight"}, "eps = 'eight': must be a num"),
    ({"y": torch.zeros(2)}, "labels must be int64"),
    ({"y": torch.tensor([0])}, "labels must be int64 of shape .2,., not"),
    ({"y": torch.tensor([0, 2])}, "class indices from 0 to 1, found 0 to 2"),
    ({"x": torch.tensor([0.5, torch.nan]).expand(4, 2).T.reshape(2, 1, 2, 2)}, "finite numbers"),
    ({"autoattack_images": 0}, "2 classes: AutoAttack needs at least 4")])
def test_judge_names_what_is_wrong_at_the_door(tiny, change, message):
    given = {"model": tiny, "x": torch.rand(2, 1, 2, 2), "y": torch.tensor([0, 1]), **change}
    with pytest.raises(ValueError, match=message):
        evaluate.judge(**given)


@pytest.mark.parametrize(("change", "message"), [
    ({"autoattack_images": -1}, "autoattack_images = -1: must be from 0 to the 2 images"),
    ({"autoattack_images": 3}, "autoattack_images = 3"),
    ({"autoattack_images": 1, "eps": 0}, "eps = 0: must be in .0, 1.")])
def test_judge_refuses_what_autoattack_cannot_take_before_any_attack(change, message, monkeypatch):
    monkeypatch.setattr(evaluate, "under_attack", lambda *_, **__: pytest.fail("attacked"))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match=message):
        evaluate.judge(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), **change)


@pytest.mark.parametrize("wrong", [lambda x: x + 0.3, lambda x: x - 0.09, lambda x: x * torch.nan])
def test_an_attack_that_leaves_the_ball_is_no_judge(tiny, wrong):
    x = torch.full((2, 1, 2, 2), 0.05)
    y = tiny(x).argmax(1)
    with pytest.raises(ValueError, match="its images must be within eps = 0.1 of x, and in"):
        evaluate.under_attack(tiny, x, y, lambda m, x, y, *, eps, generator: wrong(x), eps=0.1)


def test_an_attack_that_writes_into_its_images_is_measured_against_the_clean_ones():
    def far(model, x, y, *, eps, generator):
        x += 10 * eps
        return x.clamp_(0, 1)

    x, y = torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="attack 'far': its images must be within eps"):
        evaluate.under_attack(lambda x: x.flatten(1)[:, :2], x, y, far, eps=8 / 255)
    assert not x.any()
