"""What holds for every input: hypothesis draws many, the same ones each time.

Shapes from empty to odd and not square, every float type, any memory layout, eps from 0 to 1: the
answer is the one known on paper, or one ValueError.
"""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frlib import attacks, data, evaluate, losses, spectral
from frlib.publish import statistics
from frlib.run import config, files
from frlib.run.settings import FIELDS, networks

few = settings(max_examples=25, derandomize=True, deadline=None, database=None,
               suppress_health_check=list(HealthCheck))
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
GREY = 1 / 255
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second column": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "NHWC, turned": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "one image, expanded": lambda x: x[:1].expand(x.shape),
}


@st.composite
def images(draw, dtypes=FLOATS, least=0):
    """(N, C, H, W) in [0, 1], N from `least` to 3, some pixels exactly 0 or 1, any layout."""
    shape = [draw(st.integers(least, 3)), *(draw(st.integers(1, top)) for top in (3, 9, 9))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = (1.4 * torch.rand(shape, generator=generator) - 0.2).clamp(0, 1)
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](x).to(draw(st.sampled_from(dtypes)))


class Plane:
    """A linear classifier of two classes for images of any shape and type."""

    def __init__(self, shape, seed=0):
        generator = torch.Generator().manual_seed(seed)
        sign = torch.randint(2, (math.prod(shape[1:]),), generator=generator) * 2 - 1
        self.weight = sign * 0.01  # so small that no softmax saturates

    def __call__(self, x):
        score = x.flatten(1) @ self.weight.to(x.dtype)
        return torch.stack([-score, score], 1)


def labels_for(x):
    return torch.arange(len(x)) % 2


eps_values = st.sampled_from([0.0, 1.0, GREY, 8 * GREY]) | st.floats(0, 1)
ATTACKS = {
    "fgsm": lambda model, x, y, eps: attacks.fgsm(model, x, y, eps=eps),
    "pgd": lambda model, x, y, eps: attacks.pgd(model, x, y, eps=eps, step_size=eps, steps=3),
    "pgd, 2 restarts": lambda model, x, y, eps: attacks.pgd(
        model, x, y, eps=eps, step_size=eps, steps=3, restarts=2),
    "pgd, gaussian": lambda model, x, y, eps: attacks.pgd(
        model, x, y, eps=eps, step_size=eps, steps=3, random_start="gaussian"),
    "cw": lambda model, x, y, eps: attacks.cw(model, x, y, eps=eps, step_size=eps, steps=3),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


# --- attacks


@every_attack
@given(x=images(), eps=eps_values)
@few
def test_a_linear_model_is_attacked_into_the_corner_known_on_paper(name, x, eps):
    y, model, before = labels_for(x), Plane(x.shape), x.clone()
    x_adv = ATTACKS[name](model, x, y, eps)
    away = torch.where(y == 0, 1, -1)[:, None] * model.weight.sign()
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    corner = torch.where(away.view(x.shape) > 0, high, low)
    assert x_adv.dtype == x.dtype and x_adv.shape == x.shape and torch.equal(x, before)
    torch.testing.assert_close(x_adv, corner)  # two steps of eps cross the whole ball
    assert ((low <= x_adv) & (x_adv <= high)).all()  # exactly


@every_attack
@given(x=images(least=1), pixel=st.sampled_from([math.nan, math.inf, -math.inf, 1.01, -0.01]),
       where=st.integers(0, 10_000))
@few
def test_one_bad_pixel_is_found_wherever_it_is(name, x, pixel, where):
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1)[where % x.numel()] = pixel
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\], without NaN"):
        ATTACKS[name](Plane(x.shape), x, labels_for(x), 0.1)


@every_attack
@given(x=images(least=1), label=st.sampled_from([-2**63, -100, -1, 2, 3, 2**62]),
       where=st.integers(0, 2))
@few
def test_a_label_that_is_no_class_gives_no_images(name, x, label, where):
    """Below 0 is seen at once; how many classes there are, only the model's logits tell."""
    y = labels_for(x)
    y[where % len(y)] = label
    with pytest.raises(ValueError if label < 0 else (ValueError, IndexError, RuntimeError)):
        ATTACKS[name](Plane(x.shape), x, y, 0.1)


@every_attack
@given(x=images(), what=st.sampled_from(["ndim", "dtype", "y dtype", "y shape", "count", "eps"]))
@few
def test_what_is_no_batch_is_one_value_error(name, x, what):
    y, eps = labels_for(x), 0.1
    x, y, eps = {"ndim": (x[0] if len(x) else x[..., 0], y, eps),
                 "dtype": ((255 * x).to(torch.uint8), y, eps), "y dtype": (x, y.int(), eps),
                 "y shape": (x, y[:, None], eps), "count": (x, torch.zeros(len(x) + 1).long(), eps),
                 "eps": (x, y, 1.001)}[what]
    with pytest.raises(ValueError, match="images must be|labels must be|eps = "):
        ATTACKS[name](Plane((1, x.numel())), x, y, eps)


