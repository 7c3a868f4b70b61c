"""A run's folder: what belongs in it, what is refused, and what a kill leaves behind."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import write_preset
from PIL import Image

from frlib import data, models, train
from frlib.run import config, evaluate_run, files, folder, provenance, training

FACTS = {"numerics": 1, "data_files": ""}


def images(root, *, classes, count, seed):
    """An image folder of noise, 8 x 8, `count` training images a class."""
    rng = np.random.default_rng(seed)
    for part, number in (("train", count), ("test", 2)):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture
def settings(tmp_path, own_root):
    """Makes configs whose runs and images are this test's own."""
    write_preset(own_root, "of-images", dataset="folder", train_size=16, batch_size=8, epochs=1,
                 curve_images=2, judge_images=4, aa_images=1)
    return lambda data_root="data", **changes: config.load(
        "of-images.yaml", data_root=str(data_root), runs_dir=str(tmp_path / "runs"), **changes)


def test_a_run_and_its_result_are_not_served_for_other_images(tmp_path, settings):
    ours, theirs = (settings(images(tmp_path / name, classes=4, count=6 + i, seed=i))
                    for i, name in enumerate("ab"))
    run = train.train(ours)
    with pytest.raises(ValueError, match="was trained on other images than .*/b holds"):
        evaluate_run.judge(theirs)
    result = evaluate_run.judge(ours)
    assert train.train(ours).dir == run.dir and evaluate_run.judge(ours) == result
    with pytest.raises(RuntimeError, match="settings .data_files = 'sha256:.* there, 'sha256:"):
        train.train(theirs)
    with pytest.raises(FileExistsError, match="exists and differs in data_files"):
        evaluate_run.judge(theirs)
    for each in (tmp_path / "a").rglob("*.png"):
        Image.new("RGB", (8, 8)).save(each)
    with pytest.raises(RuntimeError, match="data_files = 'sha256:.* there, 'sha256:.*--redo"):
        train.train(ours)


def test_only_data_without_published_sums_is_listed(tmp_path):
    assert data.listing("digits", tmp_path) == data.listing("cifar10", tmp_path / "none") == ""
    root = images(tmp_path / "a", classes=1, count=2, seed=0)
    before = data.listing("folder", root)
    (root / "notes.txt").write_text("not part of the data")
    assert data.listing("folder", root) == before
    (root / "test" / "class0" / "more.png").write_bytes(b"x")
    assert data.listing("folder", root) != before


@pytest.mark.parametrize(("count", "changes", "message"), [
    (1, {"train_size": 0}, "all 4 training images train: none is left to choose .* at least 6"),
    (6, {"judge_images": 9}, "9 images asked for, the split has 8; set judge_images to no more"),
    (6, {"judge_images": 0, "aa_images": 9}, "the split has 8; set aa_images to no more"),
    (6, {"aa_images": 5}, "the split has 4; set aa_images to no more"),
    (6, {"train_size": 23}, "the split has 22; set train_size to no more"),
    (6, {"curve_images": 3}, "the split has 2; set curve_images to no more"),
    (6, {}, "3 classes: AutoAttack, which judges every run, needs")])
def test_too_few_images_are_refused_before_training(tmp_path, settings, monkeypatch, count, changes,
                                                    message):
    monkeypatch.setattr(models, "create", lambda *_, **__: pytest.fail("work began"))
    root = images(tmp_path / "few", classes=4 if changes else 3, count=count, seed=0)
    with pytest.raises(ValueError, match=message):
        train.train(settings(root, **changes))


def test_too_few_classes_are_refused_before_any_attack(tmp_path, settings, monkeypatch):
    root = images(tmp_path / "few", classes=3, count=6, seed=0)
    torch.save(models.create("resnet8-16", num_classes=3).state_dict(), tmp_path / "three.pt")
    monkeypatch.setattr(evaluate_run, "_computed", lambda *_: pytest.fail("attacked"))
    with pytest.raises(ValueError, match="3 classes: AutoAttack needs at least 4"):
        evaluate_run.judge_checkpoint("mine:resnet8-16", tmp_path / "three.pt", settings(root))


@pytest.mark.parametrize(("facts", "message"), [
    ({"attack_precision": "float32"}, "attack_precision = 'bfloat16' there, 'float32' asked for"),
    ({"update_precision": "bfloat16"}, "update_precision = 'float32' there, 'bfloat16' asked for"),
    ({"data_files": "123"}, "data_files = '' there, '123' asked for")])
def test_a_run_made_otherwise_is_refused(settings, facts, message):
    run = folder.open_run(settings())
    files.write_json(run.dir / "config.json", {**run.config.group("train"), **FACTS,
                                                 "attack_precision": "bfloat16"})
    folder.refuse_another(run, FACTS)
    with pytest.raises(RuntimeError, match=message):
        folder.refuse_another(run, FACTS | facts)


def test_a_setting_that_did_not_exist_then_had_its_default(settings):
    run = folder.open_run(settings())
    stored = {k: v for k, v in run.config.group("train").items() if k != "normalise"}
    files.write_json(run.dir / "config.json", {**stored, **FACTS})
    folder.refuse_another(run, FACTS)
    run = dataclasses.replace(run, config=settings(normalise=True))
    with pytest.raises(RuntimeError, match="normalise = False there, True asked for"):
        folder.refuse_another(run, FACTS)


