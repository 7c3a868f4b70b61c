"""The loop as published trains as ours does, and the benchmark's numbers reach the book."""

import copy
import functools
import re
import sys
from pathlib import Path

import pytest
import torch

from frlib import attacks, data, evaluate, models, train
from frlib.publish import curves_tables, speed_tables
from frlib.run import config, evaluate_run, folder, training
from frlib.run.files import file_checksum, read_json, redo_mark, unpack_flags, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import autoattack  # noqa: E402
import curves  # noqa: E402
import load  # noqa: E402
import precision  # noqa: E402
import published  # noqa: E402
import speed  # noqa: E402
import strength  # noqa: E402

TINY = """preset: tiny
settings: {dataset: digits, train_size: 64, epochs: 1, batch_size: 32, steps: 1, step_size: 0.1,
           eps: 0.4, curve_images: 8, curve_steps: 1, swa_start: 1}
"""


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "", "train").take(24)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return models.create("resnet8-16")


def test_published_images_and_attack_are_those_of_ours(digits, network):
    (x, y), = published.loader(digits, len(digits), augment=False)
    here, there = (torch.cat([images.flatten(1), labels[:, None]], 1)
                   for images, labels in ((x, y), (digits.x, digits.labels)))
    assert sorted(here.tolist()) == sorted(there.tolist())  # shuffled, each with its label
    torch.manual_seed(1)
    x_adv = published.pgd(network, digits.x, digits.labels, eps=0.1, step_size=0.08, steps=2)
    assert (x_adv - digits.x).abs().max() <= 0.1 + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    assert not x_adv.requires_grad and all(p.grad is None for p in network.parameters())
    expected = attacks.pgd(network, digits.x, digits.labels, eps=0.1, step_size=0.08, steps=2,
                           random_start=False)
    found = published.pgd(network, digits.x, digits.labels, eps=0.1, step_size=0.08, steps=2,
                          random_start=False)
    assert (found - expected).abs().max() < 1e-6


@pytest.mark.parametrize("variant", ["tensors", "ours", "default"])
def test_ours_and_the_published_loop_make_the_same_step(digits, network, variant, monkeypatch):
    settings = config.Config(method="at", model="resnet8-16", dataset="digits", batch_size=24)
    real = attacks.pgd
    monkeypatch.setattr(attacks, "pgd",
                        lambda *args, **given: real(*args, **{**given, "random_start": False}))
    monkeypatch.setattr(data, "augment", lambda x, *args, **kwargs: x)
    monkeypatch.setattr(published, "loader", functools.partial(published.loader, augment=False))
    monkeypatch.setattr(published, "pgd", functools.partial(published.pgd, random_start=False))
    ours, theirs = copy.deepcopy(network), copy.deepcopy(network)
    loss = speed.epoch_of(variant, ours, digits, settings)()["loss_ce"]
    assert loss == pytest.approx(speed.epoch_of("published", theirs, digits, settings)(), rel=1e-4)
    for moved, expected, start in zip(ours.parameters(), theirs.parameters(),
                                      network.parameters(), strict=True):
        change = expected - start
        assert (moved - expected).norm() <= 1e-2 * change.norm() + 1e-6


def test_needed_operations_are_those_of_the_convolutions(digits, network):
    settings = config.Config(method="at", steps=3, batch_size=2)
    stem = 2 * 3 * 16 * 9 * 32 * 32  # of one image, as each number below
    blocks = 2 * 9 * 32 * 32 * 16 * (2 * 16 + (32 / 4 + 32 * 32 / 16 / 4) + (64 * 32 / 16 / 16 +
                                                                           64 * 64 / 16 / 16))
    shortcuts = 2 * (16 * 32 * 16 * 16 + 32 * 64 * 8 * 8)
    forward = stem + blocks + shortcuts + 2 * 64 * 10
    # the update needs no gradient of the images, so the stem's backward pass is one, not two
    attack, update = 2 * 3 * 2 * forward, 2 * (3 * forward - stem)
    assert speed.flops_per_step(network, digits, settings) == {
        "flops_per_step": attack + update, "flops_of_attack": attack}
    assert all(p.grad is None for p in network.parameters())