# --- accuracy


@given(x=images((torch.float32,), least=1), batch_size=st.integers(1, 4))
@few
def test_accuracy_is_that_of_every_image_by_itself(x, batch_size):
    y, model = labels_for(x), Plane(x.shape)
    alone = [int(model(image).argmax() == label) for image, label in zip(x.split(1), y,
                                                                         strict=True)]
    assert evaluate.accuracy(model, x, y, batch_size=batch_size) == sum(alone) / len(alone)


@given(x=images((torch.float32,), least=1),
       what=st.sampled_from(["nan", "inf", "-1", "2", "column", "too many", "float", "none"]))
@few
def test_accuracy_of_what_has_none_is_an_error(x, what):
    y = labels_for(x)
    wrong_pixel = x.clone()
    wrong_pixel[-1, -1, -1, -1] = float(what) if what in ("nan", "inf") else 0
    x, y = {"nan": (wrong_pixel, y), "inf": (wrong_pixel, y), "-1": (x, y - 1), "2": (x, y + 2),
            "column": (x, y[:, None]), "too many": (x, torch.cat([y, y])), "float": (x, y.float()),
            "none": (x[:0], y[:0])}[what]
    with pytest.raises(ValueError, match="labels must be|finite numbers|no examples"):
        evaluate.accuracy(Plane(x.shape), x, y)


# --- losses


@st.composite
def logits(draw):
    """Two (N, classes) matrices of one shape and type, N at least 1, contiguous or not."""
    n, classes = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    both = 5 * torch.randn(2, n, classes, generator=generator)
    if draw(st.booleans()):
        both = both.transpose(1, 2).contiguous().transpose(1, 2)
    return both.to(draw(st.sampled_from(FLOATS))).unbind()


@pytest.mark.parametrize("transform", ["class", "batch-class", "none"])
@given(pair=logits())
@few
def test_the_regulariser_is_the_distance_of_the_dfts_spelled_out(transform, pair):
    adv, clean = (side.double().numpy() for side in pair)
    n, classes = adv.shape

    def dft(size):
        k = np.arange(size)
        return np.exp(-2j * np.pi * np.outer(k, k) / size)
    change = adv - clean
    spectrum = {"class": change @ dft(classes), "batch-class": dft(n) @ change @ dft(classes),
                "none": change + 0j}[transform]
    parts = np.abs(spectrum.real) + np.abs(spectrum.imag)
    expected = parts.mean() / 2 if transform == "batch-class" else parts.sum(1).mean()
    found = losses.frequency_regularization(*pair, transform=transform)
    assert found.ndim == 0 and found.dtype in (torch.float32, torch.float64)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert losses.frequency_regularization(pair[0], pair[0], transform=transform) == 0


@given(pair=logits(), beta=st.floats(0, 20))
@few
def test_trades_and_mart_are_their_formulas(pair, beta):
    clean, adv = (side.double().softmax(1) for side in pair)
    y = torch.arange(len(clean)) % clean.shape[1]
    kl = (clean * (clean.log() - adv.log())).sum(1)
    true, true_adv = clean.gather(1, y[:, None])[:, 0], adv.gather(1, y[:, None])[:, 0]
    wrong = adv.scatter(1, y[:, None], -1).amax(1)
    trades = -true.log().mean() + beta * kl.mean()
    mart = (-true_adv.log() - (1.0001 - wrong).log()).mean() + beta * (kl * (1 - true)).mean()
    for loss, expected in ((losses.trades, trades), (losses.mart, mart)):
        assert loss(*pair, y, beta=beta).item() == pytest.approx(expected.item(), rel=1e-3,
                                                                 abs=1e-4)


@given(pair=logits(), what=st.sampled_from(["1-D", "3-D", "fewer", "empty", "no class"]))
@few
def test_losses_refuse_what_are_no_two_matrices_of_one_shape(pair, what):
    y = torch.zeros(len(pair[0]), dtype=torch.int64)
    one, two = {"1-D": (pair[0][0], pair[1][0]), "3-D": (pair[0][None], pair[1][None]),
                "fewer": (pair[0], pair[1][:, 1:]), "empty": (pair[0][:0], pair[1][:0]),
                "no class": (pair[0][:, :0], pair[1][:, :0])}[what]
    for call in (lambda: losses.frequency_regularization(one, two),
                 lambda: losses.trades(one, two, y[:len(one)]),
                 lambda: losses.mart(one, two, y[:len(one)])):
        with pytest.raises(ValueError, match="two non-empty"):
            call()


