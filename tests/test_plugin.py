"""A reader's own file: a method, a network and an attack, trained, judged and shown like ours."""

import importlib
from functools import partial

import pytest
import torch

from frlib import attacks, evaluate, losses, methods, models
from frlib.__main__ import main
from frlib.publish import comparison
from frlib.run import config, files, own_code, presets, sweep

MINE = """
from torch import nn
from frlib import evaluate, losses, methods, models

class Net(nn.Module):
    def __init__(self, num_classes, mean, std):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.BatchNorm2d(4), nn.Flatten(),
                                 nn.Linear(256, num_classes))

    def forward(self, x):
        return self.net(x)

def loss(model, x, x_adv, y, settings, epoch):
    clean, adv = losses.cross_entropy(model(x), y), losses.cross_entropy(model(x_adv), y)
    return clean + settings.beta * adv, {"loss_mine": clean + settings.beta * adv}

methods.register("mine", methods.Method("both", methods.pgd, loss, averaged="mine-swa"))
models.register("my-net", Net)
evaluate.register_attack("brighter", lambda model, x, y, *, eps, generator: (x + eps).clamp(max=1),
                         "brighter")
"""
PRESET = """preset: plugged
settings:
  {dataset: digits, train_size: 32, batch_size: 16, model: my-net, epochs: 2, steps: 1, threads: 1,
   curve_images: 8, curve_steps: 1, judge_images: 8, aa_images: 2, swa_start: 0.5, plugin: mine.py}
"""


@pytest.fixture(autouse=True)
def plugged(own_root, registries, monkeypatch):
    presets._import.cache_clear()
    (own_root / "mine.py").write_text(MINE)
    (own_root / "plugged.yaml").write_text(PRESET)
    monkeypatch.setattr(evaluate, "autoattack", lambda model, x, y, **_: evaluate.AutoAttackResult(
        evaluate.correct(model, x, y), x, {}, []))


def test_commands_train_and_judge_what_a_file_registers(tmp_path, capsys):
    for step, run in (("train", "mine@beta=0.5"), ("judge", "mine@beta=0.5"),
                      ("judge", "mine-swa@beta=0.5")):
        assert main([step, "--plugin", "mine.py", "--preset", "plugged.yaml", "--run", run,
                     "--runs-dir", str(tmp_path)]) == 0, capsys.readouterr().err
    assert "mine@beta=0.5, both: " in capsys.readouterr().out
    found = {label: {0: files.read_json(tmp_path / f"results/plugged/{label}/seed0.json")}
             for label in ("mine@beta=0.5", "mine-swa@beta=0.5")}
    one, average = (by_seed[0] for by_seed in found.values())
    assert list(one["scores"]) == ["clean", "fgsm", "pgd20", "cw", "brighter", "aa"]
    assert (one["checkpoint"], average["checkpoint"]) == ("best", "swa-last")
    assert "loss_mine" in one["history"][0] and "swa_val_pgd" in one["history"][1]
    table = comparison.table(found, list(found), "mine@beta=0.5")
    assert "brighter" in table and table.count("<td>minus mine, beta=0.5</td>") == 1
    own = evaluate.judge(models.create("my-net"), torch.rand(8, 3, 32, 32), torch.arange(8) % 10)
    assert own["scores"].keys() == one["scores"].keys() - {"aa"}
    assert "not run" in comparison.table({**found, "own": {0: own}}, [*found, "own"], "own")


def test_an_edited_file_is_told_and_an_unfinished_run_does_not_go_on(own_root, tmp_path, caplog,
                                                                     capsys):
    command = ["--plugin", "mine.py", "--preset", "plugged.yaml", "--run", "mine",
               "--runs-dir", str(tmp_path)]
    assert main(["train", *command]) == 0 and main(["judge", *command]) == 0
    (own_root / "mine.py").write_text(MINE.replace("return clean +", "return 2 * clean +"))
    presets._import.cache_clear()  # as a new process has it
    for registry, name in ((methods.METHODS, "mine"), (models.ARCHITECTURES, "my-net"),
                           (evaluate.ATTACKS, "brighter")):
        del registry[name]
    assert main(["train", *command]) == 0
    assert "your own code as it was before a change; --redo trains it again" in caplog.text
    caplog.clear()
    capsys.readouterr()
    assert main(["status", "--preset", "plugged", "--runs-dir", str(tmp_path), "--plugin",
                 "mine.py"]) == 0
    assert "STALE (your attack 'brighter' has changed; your own code of its training has changed)" \
        in capsys.readouterr().out
    assert main(["judge", *command]) == 0
    assert "your attack 'brighter' has changed" in caplog.text
    assert "your own code as it was before a change" in caplog.text
    (tmp_path / "results/plugged/mine/seed0.json").unlink()
    assert main(["judge", *command]) == 1  # its weights, in another network
    assert "by your own code as it was before a change: put that back" in capsys.readouterr().err
    (tmp_path / "plugged/mine/seed0/finished.json").unlink()
    assert main(["train", *command]) == 1
    assert "it cannot go on with other code" in capsys.readouterr().err


