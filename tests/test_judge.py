"""A judged run: every attack on the same images, resumable, never overwritten."""

import numpy as np
import pytest
import torch

from frlib import config, evaluate, judge, results, train

PRESET = """preset: judged
settings:
  runs: [at]
  dataset: digits
  train_size: 96
  batch_size: 32
  flip: false
  model: resnet8-16
  epochs: 2
  steps: 1
  step_size: 8/255
  curve_images: 16
  curve_steps: 1
  threads: 1
  judge_images: 12
  aa_images: 3
  judge_batch: 8
"""


def quick_autoattack(model, x, y, *, eps, batch_size, seed, state_dir=None):
    """Stands in for AutoAttack, which test_evaluate.py runs for real: what survives is clean."""
    flags = evaluate.correct(model, x, y)
    return evaluate.AutoAttackResult(flags, x, {"clean": int(flags.sum())}, ["a warning"])


@pytest.fixture(scope="module")
def runs(own_root, tmp_path_factory):
    (own_root / "judged.yaml").write_text(PRESET)
    folder = tmp_path_factory.mktemp("judged")
    train.train(config.load("judged.yaml", runs_dir=str(folder)))
    return folder


@pytest.fixture
def settings(runs, monkeypatch, tmp_path):
    """Configs of the trained run, with results and partial scores of this test's own."""
    monkeypatch.setattr(evaluate, "autoattack", quick_autoattack)
    own = tmp_path / "runs"
    (own / "judged").mkdir(parents=True)
    (own / "judged" / "at").symlink_to(runs / "judged" / "at")
    yield lambda method="at", **changes: config.load("judged.yaml", method=method,
                                                      runs_dir=str(own), **changes)
    for path in (runs / "judged" / "at" / "seed0" / "judge").glob("*.json"):
        path.unlink()


@pytest.mark.parametrize("method", ["at", "at-swa"])
def test_result_holds_every_attack_on_the_same_images(settings, method):
    result = judge.judge(settings(method))
    assert list(result["scores"]) == ["clean", "fgsm", "pgd20", "cw", "aa"]
    totals = {name: score["total"] for name, score in result["scores"].items()}
    assert totals == {"clean": 12, "fgsm": 12, "pgd20": 12, "cw": 12, "aa": 3}
    flags = {n: results.unpack_flags(s["flags"], s["total"]) for n, s in result["scores"].items()}
    for name, score in result["scores"].items():
        assert flags[name].sum() == score["correct"]
        assert not (flags[name] & ~flags["clean"][:len(flags[name])]).any()
    assert result["checkpoint"] == {"at": "best", "at-swa": "swa-best"}[method]
    assert result["warnings"] == ["a warning"] and len(result["roughness"]) == 16 * 3
    assert len(result["history"]) == 2 and set(result["last"]) == {"clean", "pgd20"}
    assert result["config"]["eps"] == 8 / 255 and result["provenance"]["versions"]["torch"]
    assert result == results.read_json(judge.result_path(settings(method)))


def test_flags_are_those_of_the_checkpoint(settings, runs):
    result = judge.judge(settings())
    model = judge.load_model(train.open_run(settings()), "best")
    from frlib import data
    test = data.load("digits", "", "test").take(12)
    with torch.no_grad():
        expected = (model(test.x).argmax(1) == test.labels).numpy()
    assert np.array_equal(results.unpack_flags(result["scores"]["clean"]["flags"], 12), expected)


def test_killed_judgement_goes_on_with_the_next_attack(settings, monkeypatch):
    whole = judge.judge(settings())
    judge.result_path(settings()).unlink()
    write, calls = judge.write_json, []

    def killed(path, content):
        write(path, content)
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    (train.open_run(settings()).dir / "judge" / "scores.json").unlink()
    monkeypatch.setattr(judge, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        judge.judge(settings())
    monkeypatch.setattr(judge, "write_json", write)
    seen, correct = [], evaluate.correct
    monkeypatch.setattr(evaluate, "correct", lambda *a, **k: seen.append(1) or correct(*a, **k))
    again = judge.judge(settings())
    assert seen and again["scores"] == whole["scores"] and again["last"] == whole["last"]


def test_existing_result_is_read_and_never_overwritten(settings, monkeypatch):
    first = judge.judge(settings())
    monkeypatch.setattr(judge, "_judge", lambda *a: pytest.fail("judged again"))
    assert judge.judge(settings()) == first
    with pytest.raises(FileExistsError, match="config.*never overwritten"):
        judge.judge(settings(judge_images=6))


def test_unfinished_run_is_named(settings):
    with pytest.raises(FileNotFoundError, match="train at first"):
        judge.judge(settings(seed=5))


def test_siblings():
    assert judge.siblings("natural") == ["natural"]
    assert judge.siblings("at-fr@epochs=3") == ["at-fr@epochs=3", "at-fr-swa@epochs=3"]


def test_averaged_weights_of_the_last_epoch(settings, runs):
    run = train.open_run(settings())
    saved = torch.load(run.checkpoint("last"), weights_only=True)["average"]
    model = judge.load_model(run, "swa-last")
    assert torch.equal(model.conv1.weight, saved["module.conv1.weight"]) and not model.training