@given(pair=logits(), which=st.integers(0, 1))
@few
def test_a_nan_logit_makes_every_loss_nan_and_never_a_number(pair, which):
    pair = [side.clone() for side in pair]
    pair[which][0, 0] = torch.nan
    y = torch.ones(len(pair[0]), dtype=torch.int64)
    assert losses.frequency_regularization(*pair).isnan()
    assert losses.trades(*pair, y).isnan() and losses.mart(*pair, y).isnan()


# --- spectra

EXACT = (torch.float32, torch.float64)


@given(x=images(EXACT), bandwidth=st.integers(1, 9))
@few
def test_what_low_pass_takes_away_is_orthogonal_to_what_it_leaves(x, bandwidth):
    bandwidth = min(bandwidth, max(x.shape[-2:]))
    bandwidth -= 1 - bandwidth % 2  # odd: then the filter is a projection
    kept = spectral.low_pass(x, bandwidth)
    assert kept.shape == x.shape and kept.dtype == x.dtype
    product = (kept * (x - kept)).sum((-2, -1))
    torch.testing.assert_close(product, torch.zeros_like(product), atol=1e-4, rtol=0)
    torch.testing.assert_close(kept.mean((-2, -1)), x.mean((-2, -1)))


@given(x=images(EXACT, least=1))
@few
def test_spectra_hold_the_energy_of_the_image(x):
    energy = x.square().sum((-2, -1))
    torch.testing.assert_close(spectral.amplitude(x).square().sum((-2, -1)), energy)
    torch.testing.assert_close(spectral.radial_energy(x).sum(), energy.mean())


@given(x=images(EXACT, least=1), pixel=st.sampled_from([math.nan, math.inf]))
@few
def test_a_bad_pixel_spoils_its_own_channel_visibly_and_no_other(x, pixel):
    bad = x.clone(memory_format=torch.contiguous_format)
    bad[0, 0, 0, 0] = pixel
    for function in (lambda x: spectral.low_pass(x, 1), spectral.amplitude):
        good, spoilt = function(x).flatten(0, 1), function(bad).flatten(0, 1)
        assert not spoilt[0].isfinite().any() and torch.equal(spoilt[1:], good[1:])
    assert not spectral.radial_energy(bad).isfinite().all()


@given(shape=st.tuples(*[st.integers(1, 5)] * 4), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
       dtype=st.sampled_from([torch.bfloat16, *EXACT]))
@few
def test_roughness_has_its_bounds_at_every_scale_and_size(shape, scale, dtype):
    generator = torch.Generator().manual_seed(sum(shape))
    weight = (scale * torch.randn(shape, generator=generator)).to(dtype)
    if shape[2:] == (1, 1):
        with pytest.raises(ValueError, match="1x1 kernel"):
            spectral.kernel_roughnesses(weight)
        return
    rough = spectral.kernel_roughnesses(weight)
    assert rough.shape == shape[:2] and ((rough >= 0) & (rough < 8)).all()
    torch.testing.assert_close(spectral.kernel_roughnesses(weight.transpose(2, 3)), rough)
    weight[0, 0, 0, 0] = torch.nan
    assert spectral.kernel_roughnesses(weight)[0, 0].isnan()


# --- data


@given(x=images(), padding=st.integers(0, 5), flip=st.booleans(), seed=st.integers(0, 9))
@few
def test_augmented_images_are_windows_of_their_own_padded_image(x, padding, flip, seed):
    out = data.augment(x, torch.Generator().manual_seed(seed), padding=padding, flip=flip)
    assert out.shape == x.shape and out.dtype == x.dtype
    height, width = x.shape[-2:]
    padded = torch.nn.functional.pad(x, [padding] * 4)
    windows = [padded[..., i:i + height, j:j + width]
               for i, j in itertools.product(range(2 * padding + 1), repeat=2)]
    windows += [window.flip(3) for window in windows] if flip else []
    for n in range(len(x)):
        assert any(torch.equal(out[n], window[n]) for window in windows)


@given(count=st.integers(0, 30), batch_size=st.integers(1, 12), seed=st.integers(0, 9))
@few
def test_an_epoch_shows_every_image_at_most_once(count, batch_size, seed):
    split = data.Split(torch.zeros(count, 3, 2, 5, dtype=torch.uint8), torch.arange(count), ("a",))
    shown = [y.tolist() for _, y in data.batches(split, batch_size,
                                                 torch.Generator().manual_seed(seed))]
    assert all(2 <= len(labels) <= batch_size for labels in shown)
    together = sum(shown, [])
    assert len(set(together)) == len(together) == count - (1 if count % batch_size == 1 else 0) \
        if batch_size > 1 else together == []


