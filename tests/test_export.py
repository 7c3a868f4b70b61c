"""Weights that leave their run: exported, published beside a result, read back."""

import json

import pytest
import torch
from conftest import write_preset

from frlib import train
from frlib.__main__ import main
from frlib.publish import photographs
from frlib.run import config, evaluate_run, export, files, folder, published, soundness

SETTINGS = {"runs": ["at"], "normalise": True, "epochs": 2, "curve_images": 4, "judge_images": 12,
            "aa_images": 1, "judge_batch": 100}


@pytest.fixture(scope="module")
def judged(own_root, tmp_path_factory):
    """The preset's settings; its run is trained, its two results hold a score each."""
    path = write_preset(own_root, "weighed", **SETTINGS)
    base = config.load(path, runs_dir=str(tmp_path_factory.mktemp("weighed")))
    train.train(base)
    for label in ("at", "at-swa"):
        c = base.sibling(label)
        files.write_json(evaluate_run.result_path(c), {
            "preset": "weighed", "label": label, "seed": 0, "config": c.group("train", "judge"),
            "checkpoint_sha256": evaluate_run.trained_checksum(c),
            "scores": {"clean": files.score([True, False, True, True])}})
    return base


@pytest.mark.parametrize("label", ["at", "at-swa"])
def test_an_exported_run_loads_as_any_published_network(judged, tmp_path, label, capsys):
    arguments = ["export", label, "--preset", "weighed.yaml", "--runs-dir", judged.runs_dir]
    assert main(arguments) == 1 and "--out: must name" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    c = judged.sibling(label)
    own = evaluate_run.load_model(folder.open_run(c), config.READ_FROM[label][1])
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    about = files.read_json(tmp_path / f"{label}-seed0.json")
    for name, checksum in about["files"].items():
        model = published.load("mine:resnet8-16", tmp_path / name)
        assert torch.equal(model(x), own(x)) and checksum == files.file_checksum(tmp_path / name)
    assert about["architecture"] == "resnet8-16" and about["num_classes"] == 10
    assert about["mean"] == own.mean.flatten().tolist() and about["eps"] == 8 / 255
    assert about["scores"]["clean"] == {"correct": 3, "total": 4, "accuracy": 0.75}
    plain = torch.load(tmp_path / f"{label}-seed0.pt", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in plain.values()} == {torch.float32}


def test_results_of_what_the_preset_was_before_are_not_published(judged, own_root, capsys):
    write_preset(own_root, "weighed", **{**SETTINGS, "lr": 0.05})
    assert main(["publish", "--preset", "weighed.yaml", "--runs-dir", judged.runs_dir]) == 1
    write_preset(own_root, "weighed", **SETTINGS)
    assert "are of two experiments: lr = " in capsys.readouterr().err
    assert not (own_root / "results" / "weighed").exists()


@pytest.mark.parametrize("changes", [{"eps": "2/255"}, {"model": "resnet8-32"}])
def test_what_the_preset_became_since_is_not_exported(judged, own_root, tmp_path, changes):
    write_preset(own_root, "weighed", **{**SETTINGS, **changes})
    edited = config.load("weighed.yaml", runs_dir=judged.runs_dir)
    for use in (lambda: export.export(edited, tmp_path), lambda: soundness.soundness(edited)):
        with pytest.raises(RuntimeError, match="holds a run with other settings"):
            use()
    write_preset(own_root, "weighed", **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_the_classes_are_those_of_the_result_where_it_has_them():
    weights = {"first": torch.zeros(64, 5), "last": torch.zeros(10, 64)}
    assert export.classes({"classes": 10}, weights) == 10
    assert export.classes({}, {"conv": torch.zeros(8, 3, 3, 3), "linear": torch.zeros(7, 8)}) == 7


def test_a_run_that_lost_its_settings_is_told(judged):
    path = folder.open_run(judged).dir / "config.json"
    kept = path.read_text()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="config.json is gone.*train it again with --redo"):
        evaluate_run.judge(judged)
    path.write_text(kept)


def test_an_export_replaces_no_other(judged, tmp_path):
    export.export(judged, tmp_path)
    export.export(judged, tmp_path)  # the same again changes nothing
    for end in ("safetensors", "pt", "json"):
        path = tmp_path / f"at-seed0.{end}"
        kept, other = path.read_bytes(), b'{"label": "at"}'
        path.write_bytes(other)
        with pytest.raises(FileExistsError, match=f"at-seed0.{end}; give --out another folder, or "
                                                  "remove at-seed0"):
            export.export(judged, tmp_path)
        assert path.read_bytes() == other
        path.write_bytes(kept)


def test_an_export_goes_below_the_root_and_home_is_known(judged, own_root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder_, place in (("given", own_root), ("~/given", tmp_path)):
        export.export(judged, folder_)
        assert (place / "given" / "at-seed0.json").is_file()


def test_what_cannot_be_exported_is_said(judged, tmp_path):
    with pytest.raises(FileNotFoundError, match="train trades first"):
        export.export(judged.sibling("trades"), tmp_path)
    path = evaluate_run.result_path(judged)
    kept = path.read_bytes()
    try:
        files.write_json(path, files.read_json(path) | {"checkpoint_sha256": "0"})
        with pytest.raises(ValueError, match="other weights than the run's; judge at again"):
            export.export(judged, tmp_path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match="judge at first"):
            export.export(judged, tmp_path)
    finally:
        path.write_bytes(kept)
    assert not list(tmp_path.iterdir())


def test_weights_are_published_beside_their_result_and_read_back(judged, own_root, monkeypatch):
    committed = own_root / "results"
    before = evaluate_run.result_path(judged).read_text()
    arguments = ["publish", "--preset", "weighed.yaml", "--runs-dir", judged.runs_dir]
    monkeypatch.setattr(export, "LARGEST", 1000)
    assert main(arguments) == 0 and not list(committed.rglob("weights*"))  # too large: alone
    monkeypatch.setattr(export, "LARGEST", 3_000_000)
    assert main(arguments) == 0 and main(arguments) == 0
    result = files.read_json(committed / "weighed" / "at" / "seed0.json")
    file = committed / "weighed" / "at" / "weights-seed0.safetensors"
    assert result.pop("weights") == files.file_checksum(file)
    assert result == {k: v for k, v in json.loads(before).items() if k != "sha256"}
    assert file.stat().st_size < 3_000_000
    x = torch.rand(3, 3, 32, 32)
    for label in ("at", "at-swa"):
        own = evaluate_run.load_model(folder.open_run(judged.sibling(label)),
                                      config.READ_FROM[label][1])
        assert torch.equal(export.published_model("weighed", label)(x), own(x))
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ValueError, match="is not the file that .*seed0.json names"):
        export.published_model("weighed", "at")
    with pytest.raises(FileNotFoundError, match="no published weights of trades: there is no"):
        export.published_model("weighed", "trades")


def test_the_photographs_are_those_of_the_official_test_batch(cifar_root):
    from frlib import data

    found = photographs.photographs()
    test = data.load("cifar10", cifar_root, "test")
    assert test.classes == photographs.CLASSES and photographs.FILE.stat().st_size < 200_000
    assert torch.equal(test.images[found["indices"]], torch.from_numpy(found["images"]))
    assert found["labels"].tolist() == test.labels[found["indices"]].tolist() \
        == [k for k in range(10) for _ in range(4)]