def test_an_unfinished_run_of_other_numerics_does_not_go_on_and_a_finished_one_stays(
        settings, caplog):
    run = folder.open_run(settings())
    files.write_json(run.dir / "config.json", {**run.config.group("train"), **FACTS})
    with pytest.raises(RuntimeError, match="version 1, today's is 2; --redo trains it again"):
        folder.refuse_another(run, FACTS | {"numerics": 2})
    files.write_json(run.dir / "finished.json", {})
    before = sorted(run.dir.iterdir())
    folder.refuse_another(run, FACTS | {"numerics": 2})
    assert "--redo trains it again" in caplog.text and sorted(run.dir.iterdir()) == before


def test_only_a_config_is_a_run():
    for work in (train.train, evaluate_run.judge):
        with pytest.raises(ValueError, match="Linear given: a run is trained and judged by its"):
            work(torch.nn.Linear(1, 1))


def test_what_is_redone_is_kept_and_the_log_stays_in_place(settings):
    run = folder.open_run(settings())
    run.dir.mkdir(parents=True)
    (run.dir / "train.log").write_text("being written")
    for weights in ("first", "second", "third"):
        (run.dir / "best.pt").write_text(weights)
        folder.move_aside(run)
    folder.move_aside(run)  # nothing is there any more
    found = {path.parent.name: path.read_text() for path in run.dir.glob("older-*/best.pt")}
    assert found == {"older-1": "first", "older-2": "second", "older-3": "third"}
    assert (run.dir / "train.log").read_text() == "being written"


def test_a_best_checkpoint_counts_once_its_epoch_is_done(settings):
    run = folder.open_run(settings())
    run.dir.mkdir(parents=True)
    folder.save(run.dir / "best.next.pt", epoch=3)
    folder.accept(run, 3)
    folder.save(run.dir / "best.next.pt", epoch=5)
    folder.save(run.dir / "swa-best.next.pt", epoch=4)
    folder.accept(run, 4)  # killed in epoch 5, before last.pt: it may not be as good again
    assert {path.name: torch.load(path)["epoch"] for path in run.dir.glob("*.pt")} \
        == {"best.pt": 3, "swa-best.pt": 4}


def test_a_run_does_not_change_its_device(tmp_path, settings, monkeypatch):
    root = images(tmp_path / "a", classes=4, count=6, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_history", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train.train(settings(root))
    last = folder.open_run(settings(root)).dir / "last.pt"
    saved = torch.load(last)
    assert saved["place"] == {"device": "cpu", **training.FLOAT32}
    torch.save(saved | {"place": {"device": "cuda", "attack_precision": "bfloat16"}}, last)
    with pytest.raises(RuntimeError, match="begun on cuda, attacks in bfloat16 and updates "
                                           "in float32; on cpu, attacks in float32 and updates in "
                                           "float32 the numbers would be"):
        train.train(settings(root))
    # as before there was a precision of the update
    torch.save(saved | {"place": {"device": "cpu", "attack_precision": "float32"}}, last)
    assert train.train(settings(root)).finished


def test_a_preset_for_a_gpu_is_read_without_one_but_not_run(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = images(tmp_path / "a", classes=4, count=6, seed=0)
    with pytest.raises(ValueError, match=r"of-images asks for a GPU \(job_gpus = 1\), but torch "
                                         "sees none; device: cpu in its settings"):
        train.train(settings(root, job_gpus=1))
    run = train.train(settings(root, job_gpus=1, device="cpu"))
    stored = files.read_json(run.dir / "config.json")  # as a GPU would have left it
    files.write_json(run.dir / "config.json", stored | {"attack_precision": "bfloat16"})
    assert train.train(settings(root, job_gpus=1)).finished
    with pytest.raises(ValueError, match="asks for a GPU"):
        evaluate_run.judge(settings(root, job_gpus=1))
    with pytest.raises(RuntimeError, match="'bfloat16' there, 'float32' asked for"):
        train.train(settings(root, fast=False))


def test_what_is_written_again_says_who_computed_it(tmp_path, settings, monkeypatch):
    root = images(tmp_path / "a", classes=4, count=6, seed=0)
    monkeypatch.setattr(provenance, "_commit", lambda: {"commit": "0123abc", "dirty": False})
    run, first = train.train(settings(root)), evaluate_run.judge(settings(root))
    finished = json.loads((run.dir / "finished.json").read_text())
    monkeypatch.setattr(provenance, "_commit", lambda: {"commit": "4567def", "dirty": False})
    (run.dir / "finished.json").unlink()  # as a pipeline does that thinks a step is due
    evaluate_run.result_path(settings(root)).unlink()
    train.train(settings(root))
    assert json.loads((run.dir / "finished.json").read_text()) == finished
    assert evaluate_run.judge(settings(root)) == first
    assert first["provenance"]["commit"] == first["train_provenance"]["commit"] == "0123abc"
