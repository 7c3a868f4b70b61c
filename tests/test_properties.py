"""What holds for every input: hypothesis draws many, the same ones each time.

Shapes from empty to odd and not square, every float type, any memory layout, eps from 0 to 1: the
answer is the one known on paper, or one ValueError.
"""

import math
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frlib import attacks
from frlib.models import ARCHITECTURES
from frlib.run import config, files
from frlib.run.settings import FIELDS

few = settings(max_examples=60, derandomize=True, deadline=None, database=None,
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
any_attack = st.sampled_from(sorted(ATTACKS))


# --- attacks


@given(name=any_attack, x=images(), eps=eps_values)
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


@given(name=any_attack, x=images(least=1), where=st.integers(0, 10_000),
       pixel=st.sampled_from([math.nan, math.inf, -math.inf, 1.01, -0.01]))
@few
def test_one_bad_pixel_is_found_wherever_it_is(name, x, pixel, where):
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1)[where % x.numel()] = pixel
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\], without NaN"):
        ATTACKS[name](Plane(x.shape), x, labels_for(x), 0.1)


@given(name=any_attack, x=images(least=1), where=st.integers(0, 2),
       label=st.sampled_from([-2**63, -100, -1, 2, 3, 2**62]))
@few
def test_a_label_that_is_no_class_gives_no_images(name, x, label, where):
    """Below 0 is seen at once; how many classes there are, only the model's logits tell."""
    y = labels_for(x)
    y[where % len(y)] = label
    with pytest.raises(ValueError if label < 0 else (ValueError, IndexError, RuntimeError)):
        ATTACKS[name](Plane(x.shape), x, y, 0.1)


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
@few
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


# --- settings

anything = st.recursive(
    st.booleans() | st.integers() | st.integers(2**1000, 2**2000) | st.floats() | st.text()
    | st.binary(max_size=4) | st.sampled_from(["8/255", "1e999999999", "1/0", "inf", "nan", "at",
                                               "at@epochs=[", "at@eps=1e99999999", "\0", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=2), max_leaves=6)


@given(key=st.sampled_from(sorted(FIELDS.keys() - {"preset"})), value=anything)
@settings(few, max_examples=300)
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
@settings(few, max_examples=100)
def test_any_label_is_settings_that_decide_a_training_or_a_value_error(label):
    try:
        found = config.parse_label(label)
    except ValueError:
        return
    assert found.keys() <= config.load("smoke").group("train").keys()
    assert config.load("smoke", **found)


trainings = st.fixed_dictionaries({}, optional={
    "epochs": st.integers(1, 10**6), "eps": st.floats(0, 1, exclude_min=True),
    "lr": st.floats(0, 10), "flip": st.booleans(), "model": st.sampled_from(list(ARCHITECTURES)),
    "milestones": st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=3)})


@given(changes=trainings)
@few
def test_a_label_reads_back_as_the_settings_it_was_made_of(changes):
    made = config.load("smoke", method="at-fr", **changes)
    assert config.load("smoke", **config.parse_label(made.label)) == made