def test_spread_is_taken_round_by_round():
    # the machine was half as fast in the second round: no matter
    assert speed_tables.ratios([2.0, 4.0, 3.0], [1.0, 2.0, 2.0]) == [2.0, 2.0, 1.5]
    assert speed_tables.spread([2.0, 2.0, 1.5]) == (2.0, 1.5, 2.0)
    assert speed_tables.spread([1.0, 2.0, 4.0, 9.0]) == (3.0, 1.0, 9.0)
    with pytest.raises(ValueError):
        speed_tables.ratios([1.0, 2.0], [1.0])


def test_a_worker_answers_and_its_failure_is_told(capfd):
    worker = speed.Worker(functools.partial, divmod, 7)
    assert worker(2) == (3, 1)
    with pytest.raises(RuntimeError, match="a worker process ended"):
        worker(0)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_tiny_run_reaches_the_book(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr(evaluate, "STAGES", ("apgd-ce",))
    monkeypatch.setattr(speed, "SIDE", 64)
    monkeypatch.setattr(speed, "Worker", lambda build, *given: build(*given))  # in this process
    out = tmp_path / "benchmarks" / "here.json"
    common = ["--models", "resnet8-16", "--threads", "1", "--out", str(out)]
    assert speed.main([*common, "--only", "train", "--rounds", "1", "--steps", "2",
                       "--batch-size", "4"]) == 0
    before = read_json(out)
    assert speed.main([*common, "--only", "autoattack", "--images", "4", "--attack-rounds", "1",
                       "--preset", str(tmp_path / "tiny.yaml"), "--runs-dir", str(tmp_path)]) == 0
    assert str(out) in capsys.readouterr().out
    content = read_json(out)
    assert content["train"] == before["train"] and set(before) == {"train"}
    entry = content["train"]["models"]["resnet8-16"]
    assert {v: len(s) for v, s in entry["seconds"].items()} == dict.fromkeys(speed.VARIANTS, 1)
    assert min(*sum(entry["seconds"].values(), []), *entry["product_gflops"]) > 0
    assert entry["attack_seconds"].keys() == set(speed.OURS)
    assert min(*sum(entry["attack_seconds"].values(), [])) > 0
    assert sum(entry["attack_shares"].values()) == pytest.approx(1)
    assert entry["attack_shares"]["convolutions"] > 0.1
    assert entry["setting"]["timed_steps"] == 2 and entry["setting"]["steps"] == 10
    assert content["train"]["provenance"]["threads"] == 1
    attack = content["autoattack"]["models"]["resnet8-16"]
    flags = [unpack_flags(attack["flags"]["apgd-ce"][side], 4).sum() for side in speed.SIDES]
    assert flags == [attack["standing"]["apgd-ce"][side][0] for side in speed.SIDES]
    assert attack["differing"]["apgd-ce"] == [0] and max(flags) <= attack["clean"]
    text = speed_tables.speed(out.parent)
    assert ":name: speed-train-here" in text and ":name: speed-autoattack-here" in text
    assert ":name: speed-parts-here" in text
    assert "4 images of digits" in text and "the first 4 test images of digits" in text


def made(seconds, *, peak=None, precision="float32"):
    """A result file's parts with hand-made numbers: {side: seconds of each round}."""
    provenance = {"device": "CPU", "threads": 2, "versions": {"torch": "2.11.0"},
                  "commit": "0" * 40, "dirty": False, "date": "2026-01-02 03:04:05"}
    train_entry = {"setting": {"dataset": "cifar10", "steps": 10, "batch_size": 128, "tf32": False,
                               "timed_steps": 4, "attack_precision": precision},
                   "flops_per_step": 20_000_000_000, "product_gflops": [40.0] * 3,
                   "seconds": seconds, **({"peak_mib": peak} if peak else {})}
    stages = {"apgd-ce": seconds, "square": {side: [0.0] * 3 for side in seconds}}
    attack_entry = {"setting": {"dataset": "cifar10", "images": 8}, "clean": 5, "seconds": stages,
                    "standing": {stage: dict.fromkeys(seconds, [2, 2, 2]) for stage in stages},
                    "differing": {"apgd-ce": [0, 1, 0], "square": [0, 0, 0]}, "flags": {}}
    return {"train": {"provenance": provenance, "models": {"a": train_entry}},
            "autoattack": {"provenance": provenance, "models": {"a": attack_entry}}}


def rows(text):
    return [re.findall(r"(?:^\* -|^  -) (.*)", row, re.M)
            for row in re.split(r"^(?=\* - )", text, flags=re.M)[1:]]


def test_tables_hold_what_the_seconds_say(tmp_path):
    seconds = {"published": [2.0, 4.0, 3.0], "ours": [1.0, 2.0, 2.0]}
    write_json(tmp_path / "cpu.json", made(seconds))
    text = speed_tables.speed(tmp_path)
    head, reference, ours, product, attack_head, clean, first, square, total = rows(text)
    assert reference[:4] == ["a", "published", "3 [2, 4]", "1.00 [1.00, 1.00]"]
    assert ours == ["", "ours", "2 [1, 2]", "2.00 [1.50, 2.00]", "10", "25 [25, 50]"]
    assert product == ["", "matrix product, float32", "—", "—", "40", "100"]
    assert clean == ["a", "clean", "—", "—", "—", "5", "—"]
    assert first == ["", "apgd-ce", "3 [2, 4]", "2 [1, 2]", "2.00 [1.50, 2.00]", "2 / 2", "1"]
    assert square == ["", "square", "—", "—", "—", "2 / 2", "0"]
    assert total == ["", "all", "3 [2, 4]", "2 [1, 2]", "2.00 [1.50, 2.00]", "25.0 % / 25.0 %", "1"]
    assert len(head) == len(ours) and len(attack_head) == len(first)
    assert "CPU, threads: 2, torch 2.11.0, 2026-01-02 03:04:05 UTC, commit 0000000." in text
    assert "A step needs 20 GFLOP (a)." in text and "3 rounds of 4 steps" in text


def test_a_bfloat16_loop_is_measured_by_its_own_product_and_its_step_is_taken_apart(tmp_path):
    content = made({"published": [4.0, 4.0, 4.0], "ours": [2.0, 2.0, 2.0],
                    "default": [1.0, 1.0, 1.0]}, precision="bfloat16")
    del content["autoattack"]
    content["train"]["models"]["a"] |= {
        "product_bfloat16": [50.0] * 3, "flops_of_attack": 16_000_000_000,
        "attack_seconds": {"ours": [1.6] * 3, "default": [0.8] * 3},
        "attack_shares": {"convolutions": 0.75, "other": 0.25}}
    content["train"]["models"]["a"]["setting"]["update_precision"] = "bfloat16"
    write_json(tmp_path / "cpu.json", content)
    _, _, ours, attack, half, half_attack, _, product, head, parts = rows(
        speed_tables.speed(tmp_path))
    assert ours[-2:] == ["10", "25 [25, 25]"] and attack[1:] == [
        "its attack", "1.6 [1.6, 1.6]", "—", "10", "25 [25, 25]"]
    assert half[1] == "ours, default: bfloat16" and half[-2:] == ["20", "40 [40, 40]"]
    assert half_attack[-2:] == ["20", "40 [40, 40]"]
    assert product[1:] == ["matrix product, bfloat16", "—", "—", "50", "100"]
    assert head == ["Model", "Attack: convolutions", "Attack: other", "Update"]
    assert parts == ["a", "60", "20", "20"]


def test_what_bfloat16_costs_reaches_the_book(tmp_path, monkeypatch):
    """A tiny measurement, its tables and its lines; nothing of it in the tables of speed."""
    out = tmp_path / "precision.json"
    assert speed_tables.ascent(tmp_path) == []
    tiny = TINY.replace("train_size: 64", "model: resnet8-16, train_size: 16")
    (tmp_path / "tiny.yaml").write_text(tiny)
    told = ["--images", "4", "--attack-steps", "1", "--methods", "trades", "--seeds", "0", "1",
            "--preset", str(tmp_path / "tiny.yaml"), "--runs-dir", str(tmp_path / "runs")]
    assert precision.main([*told, "--out", str(out)]) == 0
    content = read_json(out)
    assert content["inner"]["bfloat16"] == "emulated"
    assert content["inner"]["provenance"]["device"].startswith("CPU")
    runs = tmp_path / "runs" / "bfloat16"
    finished = [read_json(path) for path in runs.rglob("finished.json")]
    assert {run["update_precision"] for run in finished} == {"bfloat16"} and len(finished) == 2
    attacked, inner, trained = (text for text in re.split("(?=```{list-table})",
                                speed_tables.precision(tmp_path))[1:])
    assert rows(attacked)[1][0] == "resnet8-16, trades" and "bfloat16 emulated" in attacked
    assert rows(inner)[1][:2] == ["3", "all"] and rows(trained)[-1][0] == "mean"
    labels = [line["label"] for line in speed_tables.ascent(tmp_path)]
    assert labels == ["trades, float32", "trades, bfloat16"]
    assert "not run" in speed_tables.speed(tmp_path)
    assert "-gpu" not in speed_tables.precision(tmp_path)
    write_json(tmp_path / "precision-cuda.json", {"training": content["training"]})
    *_, gpu = re.split("(?=```{list-table})", speed_tables.precision(tmp_path))
    assert ":name: precision-training-gpu" in gpu and rows(gpu)[1:] == rows(trained)[1:]
    assert speed_tables.precision(tmp_path).count("list-table") == 4


def test_a_training_whose_weights_are_gone_still_has_its_curve(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY.replace("}", ", model: resnet8-16}"))
    told = [str(tmp_path / "tiny.yaml"), "--runs-dir", str(tmp_path), "--out",
            str(tmp_path / "curves.json")]
    assert curves.main(told) == 1 and "no finished run" in capsys.readouterr().err
    own = config.load(told[0], runs_dir=str(tmp_path), seed=3)
    last = train.train(own).history[-1]
    redo = redo_mark(folder.open_run(own).dir / "finished.json")
    redo.touch()  # it is being trained anew, and its curve not whole
    assert curves.main(told) == 1 and "no finished run" in capsys.readouterr().err
    redo.unlink()
    assert curves.main(told) == 0
    table = curves_tables.curves(tmp_path)
    (row,) = rows(table)[1:]
    assert row[:2] == ["at", "3"] and row[2].startswith(f"{100 * last['test_clean']:.1f} [")
    assert row[4].startswith(f"{100 * last['swa_test_clean']:.1f} [")
    assert ":name: curves-tiny" in table and "`" not in table.split("\n")[0][3:]  # else no fence
    content = read_json(tmp_path / "curves.json")
    content["presets"]["tiny"]["setting"]["curve_images"] = 0  # all of them, however many
    write_json(tmp_path / "curves.json", content)
    table = curves_tables.curves(tmp_path)
    assert rows(table)[1][2] == f"{100 * last['test_clean']:.1f}" and "on all test images" in table


@pytest.mark.parametrize(("name", "table", "text", "message"), [
    ("cpu", speed_tables.speed, '{"train": {"models": {"a": 1}}}', "not a benchmark file"),
    ("cpu", speed_tables.speed, '{"train"', "damaged JSON"),
    ("load", speed_tables.load, '{"runs": 2}', "not of benchmarks/load.py"),
    ("curves", curves_tables.curves, '{"presets": {"a": 1}}', "not of benchmarks/curves.py"),
    ("precision", speed_tables.precision, '{"attacks": {"found": {"at": {}}}}',
     "not of benchmarks/precision.py")])
def test_what_was_not_measured_says_so_and_a_wrong_file_is_named(tmp_path, name, table, text,
                                                                 message):
    assert "not run" in table(tmp_path)
    (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises(ValueError, match=f"{name}.json: {message}"):
        table(tmp_path)


@pytest.mark.slow
def test_many_runs_at_once_are_measured_and_told(tmp_path, capsys):
    own = ", model: resnet8-16, threads: 1, judge_images: 8, aa_images: 2}"
    (tmp_path / "tiny.yaml").write_text(TINY.replace("}", own))
    told = ["--preset", str(tmp_path / "tiny.yaml"), "--folder", str(tmp_path / "load"),
            "--out", str(tmp_path / "load.json"), "--runs", "2", "--slots", "2"]
    assert load.main(told) == 0, capsys.readouterr().err
    found = read_json(tmp_path / "load.json")
    assert found["seconds"] > 0 and found["alone_seconds"] > 0 and found["peak_bytes"] > 2**28
    text = speed_tables.load(tmp_path)
    assert rows(text)[1][:2] == ["2", "2"] and "preset tiny" in text and ", commit " in text
    with pytest.raises(SystemExit):
        load.main(told)
    assert "load exists; delete it" in capsys.readouterr().err


def test_of_many_runs_none_may_be_lost_doubled_or_half_written(tmp_path):
    results = tmp_path / "results" / "load" / "at"
    for seed in (0, 1):
        write_json(results / f"seed{seed}.json", {"seed": seed, "checkpoint_sha256": str(seed)})
    assert [result["seed"] for result in load.checked(tmp_path, 2)] == [0, 1]
    with pytest.raises(FileNotFoundError, match="seed2.json"):
        load.checked(tmp_path, 3)
    (results / ".seed2.json.7.tmp").touch()
    with pytest.raises(RuntimeError, match=r"half written: \['.*seed2.json.7.tmp'\]"):
        load.checked(tmp_path, 2)
    write_json(results / "seed0.json", {"seed": 1, "checkpoint_sha256": "1"})
    with pytest.raises(RuntimeError, match=r"of another seed: \[0\]; different weights: 1 of 2"):
        load.checked(tmp_path, 2)


def test_the_strength_of_a_regulariser_is_a_mean_over_whole_batches(digits, network):
    preset = config.load("smoke", batch_size=8, steps=1)
    found = strength.measure(network.eval(), digits.take(20), preset)  # two batches and a rest
    assert list(found["terms"]) == ["PGD-1", "PGD-20"]
    for attack, ratios in found["ratios"].items():
        assert ratios["none"] == 1 and ratios["class"] > ratios["none"]
        assert found["terms"][attack]["l2"] == pytest.approx(
            ratios["l2"] * found["terms"][attack]["none"])
    assert found == strength.measure(network, digits.take(16), preset)


@pytest.mark.parametrize("about", [{"epoch": 3}, {"state": {"epoch": 3}}])
def test_the_strength_on_a_checkpoint_is_that_of_its_network(about, tmp_path, capsys):
    preset, file = config.load("smoke", model="resnet8-16"), tmp_path / "last.pt"
    model = models.create("resnet8-16").eval()
    torch.save({"state_dict": model.state_dict(), **about}, file)
    write_json(tmp_path / "config.json", {**preset.of("at").group("train"), "seed": 3})
    network, found = strength.opened(preset, file)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(network(x), model(x), atol=1e-4)
    assert found == {"label": "at", "epoch": 3, "checkpoint_sha256": file_checksum(file)}
    inside = models.create("resnet8-16", num_classes=7, mean=(0.5,) * 3, std=(0.2,) * 3).eval()
    torch.save({"state_dict": inside.state_dict(), **about}, file)
    assert torch.allclose(strength.opened(preset, file, 7)[0](x), inside(x), atol=1e-4)
    write_json(tmp_path / "config.json", preset.of("at-fr").group("train"))
    for arguments, says in ((["--checkpoint", str(file)], "another method"),
                            (["--checkpoint", str(tmp_path / "gone/last.pt")], "gone/config.json"),
                            ([], "no published weights"), (["--images", "3"], "at least a batch")):
        with pytest.raises(SystemExit):
            strength.main(["--preset", "smoke", *arguments])
        assert says in capsys.readouterr().err


def test_autoattack_takes_the_images_that_follow_and_keeps_what_it_made(tmp_path, monkeypatch,
                                                                       capsys):
    labels = data.load("digits", "", "test").labels[2:5]  # smoke has AutoAttack on two
    constant = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))
    constant(torch.zeros(1, 3, 32, 32))
    for parameter in constant.parameters():
        torch.nn.init.zeros_(parameter)
    constant[1].bias.data[labels[1]] = 1.0  # says one class whatever it sees, so none breaks it
    monkeypatch.setattr(config, "load", functools.partial(config.load, runs_dir=str(tmp_path)))
    monkeypatch.setattr(autoattack.export, "published_result",
                        lambda preset, label: {"checkpoint_sha256": label})
    monkeypatch.setattr(autoattack.export, "published_model", lambda preset, label: constant)
    out = tmp_path / "out.json"
    arguments = ["--preset", "smoke", "--images", "3", "--out", str(out)]
    assert autoattack.main(["at", *arguments]) == 0 and "at: " in capsys.readouterr().out
    first = read_json(out)
    assert (first["first"], first["images"]) == (2, 3)
    held = unpack_flags(first["networks"]["at"]["flags"], 3)
    assert held.tolist() == (labels == labels[1]).tolist()
    assert autoattack.main(["at", "at-fr", *arguments]) == 0
    both = read_json(out)["networks"]
    assert list(both) == ["at", "at-fr"] and both["at"] == first["networks"]["at"]
    monkeypatch.setattr(autoattack.export, "published_result",
                        lambda preset, label: {"checkpoint_sha256": "trained again"})
    constant[1].bias.data.zero_()  # other weights, for which the first state is not
    constant[1].bias.data[labels[1]] = 2.0
    assert autoattack.main(["at", *arguments]) == 0
    again = read_json(out)["networks"]
    assert again["at"]["checkpoint_sha256"] == "trained again" and again["at-fr"] == both["at-fr"]
    for wrong, says in (("4", "another images"), ("0", "must be from 1 to")):
        with pytest.raises(SystemExit):
            autoattack.main([*arguments, "--images", wrong])
        assert says in capsys.readouterr().err


