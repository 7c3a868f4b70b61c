"""One loop: it repeats, it resumes, it refuses what is not its own, and never sees test labels."""

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from conftest import write_preset
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from frlib import data, fast, losses, models, train
from frlib.methods import METHODS
from frlib.run import config, cost, evaluate_run, files, folder, provenance, training

FILES = ["best.pt", "config.json", "finished.json", "last.pt", "metrics.jsonl", "swa-best.pt"]


@pytest.fixture(scope="module", autouse=True)
def preset(own_root, small_digits):
    write_preset(own_root, "tiny", epochs=3, lr=0.05, step_size="8/255", curve_images=16)


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    monkeypatch.setattr(provenance, "_commit", lambda: {"commit": "0123abc", "dirty": False})


@pytest.fixture
def settings(tmp_path):
    """Makes configs whose runs live in this test's own folder."""
    def make(method="at", **changes):
        return config.load("tiny.yaml", **{"method": method, "runs_dir": str(tmp_path / "runs"),
                                           **changes})
    return make


@pytest.fixture(scope="module")
def unbroken(preset, tmp_path_factory):
    """An adversarial training from start to end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "_commit", lambda: {"commit": "0123abc", "dirty": False})
        return train.train(config.load("tiny.yaml", method="at",
                                       runs_dir=str(tmp_path_factory.mktemp("unbroken"))))


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def tensors(content, path=""):
    """Every tensor in a checkpoint, by where it stands."""
    if isinstance(content, torch.Tensor):
        return {path: content}
    items = content.items() if isinstance(content, dict) else \
        enumerate(content) if isinstance(content, (list, tuple)) else ()
    return {k: v for key, value in items for k, v in tensors(value, f"{path}/{key}").items()}


def same_weights(one, two, names=("best", "last", "swa-best")):
    for name in names:
        a, b = (tensors(torch.load(run.checkpoint(name), weights_only=True)) for run in (one, two))
        if a.keys() != b.keys() or not all(torch.equal(v, b[k]) for k, v in a.items()):
            return False
    return True


def die_at(monkeypatch, name, call):
    """The n-th call of a function of runs ends as a kill would, after its work."""
    original, calls = getattr(folder, name), []

    def dying(*arguments, **kwargs):
        original(*arguments, **kwargs)
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
    monkeypatch.setattr(folder, name, dying)


# --- a run


def test_a_finished_run_holds_what_it_promises(unbroken):
    assert unbroken.finished
    assert sorted(p.name for p in unbroken.dir.iterdir() if p.name != ".lock") == FILES
    assert [row["epoch"] for row in unbroken.history] == [1, 2, 3]
    for row in unbroken.history:
        assert {"loss_ce", "lr", "val_clean", "val_pgd", "test_clean", "test_pgd", "seconds"} \
            <= row.keys() and "loss_fr" not in row
        assert ("swa_val_pgd" in row) == (row["epoch"] == 3)  # from int(0.75 * 3) = 2, from 0
        for name in ("val", "test"):
            assert 0 <= row[f"{name}_pgd"] <= row[f"{name}_clean"] <= 1
            assert (row[f"{name}_clean"] * 16).is_integer()
    finished = json.loads((unbroken.dir / "finished.json").read_text())
    assert finished["provenance"]["commit"] == "0123abc"
    assert finished["data"] == data.load("digits", "", "train").take(64).checksum
    assert finished["checkpoints"] == {
        **{name: files.file_checksum(unbroken.checkpoint(name)) for name in ("best", "swa-best")},
        "swa-last": files.weights_checksum(evaluate_run.load_weights(unbroken, "swa-last"))}
    stored = json.loads((unbroken.dir / "config.json").read_text())
    assert stored["eps"] == 8 / 255 and stored["numerics"] == 1


def test_best_is_the_epoch_with_the_highest_validation_accuracy_under_attack(unbroken):
    robust = [row["val_pgd"] for row in unbroken.history]
    best = torch.load(unbroken.checkpoint("best"), weights_only=True)
    assert best["epoch"] == robust.index(max(robust)) + 1  # the first of equals
    with pytest.raises(ValueError, match="checkpoint 'final': choose 'best', 'last' or 'swa-best'"):
        unbroken.checkpoint("final")


@pytest.mark.parametrize(("function", "call"), [("write_history", 1), ("write_history", 2),
                                                ("save", 1), ("save", 2), ("save", 3),
                                                ("accept", 2), ("accept", 3),
                                                ("write_history", 4)])
def test_a_killed_run_goes_on_to_the_same_end(unbroken, settings, monkeypatch, function, call):
    with monkeypatch.context() as patch:
        die_at(patch, function, call)
        with pytest.raises(KeyboardInterrupt):
            train.train(settings())
    run = folder.open_run(settings())
    assert not run.finished
    torch.manual_seed(99)  # what else the process did must not matter
    train.train(settings())
    assert run.finished
    assert without_seconds(run.history) == without_seconds(unbroken.history)
    assert same_weights(run, unbroken)


class Dropping(models.Classifier):
    """A reader's network that draws from torch's own generator."""

    def __init__(self, num_classes, mean, std):
        super().__init__(mean, std)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(),
                                 nn.Linear(32, num_classes))  # of 8 x 8 pixels

    def logits(self, x):
        return self.net(x)


def test_a_killed_run_of_a_network_with_dropout_goes_on_to_the_same_end(settings, monkeypatch,
                                                                        registries, tmp_path):
    models.register("dropping", Dropping)
    whole = train.train(settings(model="dropping", runs_dir=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        die_at(patch, "write_history", 1)
        with pytest.raises(KeyboardInterrupt):
            train.train(settings(model="dropping"))
    torch.manual_seed(99)
    assert same_weights(train.train(settings(model="dropping")), whole)


def test_at_and_at_swa_are_one_run_trained_once(settings, unbroken, monkeypatch):
    run = train.train(settings("at-swa", seed=1))
    assert run.dir == folder.open_run(settings("at", seed=1)).dir and run.config.method == "at"
    assert run.dir.parts[-3:] == ("tiny", "at", "seed1")
    assert not same_weights(run, unbroken, ["last"])  # of seed 0
    assert folder.open_run(settings("at-fr-swa")).dir == folder.open_run(settings("at-fr")).dir
    assert run.checkpoint("swa-best") != run.checkpoint("best")
    monkeypatch.setattr(training, "_train", lambda *_: pytest.fail("it trained again"))
    before = {p: p.stat().st_mtime_ns for p in run.dir.glob("*.*") if p.name != ".lock"}
    assert train.train(settings("at", seed=1)).history == run.history
    assert before == {p: p.stat().st_mtime_ns for p in run.dir.glob("*.*") if p.name != ".lock"}


# --- what is computed


def test_the_regularisation_starts_at_its_epoch(settings, unbroken):
    late = train.train(settings("at-fr", fr_start_epoch=1))
    assert ["loss_fr" in row for row in late.history] == [False, True, True]
    assert all(row["loss_fr"] > 0 for row in late.history[1:])
    assert late.history[0]["loss_ce"] == unbroken.history[0]["loss_ce"]  # until then it is AT
    assert late.history[2]["loss_ce"] != unbroken.history[2]["loss_ce"]
    early = train.train(settings("at-fr", epochs=1))
    assert "loss_fr" in early.history[0]


@pytest.mark.parametrize("method", ["at", "at-fr"])
def test_fast_and_plain_loops_agree(settings, method):
    losses = []
    for quick in (False, True):
        run = train.train(settings(method, epochs=1, fast=quick, runs_dir=f"{method}-{quick}"))
        losses.append([run.history[0][k] for k in ("loss_ce", "loss_fr") if k in run.history[0]])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_the_average_is_the_mean_of_the_weights_from_the_first_drop_on(settings, monkeypatch):
    weights, save = [], folder.save

    def keep(path, **content):
        if path.name == "last.pt":
            weights.append({k: v.clone() for k, v in content["state_dict"].items()})
        save(path, **content)
    monkeypatch.setattr(folder, "save", keep)
    run = train.train(settings(epochs=4, swa_start=0.5))
    last = torch.load(run.checkpoint("last"), weights_only=True)
    assert len(weights) == 4 and last["average"]["n_averaged"] == 2
    model = models.create("resnet8-16")
    for name, _ in model.named_parameters():
        mean = torch.stack([w[name] for w in weights[2:]]).mean(0)
        torch.testing.assert_close(last["average"][f"module.{name}"], mean)
    assert ["swa_val_pgd" in row for row in run.history] == [False, False, True, True]
    # BatchNorm statistics are estimated anew, not averaged, or taken from the last weights
    mean = torch.stack([w["bn1.running_mean"] for w in weights[2:]]).mean(0)
    assert not torch.allclose(last["average"]["module.bn1.running_mean"], mean)
    run = train.train(settings(swa_batchnorm="running", epochs=2))
    saved = torch.load(run.checkpoint("last"), weights_only=True)
    assert torch.equal(saved["average"]["module.bn1.running_mean"],
                       saved["state_dict"]["bn1.running_mean"])


def test_the_averages_batchnorm_is_estimated_without_tf32(settings, monkeypatch):
    """On a GPU, where float32 convolutions are TF32 unless told otherwise."""
    allowed = []
    monkeypatch.setattr(train.averaging, "reestimate_batchnorm",
                        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
    train.train(settings(swa_batchnorm="reestimate"))
    assert allowed and not any(allowed)


@pytest.mark.parametrize(("epochs", "share", "epoch"), [
    (100, 0.75, 75), (100, 0.29, 29), (4, 0.5, 2), (3, 0.75, 2), (10, 1.0, 9), (10, 0.0, 0)])
def test_the_average_starts_at_its_share_of_the_epochs(settings, epochs, share, epoch):
    assert train.swa_epoch(settings(epochs=epochs, swa_start=share)) == epoch


@pytest.mark.parametrize(("schedule", "epoch", "rate"), [
    ("step", 0, 0.2), ("step", 74.99, 0.2), ("step", 75, 0.02), ("step", 89.99, 0.02),
    ("step", 90, 0.002), ("step", 99.9, 0.002),
    ("one-cycle", 0, 0.0), ("one-cycle", 15, 0.1), ("one-cycle", 30, 0.2), ("one-cycle", 65, 0.1),
    ("one-cycle", 100, 0.0),
])
def test_the_learning_rate_follows_its_schedule(settings, schedule, epoch, rate):
    c = settings(schedule=schedule, epochs=100, lr=0.2)
    assert train.learning_rate(c, epoch) == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize(("epochs", "drops"), [(1, []), (2, [1]), (3, [2]), (4, [3]), (5, [3, 4]),
                                               (10, [7, 9]), (15, [11, 13]), (100, [75, 90])])
def test_few_epochs_have_no_rate_that_is_a_surprise(settings, epochs, drops):
    """Drops in one epoch count once, and the first epoch has the full rate."""
    c = settings(epochs=epochs, lr=0.1)
    assert [train.learning_rate(c, epoch + 0.99) for epoch in range(epochs)] == pytest.approx(
        [0.1 * 0.1 ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)])


def test_a_natural_training_has_its_rate_its_normalisation_and_no_average(settings):
    assert METHODS["at"].averaged and METHODS["at-sar"].averaged and not METHODS["trades"].averaged
    run = train.train(settings("natural", normalise=True, schedule="one-cycle", epochs=4, lr=0.2,
                               train_size=128))
    assert run.history[-1]["loss_ce"] < run.history[0]["loss_ce"]
    assert [row["lr"] for row in run.history] == pytest.approx(
        [train.learning_rate(run.config, epoch + 0.75) for epoch in range(4)])  # of the last step
    assert not any(key.startswith("swa") for key in run.history[-1])
    assert not (run.dir / "swa-best.pt").exists()
    saved = torch.load(run.checkpoint("best"), weights_only=True)["state_dict"]
    x = data.load("digits", "", "train").take(128).x
    torch.testing.assert_close(saved["mean"].flatten(), x.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(saved["std"].flatten(), x.std(dim=(0, 2, 3)))


def test_test_labels_choose_nothing(settings, unbroken, monkeypatch):
    load = data.load

    def spoiled(name, root, split, **kwargs):
        part = load(name, root, split, **kwargs)
        return part if split != "test" else replace(part, labels=(part.labels + 1) % 10,
                                                    images=255 - part.images)
    monkeypatch.setattr(data, "load", spoiled)
    run = train.train(settings())
    test = [k for k in run.history[0] if "test" in k]
    assert [[row[k] for k in test] for row in run.history] \
        != [[row[k] for k in test] for row in unbroken.history]
    assert same_weights(run, unbroken, ["best", "swa-best"])


# --- what goes wrong


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(settings, monkeypatch):
    epochs, batches = [], data.batches

    def poisoned(*arguments, **kwargs):
        epochs.append(1)
        for step, (x, y) in enumerate(batches(*arguments, **kwargs)):
            yield (x * torch.nan if (len(epochs), step) == (2, 1) else x), y
    monkeypatch.setattr(data, "batches", poisoned)
    with pytest.raises(FloatingPointError, match="not finite at epoch 2, step 2; the last good"):
        train.train(settings("natural"))
    run = folder.open_run(settings("natural"))
    last = torch.load(run.checkpoint("last"), weights_only=True)
    assert last["state"]["epoch"] == 1 and len(run.history) == 1 and not run.finished
    assert all(v.isfinite().all() for v in last["state_dict"].values())


def test_a_run_with_other_settings_is_refused(settings, unbroken, monkeypatch):
    run = folder.open_run(settings())
    stored = json.loads((unbroken.dir / "config.json").read_text())
    files.write_json(run.dir / "config.json", stored | {"eps": 0.5})
    theirs = unbroken.checkpoint("last").read_bytes()
    (run.dir / "last.pt").write_bytes(theirs)
    with pytest.raises(RuntimeError, match=r"seed0 holds a run with other settings \(eps = 0.5 "
                                           r"there, 0.0313\d+ asked for\); choose another"):
        train.train(settings())
    assert (run.dir / "last.pt").read_bytes() == theirs


def test_a_finished_run_of_other_numerics_stays_until_it_is_redone(settings, monkeypatch, caplog):
    old = train.train(settings(epochs=1))
    stored = {path: path.read_bytes() for path in old.dir.glob("*.*") if path.is_file()}
    monkeypatch.setitem(provenance.NUMERICS, "train", 2)
    with caplog.at_level(logging.WARNING, logger="frlib"):
        run = train.train(settings(epochs=1))
    assert "version 1, today's is 2; --redo trains it again" in caplog.text
    assert {path: path.read_bytes() for path in stored} == stored
    run = train.train(settings(epochs=1), redo=True)
    aside = run.dir / "older-1"
    assert sorted(p.name for p in aside.iterdir()) == FILES
    assert (aside / "best.pt").read_bytes() == stored[run.dir / "best.pt"]
    assert run.finished and json.loads((run.dir / "config.json").read_text())["numerics"] == 2


@pytest.mark.parametrize("refuse", [
    lambda patch: patch.setattr(folder, "device_of", lambda c: 1 / 0),
    lambda patch: patch.setattr(data, "load", lambda *a, **k: 1 / 0),
    lambda patch: patch.setattr(training, "check_memory", lambda *a: 1 / 0)])
def test_a_redo_that_is_refused_leaves_the_run_in_its_place(settings, monkeypatch, refuse):
    run = train.train(settings("natural", epochs=1))
    stored = {path: path.read_bytes() for path in run.dir.iterdir()}
    with monkeypatch.context() as patch:
        refuse(patch)
        with pytest.raises(ZeroDivisionError):
            train.train(settings("natural", epochs=1), redo=True)
    assert {path: path.read_bytes() for path in run.dir.iterdir()} == stored and run.finished


def test_a_killed_redo_goes_on_without_it_whatever_snakemake_puts_back(settings, monkeypatch):
    run = train.train(settings(epochs=2))
    old = (run.dir / "finished.json").read_bytes()
    with monkeypatch.context() as patch:
        die_at(patch, "write_history", 1)
        with pytest.raises(KeyboardInterrupt):
            train.train(settings(epochs=2), redo=True)
    (run.dir / "finished.json").write_bytes(old)  # as of an output that a failed job has updated
    assert not run.finished and len(run.history) == 1
    train.train(settings(epochs=2))
    assert run.finished and (run.dir / "older-1" / "finished.json").read_bytes() == old
    assert not (run.dir / "older-2").exists() and not list(run.dir.glob("*.redo"))
    checksums = files.read_json(run.dir / "finished.json")["checkpoints"]
    assert checksums["best"] == files.file_checksum(run.checkpoint("best"))


def test_two_readers_of_a_finished_run_wait_for_each_other(settings):
    run = train.train(settings(epochs=1))
    with ThreadPoolExecutor() as pool:
        with files.lock(run.dir):
            reader = pool.submit(train.train, settings(epochs=1))
            with pytest.raises(TimeoutError):
                reader.result(timeout=0.2)
        assert reader.result(timeout=30) == run


def test_a_gpu_that_is_not_there_is_told(settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert folder.device_of(settings(device="auto")) == folder.device_of(settings(device="cpu")) \
        == "cpu"
    with pytest.raises(ValueError, match="device = 'cuda', but torch sees no GPU"):
        train.train(settings(device="cuda"))


def test_natural_training_is_chosen_by_clean_accuracy(settings, monkeypatch):
    """Its PGD accuracy is highest before it has learnt, so that would choose the first epoch."""
    clean, pgd = iter([0.1, 0.2, 0.3]), iter([0.3, 0.2, 0.1])
    monkeypatch.setattr(train, "score",
                        lambda *_: {"val_clean": next(clean), "val_pgd": next(pgd)})
    run = train.train(settings("natural", swa_start=1.0, epochs=2))
    assert torch.load(run.checkpoint("best"), weights_only=True)["epoch"] == 2


# --- what it will cost, and the fast path


def test_memory_is_told_before_the_first_epoch_and_time_after_it(settings, capsys):
    train.train(settings(epochs=2))
    told = capsys.readouterr().out
    assert re.fullmatch(r"at@epochs=2, adversarial training: \d\.\d GiB on cpu, in float32, as "
                        r"this processor has no bfloat16\n"
                        r"at@epochs=2: about \d+ s left, .*\n", told)
    train.train(settings(epochs=2))
    assert capsys.readouterr().out == ""  # nothing left to do, nothing to tell


def test_a_batch_that_cannot_fit_is_refused_before_any_work(settings, monkeypatch):
    monkeypatch.setattr(cost, "available_bytes", lambda _: 2**20)
    with pytest.raises(MemoryError, match=r"needs about 0\.0 GiB of memory, 0\.0 are free on cpu; "
                                          "lower batch_size = 32"):
        train.train(settings())
    assert not list(folder.open_run(settings()).dir.glob("*.pt"))


def test_nan_is_seen_when_the_last_batch_is_left_out(settings, monkeypatch):
    """65 images in batches of 32: the last image has no batch of its own, and no step 3 comes."""
    monkeypatch.setattr(losses, "cross_entropy", lambda x, y: x.sum() * float("nan"))
    with pytest.raises(FloatingPointError, match="epoch 1, step 1"):
        train.train(settings("natural", train_size=65, epochs=1))


@pytest.mark.parametrize("method", ["at-fr", "trades-awp"])
def test_no_step_waits_for_the_device(settings, method):
    """Under fake tensors whatever needs a value on the CPU, as .item() or nonzero(), raises."""
    config_ = settings(method, steps=2, device="cpu")
    model = models.create("resnet8-16")
    split = data.load("digits", "", "train").take(8)
    frozen = train.fast_copy(model, config_, "cpu")
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        x = data.augment(fake.from_tensor(split.x), None)
        y = fake.from_tensor(split.labels)
        x_adv = METHODS[method].attack(frozen, x, y, config_, None)
        loss, _ = METHODS[method].loss(model.train(), x, x_adv, y, config_, 0)
        torch.autograd.grad(loss, list(model.parameters()))
        with pytest.raises(DataDependentOutputException):
            loss.item()  # or the test would pass whatever happens


def test_a_gpu_attacks_a_compiled_copy_that_is_compiled_once(settings, monkeypatch):
    compiled = []
    compile_ = torch.nn.Module.compile

    def with_another_backend(module, **kwargs):
        compiled.append(kwargs)
        compile_(module, backend="aot_eager", dynamic=False)
    monkeypatch.setattr(torch.nn.Module, "compile", with_another_backend)
    monkeypatch.setattr(fast, "has_bfloat16", lambda device: device == "cuda")
    config_, model = settings(), models.create("resnet8-16")
    for plain in (settings(fast=False), settings(attack_mode="train"), settings("natural")):
        assert train.fast_copy(model, plain, "cpu") is None  # the plain loop has no frozen copy
    split = data.load("digits", "", "train").take(8)
    copy_ = train.fast_copy(model, config_, "cuda")
    plain = train.fast_copy(model, config_, "cpu")
    assert copy_.precision == "bfloat16" and plain.precision == "float32"
    assert compiled == [{"mode": "reduce-overhead", "dynamic": False}]
    copy_.precision = "float32"  # to compare
    for step in range(3):
        made = [METHODS["at"].attack(frozen.refresh(model), split.x, split.labels, config_,
                                     torch.Generator().manual_seed(step))
                for frozen in (copy_, plain)]
        assert (made[0] != made[1]).float().mean() < 0.01
        with torch.no_grad():
            model.conv1.weight.mul_(1.5)
        monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)


@pytest.mark.parametrize(("changes", "device", "there", "expected"), [
    ({}, "cpu", True, ("bfloat16", "bfloat16")),
    ({}, "cpu", False, ("float32", "float32")),
    ({}, "cuda", True, ("bfloat16", "bfloat16")),
    ({"precision": "float32"}, "cpu", True, ("float32", "float32")),
    ({"precision": "bfloat16", "fast": False}, "cpu", True, ("bfloat16", "bfloat16")),
    ({"fast": False}, "cpu", True, ("float32", "float32")),  # the plain loop
    ({"attack_mode": "train"}, "cpu", True, ("float32", "bfloat16"))])
def test_one_setting_decides_the_precision(settings, monkeypatch, changes, device, there, expected):
    monkeypatch.setattr(fast, "has_bfloat16", lambda device: there)
    assert tuple(train.precision(settings(**changes), device).values()) == expected


def test_emulated_bfloat16_is_refused_and_auto_is_what_float32_is(settings, monkeypatch):
    with pytest.raises(ValueError, match="precision = 'bfloat16', but this cpu would emulate it"):
        train.train(settings(precision="bfloat16"))
    run = train.train(settings(epochs=1, runs_dir="auto"))
    same = train.train(settings(epochs=1, runs_dir="float32", precision="float32"))
    assert without_seconds(run.history) == without_seconds(same.history)
    with pytest.raises(RuntimeError, match="precision = 'float32' there, 'bfloat16' asked for"):
        train.train(settings(epochs=1, runs_dir="float32", precision="bfloat16"))


@pytest.mark.parametrize("method", ["at-fr", "trades-awp"])
def test_training_in_bfloat16_keeps_float32_what_must_be(settings, monkeypatch, method):
    """And says so; a finished one is a run wherever float32 was not asked for."""
    monkeypatch.setattr(fast, "has_bfloat16", lambda device: True)
    seen = {}
    real = torch.nn.functional.batch_norm
    monkeypatch.setattr(torch.nn.functional, "batch_norm", lambda x, *args: (
        seen.setdefault(x.dtype, args), real(x, *args))[1])
    small = {"epochs": 1, "train_size": 32, "batch_size": 16}
    run = train.train(settings(method, **small))
    assert all(t.dtype == torch.float32 for t in seen[torch.bfloat16][:4])
    saved = torch.load(run.checkpoint("last"), weights_only=True)
    assert {t.dtype for t in tensors(saved["state_dict"]).values()} <= {torch.float32, torch.int64}
    finished = files.read_json(run.dir / "finished.json")
    assert finished["update_precision"] == finished["attack_precision"] == "bfloat16"
    assert finished["provenance"]["update_precision"] == "bfloat16"
    monkeypatch.setattr(fast, "has_bfloat16", lambda device: False)
    assert train.train(settings(method, **small)).finished
    with pytest.raises(RuntimeError, match="precision = 'bfloat16' there, 'float32' asked for"):
        train.train(settings(method, precision="float32", **small))


def test_trades_attack_begins_in_float32(settings, monkeypatch):
    monkeypatch.setattr(fast, "has_bfloat16", lambda device: True)
    passes = []
    monkeypatch.setattr(fast, "autocast", lambda device, precision: (
        passes.append(precision), torch.autocast(device, torch.bfloat16, enabled=False))[1])
    model, config_ = models.create("resnet8-16"), settings("trades", steps=3)
    frozen, split = train.fast_copy(model, config_, "cpu"), data.load("digits", "", "train").take(4)
    passes.clear()
    for _ in range(2):
        METHODS["trades"].attack(frozen.refresh(model), split.x, split.labels, config_, None)
    assert passes == 2 * ["float32", "float32", "bfloat16", "bfloat16"]


def test_the_loops_defaults_are_those_of_the_settings():
    ours, theirs = train.Settings(), config.Config()
    for field in fields(ours):
        assert getattr(ours, field.name) == getattr(theirs, field.name), field.name