def test_a_file_edited_beside_a_running_process_is_refused(own_root):
    settings = config.load("plugged.yaml", method="mine")
    before = own_code.of_training(settings)
    (own_root / "mine.py").write_text(MINE.replace("return clean +", "return 2 * clean +"))
    with pytest.raises(ValueError, match="mine.py was edited after it was loaded.*restart"):
        own_code.of_training(settings)
    with pytest.raises(ValueError, match="restart the kernel"):
        own_code.of_attacks()
    (own_root / "mine.py").write_text(MINE)
    assert own_code.of_training(settings) == before


def test_parts_of_the_library_that_a_reader_puts_together_have_a_checksum():
    def sums(steps, of=methods.pgd, blocks=(1, 1), **flags):
        methods.register("own", methods.Method("own", partial(of, start=False),
                                               methods.cross_entropy, **flags), replace=True)
        models.register("own-net", partial(models.ResNet, models.BasicBlock, blocks, 8),
                        replace=True)
        attack = partial(attacks.pgd, steps=steps, loss=losses.cross_entropy, more={"a": [1]})
        evaluate.register_attack("own", attack, replace=True)
        settings = config.load("smoke", method="own", model="own-net")
        return own_code.of_training(settings), own_code.of_attacks()["own"]

    assert sums(1) == sums(1)
    training, attack = zip(sums(1), sums(50), sums(1, methods.pgd_beside), sums(1, blocks=(1, 2)),
                           sums(1, perturbs_weights=True), strict=True)
    assert len(set(training)) == 4 and training[0] == training[1]
    assert attack[0] != attack[1] and attack[0] == attack[3]
    assert own_code.of_training(config.load("smoke", method="at-fr")) == ""


def test_a_knob_that_a_function_closes_over_is_its_code_too():
    def made(weight):
        def loss(x):
            return weight * x
        return loss

    class Weighed:
        def __init__(self, weight):
            self.weight = weight

        def __call__(self, x):
            return self.weight * x

    for make in (made, Weighed):
        assert own_code.checksum(make(1.0)) == own_code.checksum(make(1.0))
        assert own_code.checksum(make(1.0)) != own_code.checksum(make(100.0))


def test_a_knob_among_a_notebooks_globals_is_its_code_too():
    cell, space = "def loss(x):\n    return weight * x\n", {"weight": 1.0}
    exec(compile(cell, "<cell 3>", "exec"), space)  # as IPython runs a cell: of no file
    before = own_code.checksum(space["loss"])
    space["weight"] = 100.0
    assert own_code.checksum(space["loss"]) != before


def test_what_a_file_imports_from_its_folder_is_its_code_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "weighing.py").write_text("from scales import ONE\n")
    (tmp_path / "scales.py").write_text("import weighing\nONE = 1\n")
    (tmp_path / "attacking.py").write_text("import torch, weighing\ndef attack(x): return x\n")
    attack = importlib.import_module("attacking").attack
    before = own_code.checksum(attack)
    (tmp_path / "scales.py").write_text("import weighing\nONE = 5\n")
    assert own_code.checksum(attack) != before


def test_a_preset_brings_its_file_along(tmp_path):
    settings = config.load("plugged.yaml", method="mine-swa")
    assert settings.trained_as == "mine" and settings.label == "mine-swa"
    assert config.decides("beta", "mine") and not config.decides("beta", "at")
    assert 'plugin=["mine.py"]' in sweep.pipeline(settings, ["mine"], [0])
    with pytest.raises(ValueError, match="recipe = 'official': only for at, "):
        config.load("plugged.yaml", method="mine", recipe="official")


@pytest.mark.parametrize(("file", "text", "message"), [
    ("gone.py", None, "plugin = 'gone.py': there is no such Python file, neither in"),
    ("mine.txt", "", "plugin = 'mine.txt': there is no such Python file"),
    ("again.py", MINE.replace('"mine",', '"at",'), "method 'at' is registered already")])
def test_a_file_that_cannot_be_imported_is_named(own_root, capsys, file, text, message):
    if text is not None:
        (own_root / file).write_text(text)
    assert main(["train", "--plugin", file, "--run", "mine"]) == 1
    with pytest.raises(ValueError, match=message):
        presets.load_plugin(file)


def test_without_the_file_its_names_are_unknown():
    with pytest.raises(ValueError, match="method = 'mine': choose one of natural, at, "):
        config.load("smoke", method="mine")
    assert "mine" not in methods.METHODS