def test_autoattack_on_more_images_of_a_run(tmp_path, capsys):
    """A finished run's network is attacked; what is not finished, or of no run, is refused."""
    small = TINY.replace("swa_start: 1", "model: resnet8-16, aa_images: 2")
    (tmp_path / "tiny.yaml").write_text(small)
    tiny, runs = str(tmp_path / "tiny.yaml"), str(tmp_path / "runs")
    arguments = ["at", "--preset", tiny, "--images", "3", "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit):
        autoattack.main([*arguments, "--seed", "1"])
    assert "give --runs-dir" in capsys.readouterr().err
    arguments += ["--runs-dir", runs, "--seed", "1"]
    with pytest.raises(SystemExit):
        autoattack.main(arguments)
    assert "train at first" in capsys.readouterr().err
    run = config.load(tiny, runs_dir=runs, seed=1).sibling("at")
    training.train(run)
    assert autoattack.main(arguments) == 0
    found = read_json(tmp_path / "out.json")
    network = evaluate_run.load_model(folder.open_run(run), "best")
    test = data.load("digits", "", "test")
    right = network(test.x[2:5]).argmax(1) == test.labels[2:5]
    stored = found["networks"]["at"]
    assert found["seed"] == 1 and stored["stages"]["clean"] == int(right.sum())
    assert stored["train_provenance"]["commit"] and stored["total"] == 3
    with pytest.raises(SystemExit):
        autoattack.main([*arguments[:-1], "2"])
    del found["seed"]  # as in a file of published weights, from before
    write_json(tmp_path / "out.json", found)
    with pytest.raises(SystemExit):
        autoattack.main(arguments)
    assert "has another seed" in capsys.readouterr().err
