"""The checks of a robust accuracy: a sound network passes them, broken ones are caught."""

import pytest
import torch
from torch import nn

from frlib.run import soundness


class Plane(nn.Module):
    """Four classes, told by the brightness of four pixels; `gain` scales the logits, and `blind`
    gives them in steps, whose gradient is 0."""

    def __init__(self, gain=1.0, blind=False):
        super().__init__()
        self.gain, self.blind = gain, blind

    def forward(self, x):
        logits = 20 * x[:, 0].flatten(1)
        if self.blind:
            logits = (4 * logits).round() / 4 + 0 * logits
        return self.gain * logits


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(0)
    x = torch.rand(40, 1, 2, 2) * 0.6 + 0.2
    return x, x.flatten(1).argmax(1)


def shares(found):
    return [s["correct"] / s["total"] for s in found.values()]


def test_accuracy_falls_to_nothing_as_the_radius_grows(images):
    found = soundness.by_radius(Plane(), *images, eps=0.1)
    values = shares(found)
    assert list(found)[0] == "0" and values[0] == 1 and values[-1] == 0
    assert all(a >= b for a, b in zip(values, values[1:], strict=False))
    margins = images[0].flatten(1).sort(1).values
    broken = (margins[:, -1] - margins[:, -2] < 2 * 0.1).float().mean().item()
    assert values[soundness.MULTIPLES.index(1.0)] == pytest.approx(1 - broken)  # on paper


def test_a_network_without_gradients_does_not_fall(images):
    assert shares(soundness.by_radius(Plane(blind=True), *images, eps=0.1))[-1] > 0


def test_large_logits_that_hide_the_gradient_are_found_by_rescaling(images):
    sound = shares(soundness.by_scale(Plane(), *images, eps=0.1))
    hidden = shares(soundness.by_scale(Plane(gain=1e4), *images, eps=0.1))
    assert sound[0] == sound[1] and hidden[0] <= hidden[1] <= hidden[2]
    assert hidden[2] > sound[1]


def test_stronger_attacks_find_the_optimum_of_a_linear_network(images):
    plain = soundness.by_scale(Plane(), *images, eps=0.1)["1"]["correct"]
    found = {name: s["correct"] for name, s in soundness.stronger(Plane(), *images,
                                                                  eps=0.1).items()}
    assert list(found) == ["cross-entropy", "margin", "targeted"]
    assert found["margin"] == found["targeted"] <= found["cross-entropy"] <= plain


def test_white_box_hurts_most_and_transfer_less(images):
    models = {"a": Plane(), "b": Plane(blind=True)}
    found = soundness.transfer(models, *images, eps=0.1)
    assert found["a"]["a"]["correct"] < found["b"]["a"]["correct"]
    assert found["a"]["b"]["correct"] < found["b"]["b"]["correct"]  # masking: transfer is stronger
