"""Golden runs: what the code computes, in a few steps and images, held to numbers of before.

Everything is float64, so that another processor or torch rounds far below the tolerance. A number
that has moved means that stored results are no longer what this code would give: then raise the
part's version in frlib/run/provenance.py (NUMERICS) and renew the file with

    python tests/test_golden.py
"""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from frlib import averaging, data, evaluate, fast, models, spectral, train
from frlib.run import config, figures
from frlib.run.provenance import NUMERICS

FILE = Path(__file__).with_name("golden.json")
TRAININGS = {  # name: the label, and its settings beside those of the smoke preset
    "natural": {}, "at": {}, "at@attack_mode=train": {}, "at-awp": {}, "trades": {}, "mart": {},
    "trades-awp": {}, "at@schedule=one-cycle": {},
    **{f"at-fr@fr_transform={name}": {} for name in
       ("class", "batch-class", "none", "permuted", "orthogonal", "l2")},
}


def network():
    """A small ResNet whose BatchNorm statistics are those of 64 digits, so that it tells classes
    apart a little: (model, images, labels), float64."""
    split = data.load("digits", "", "train").take(64)
    x = split.images.double() / 255
    torch.manual_seed(0)
    model = models.create("resnet8-16").double()
    averaging.reestimate_batchnorm(model, [x])
    return model, x, split


def trained(label):
    """Loss terms and weights after three steps of a method."""
    settings = config.load("smoke", steps=3, batch_size=16, train_size=48, milestones=[0.5],
                           **config.parse_label(label))
    model, _, split = network()
    optimizer = train._optimizer(model, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    row = train.train_epoch(model, optimizer, split.take(48), generator, settings, 0)
    norms = sum(p.detach().abs().sum().item() for p in model.parameters())
    running = sum(b.sum().item() for name, b in model.named_buffers() if "running" in name)
    return {**row, "weights": norms, "statistics": running}


def judged(name):
    """How an attack that judges changes the images and the loss."""
    model, x, split = network()
    x, split = x[:16], split.take(16)
    attack = partial(evaluate.ATTACKS[name], eps=8 / 255,
                     generator=torch.Generator().manual_seed(0))
    x_adv = attack(fast.freeze(model), x, split.labels)
    loss = torch.nn.functional.cross_entropy(model.eval()(x_adv), split.labels)
    return {"loss": loss.item(), "moved": (x_adv - x).abs().mean().item()}


def drawn(name):
    """What chapters 5 and 8 measure, of eight images and their attacks."""
    model, x, split = network()
    x, y, model = x[:8], split.labels[:8], fast.freeze(model)
    settings = config.load("smoke")
    adv = figures.attacked_images(model, x, y, settings)
    if name == "figures":
        radial = spectral.radial_energy(adv - x)
        radii = torch.arange(len(radial))
        return {"filtered": spectral.low_pass(x, 16).abs().sum().item(),
                "difference": (spectral.amplitude(adv) - spectral.amplitude(x)).abs().mean().item(),
                "radius": ((radii * radial).sum() / radial.sum()).item(),
                "roughness": spectral.kernel_roughness(model.net.conv1.weight)}
    edges = figures.band_edges([10.4, 14.8], x)
    all_of_them = torch.ones(8, dtype=torch.bool)
    found = {f"band {band}": figures.confined(model, x, y, all_of_them, edges, band, settings)
             for band in range(3)}
    waves = spectral.wave(*x.shape[-2:], 3, -5)
    return {**{name: (share.sum() + size.sum()).item()
               for name, (_, share, size) in found.items()},
            "share": spectral.energy_shares(adv - x, edges)[:, 0].sum().item(),
            "density": figures.density(adv - x, 4).std().item(),
            "wave": (waves * x).sum().item(),
            "high": figures.high_pass(x, 5).square().sum().item()}


PARTS = {"train": (trained, TRAININGS), "judge": (judged, evaluate.ATTACKS),
         "figures": (drawn, ["figures"]), "lens": (drawn, ["lens"])}
ALL = [(part, name) for part, (_, names) in PARTS.items() for name in names]


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr(data, "to_float", lambda images: images.double() / 255)


@pytest.mark.parametrize(("part", "name"), ALL)
def test_the_code_still_computes_what_it_did(double, part, name):
    golden = json.loads(FILE.read_text())
    message = (f"{name}: another number than in tests/golden.json. If that is meant, raise "
               f"NUMERICS[{part!r}] in frlib/run/provenance.py and run python tests/test_golden.py")
    assert PARTS[part][0](name) == pytest.approx(golden[part][name], rel=1e-6, abs=1e-12), message
    assert golden["numerics"][part] == NUMERICS[part], message


if __name__ == "__main__":
    data.to_float = lambda images: images.double() / 255
    torch.set_num_threads(1)
    found = {part: {name: compute(name) for name in names}
             for part, (compute, names) in PARTS.items()}
    FILE.write_text(json.dumps({"numerics": NUMERICS, **found}, indent=1) + "\n")