@given(fraction=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**32 - 1))
@settings(few, max_examples=4)
def test_train_and_val_part_the_images_whatever_the_fraction(fraction, seed):
    train, val = (data.load("digits", "", split, val_fraction=fraction, seed=seed)
                  for split in ("train", "val"))
    both = torch.cat([train.images, val.images]).flatten(1).sum(1)
    whole = data.load("digits", "", "train", val_fraction=0, seed=0).images.flatten(1).sum(1)
    assert torch.equal(both.sort().values, whole.sort().values)
    assert len(val) == round(len(whole) * fraction)


# --- what is written and read

numbers = st.integers(-2**60, 2**60) | st.floats(allow_nan=False, allow_infinity=False)
plain_json = st.recursive(st.none() | st.booleans() | numbers | st.text(max_size=5),
                          lambda inner: st.lists(inner, max_size=4)
                          | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=12)
objects = st.dictionaries(st.text(max_size=5).filter(lambda key: key != files.CHECKSUM),
                          plain_json, max_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


@given(content=objects, position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7),
       cut=st.booleans())
@settings(few, max_examples=200)
def test_a_json_file_with_a_flipped_bit_or_a_lost_end_is_named_or_reads_the_same(
        folder, content, position, bit, cut):
    path = folder / "file.json"
    files.write_json(path, content)
    assert files.read_json(path) == content
    whole = bytearray(path.read_bytes())
    place = int(position * len(whole))
    if cut:
        del whole[place:]
    else:
        whole[place] ^= 1 << bit
    path.write_bytes(whole)
    try:
        found = files.read_json(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: damaged JSON (") and "delete it" in str(error)
    else:  # white space, or the checksum's own name
        assert {key: found[key] for key in content} == content


@given(flags=st.lists(st.booleans(), max_size=70), more=st.integers(-9, 9))
@few
def test_flags_come_back_or_their_count_is_wrong(flags, more):
    text = files.pack_flags(flags)
    assert files.unpack_flags(text, len(flags)).tolist() == flags
    if -(-(len(flags) + more) // 8) != -(-len(flags) // 8):
        with pytest.raises(ValueError, match=f"flags stored, {len(flags) + more} expected"):
            files.unpack_flags(text, len(flags) + more)


@given(correct=st.integers(0, 60), total=st.integers(1, 60))
@few
def test_an_interval_holds_its_share_and_shrinks_with_more_images(correct, total):
    correct = min(correct, total)
    low, high = statistics.interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    low_of_ten, high_of_ten = statistics.interval(10 * correct, 10 * total)
    assert high_of_ten - low_of_ten < high - low


# --- settings

anything = st.recursive(
    st.booleans() | st.integers() | st.integers(2**1000, 2**2000) | st.floats() | st.text()
    | st.binary(max_size=4) | st.sampled_from(["8/255", "1e999999999", "1/0", "inf", "nan", "at",
                                               "at@epochs=[", "at@eps=1e99999999", "\0", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=2), max_leaves=6)


@pytest.mark.parametrize("key", [key for key in FIELDS if key != "preset"])
@given(value=anything)
@few
def test_any_value_of_any_setting_is_taken_or_named_in_one_value_error(key, value):
    try:
        made = config.load("smoke", **{key: value})
    except ValueError as error:
        named = r"(label|\w+ =|unknown parameter) " if key in ("runs", "ablations") else f"{key} = "
        assert re.match(named, str(error)) and len(str(error)) < 3000
    else:
        assert isinstance(getattr(made, key), type(FIELDS[key].default))


@given(label=st.text() | st.from_regex(r"at(-fr)?@(epochs|eps|milestones|flip)=[-\w.+/=@]*",
                                       fullmatch=True))
@settings(few, max_examples=200)
def test_any_label_is_settings_that_decide_a_training_or_a_value_error(label):
    try:
        found = config.parse_label(label)
    except ValueError:
        return
    assert found.keys() <= config.load("smoke").group("train").keys()
    assert config.load("smoke", **found)


trainings = st.fixed_dictionaries({}, optional={
    "epochs": st.integers(1, 10**6), "eps": st.floats(0, 1), "lr": st.floats(0, 10),
    "flip": st.booleans(), "model": st.sampled_from(networks()),
    "milestones": st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=3)})


@given(changes=trainings)
@few
def test_a_label_reads_back_as_the_settings_it_was_made_of(changes):
    made = config.load("smoke", method="at-fr", **changes)
    assert config.load("smoke", **config.parse_label(made.label)) == made
