"""A judged run: every attack on the same images, resumable, never overwritten."""

import numpy as np
import pytest
import torch
from conftest import write_preset

from frlib import data, evaluate, models, train
from frlib.publish import book_tables, claims, sources
from frlib.publish import notebook_views as views
from frlib.publish.collected import collect
from frlib.run import config, evaluate_run, files, folder, provenance, published

REAL_AUTOATTACK = evaluate.autoattack


def quick_autoattack(model, x, y, *, eps, batch_size, seed, state_dir=None):
    """Stands in for AutoAttack, which test_evaluate.py runs for real: what survives is clean."""
    flags = evaluate.correct(model, x, y)
    return evaluate.AutoAttackResult(flags, x, {"clean": int(flags.sum())}, ["a warning"])


@pytest.fixture(scope="module")
def runs(own_root, small_digits, tmp_path_factory):
    write_preset(own_root, "judged", runs=["at"], train_size=96, epochs=2, step_size="8/255",
                 curve_images=16, judge_images=12, aa_images=3, judge_batch=8)
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
    for path in (runs / "judged" / "at" / "seed0" / "judge").rglob("*.json"):
        path.unlink()


@pytest.mark.parametrize("method", ["at", "at-swa"])
def test_result_holds_every_attack_on_the_same_images(settings, method):
    result = evaluate_run.judge(settings(method))
    assert list(result["scores"]) == ["clean", "fgsm", "pgd20", "cw", "aa"]
    totals = {name: score["total"] for name, score in result["scores"].items()}
    assert totals == {"clean": 12, "fgsm": 12, "pgd20": 12, "cw": 12, "aa": 3}
    flags = {n: files.unpack_flags(s["flags"], s["total"]) for n, s in result["scores"].items()}
    for name, score in result["scores"].items():
        assert flags[name].sum() == score["correct"]
        assert not (flags[name] & ~flags["clean"][:len(flags[name])]).any()
    assert result["checkpoint"] == {"at": "best", "at-swa": "swa-last"}[method]
    assert result["warnings"] == ["a warning"]
    assert [len(row) for row in result["roughness"]] == [3] * 16
    run, which = folder.open_run(settings(method)), {"at": "best", "at-swa": "swa-last"}[method]
    model, test = evaluate_run.load_model(run, which), data.load("digits", "", "test").take(12)
    assert np.array_equal(flags["clean"], evaluate.correct(model, test.x, test.labels))
    if method == "at-swa":
        saved = torch.load(run.checkpoint("last"), weights_only=True)["average"]
        assert torch.equal(model.conv1.weight, saved["module.conv1.weight"]) and not model.training
    other = result[{"at": "last", "at-swa": "best"}[method]]
    assert len(result["history"]) == 2 and set(other) == {"clean", "fgsm", "pgd20", "cw"}
    assert result["zero_gradient"] == {"count": 0, "total": 12} and result["epoch"] > 0
    assert result["config"]["eps"] == 8 / 255 and result["provenance"]["versions"]["torch"]
    assert result == files.read_json(evaluate_run.result_path(settings(method)))


def test_an_average_is_that_of_the_last_epoch_and_the_chosen_one_stands_beside_it(settings):
    plain = evaluate_run.judge(settings("at", judge_batch=6, aa_both=True))
    assert set(plain["last"]) == {"clean", "fgsm", "pgd20", "cw", "aa"}
    assert plain["last"]["aa"]["total"] == 3 and plain["warnings"] == ["a warning"]
    averaged = evaluate_run.judge(settings("at-swa", judge_batch=6))
    assert averaged["epoch"] == len(averaged["history"]) and "last" not in averaged
    both = {"at": {0: plain}, "at-swa": {0: averaged}}
    assert claims.best_and_last(both, "at") == ("scores", "last")
    assert claims.best_and_last(both, "at-swa") == ("best", "scores")


def test_judged_otherwise_is_another_result_beside_the_first(settings):
    first, other = evaluate_run.judge(settings()), evaluate_run.judge(settings(judge_images=8))
    assert [made["label"] for made in (first, other)] == ["at", "at@judge_images=8"]
    again = settings(**config.parse_label(other["label"]))
    assert evaluate_run.judge(again) == other and evaluate_run.judge(settings()) == first
    assert other["scores"]["clean"]["total"] == 8
    root = evaluate_run.result_path(again).parents[2]
    found = collect("judged", root)
    assert list(found) == ["at", "at@judge_images=8"]
    assert len(sources._times(found, "train")) == 1  # read from one training
    assert evaluate_run.judge(settings(fr_lambda=0.5)) == first  # of no account for AT


def test_a_run_of_other_settings_is_not_judged(settings, monkeypatch):
    with pytest.raises(FileNotFoundError, match="train at first"):
        evaluate_run.judge(settings(seed=5))
    stored = files.read_json(folder.open_run(settings()).dir / "config.json")
    monkeypatch.setattr(folder, "read_json", lambda path: {**stored, "train_size": 48})
    with pytest.raises(RuntimeError, match="other settings .train_size = 48 there, 96 asked for"):
        evaluate_run.judge(settings())


def test_killed_judgement_goes_on_with_the_next_attack(settings, monkeypatch):
    whole = evaluate_run.judge(settings())
    evaluate_run.result_path(settings()).unlink()
    write, calls = evaluate_run.write_json, []

    def killed(path, content):
        write(path, content)
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for path in folder.open_run(settings()).dir.rglob("judge/*/scores.json"):
        path.unlink()
    monkeypatch.setattr(evaluate_run, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run.judge(settings())
    monkeypatch.setattr(evaluate_run, "write_json", write)
    seen, correct = [], evaluate.correct
    monkeypatch.setattr(evaluate, "correct", lambda *a, **k: seen.append(1) or correct(*a, **k))
    again = evaluate_run.judge(settings())
    assert seen and again["scores"] == whole["scores"] and again["last"] == whole["last"]


def test_existing_result_is_read_and_never_overwritten(settings, monkeypatch):
    first = evaluate_run.judge(settings())
    monkeypatch.setattr(evaluate_run, "_judge", lambda *a: pytest.fail("judged again"))
    assert evaluate_run.judge(settings()) == first
    path = evaluate_run.result_path(settings())
    older = {key: value for key, value in first["config"].items() if key != "aa_both"}
    files.write_json(path, {**first, "config": {**older, "gone": 1}})  # one is new, one gone
    assert evaluate_run.judge(settings())["scores"] == first["scores"]
    of_another_preset(evaluate_run.result_path(settings()))
    with pytest.raises(FileExistsError, match="judge_images.*never overwritten"):
        evaluate_run.judge(settings())


def of_another_preset(path):
    """Make a stored result one of other settings that its label does not name."""
    stored = files.read_json(path)
    files.write_json(path, {**stored, "config": {**stored["config"], "judge_images": 6}})


# --- weights from elsewhere


def own_file(settings):
    return folder.open_run(settings()).checkpoint("best")


def test_a_checkpoint_from_elsewhere_is_judged_as_a_run_of_ours_is(settings):
    ours = evaluate_run.judge(settings())
    result = evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings())
    for same in ("scores", "zero_gradient", "roughness", "checkpoint_sha256", "seed"):
        assert result[same] == ours[same], same
    assert result["label"] == "published-mine-resnet8-16" and "last" not in result
    path = evaluate_run.result_path(settings(), result["label"])
    assert result == files.read_json(path) and path != evaluate_run.result_path(settings())
    collected = collect("judged", path.parents[2])
    assert list(collected) == ["at", result["label"]] == list(book_tables.bars(collected))
    assert "resnet8-16 on digits" in book_tables.table2("judged", collected)
    assert f">{result['label']}</a>" in sources.provenance("judged", collected)
    both = {"at": ours, result["label"]: result}
    for table in (views.benchmark_table, views.masking_table, views.overfitting_table):
        assert result["label"] in table(both, "judged")
    assert views.overfitting(result) == {}


def test_a_checkpoints_result_is_read_and_never_overwritten(settings, monkeypatch, tmp_path):
    first = evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings())
    path = evaluate_run.result_path(settings(), first["label"])
    path.unlink()  # as if killed just before the result was written
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "robust", lambda *a, **k: pytest.fail("attacked again"))
        again = evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings())
    assert again["scores"] == first["scores"] and path.is_file()
    monkeypatch.setattr(evaluate_run, "_judge", lambda *a: pytest.fail("judged again"))
    assert evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings()) == again
    torch.save(models.create("resnet8-16").state_dict(), tmp_path / "other.pt")
    with pytest.raises(FileExistsError, match="differs in checkpoint_sha256; results are never"):
        evaluate_run.judge_checkpoint("mine:resnet8-16", tmp_path / "other.pt", settings())
    of_another_preset(evaluate_run.result_path(settings(), first["label"]))
    with pytest.raises(FileExistsError, match="differs in .*judge_images.*; results are never"):
        evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings())
    monkeypatch.undo()
    monkeypatch.setattr(evaluate, "autoattack", quick_autoattack)
    other = evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings),
                                          settings(judge_images=6))
    assert other["label"] == "published-mine-resnet8-16@judge_images=6"


# --- gradient masking, on networks where it is there or not for certain


class Plane(torch.nn.Module):
    """A linear classifier; of inputs rounded to a few levels, it has a gradient nowhere."""

    def __init__(self, levels):
        super().__init__()
        self.conv1, self.levels = torch.nn.Conv2d(3, 10, 8), levels

    def forward(self, x):
        if self.levels:
            x = torch.round(x * self.levels) / self.levels
        return self.conv1(x).flatten(1)


def fitted(plane):
    split = data.load("digits", "", "train")
    torch.manual_seed(0)
    with torch.no_grad():
        plane.conv1.weight.zero_()
    optimiser = torch.optim.SGD(plane.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        optimiser.zero_grad()
        logits = torch.nn.functional.conv2d(split.x, plane.conv1.weight, plane.conv1.bias)
        torch.nn.functional.cross_entropy(logits.flatten(1), split.labels).backward()
        optimiser.step()
    return plane.eval()


@pytest.mark.parametrize(("levels", "expected"), [
    (0, set()), (4, {"autoattack", "square", "zero_gradient"})])
def test_masking_is_seen_where_it_is_and_only_there(settings, brief_square, monkeypatch, levels,
                                                    expected):
    monkeypatch.setattr(published, "load", lambda *a: fitted(Plane(levels)))
    monkeypatch.setattr(evaluate, "autoattack", REAL_AUTOATTACK)
    monkeypatch.setattr(evaluate, "STAGES", ("apgd-ce", "apgd-t", "square"))  # FAB is slow here
    result = evaluate_run.judge_checkpoint("mine:resnet8-16", own_file(settings), settings(
        judge_eps=32 / 255, judge_images=40, aa_images=10, judge_batch=40))
    scores = {name: score["correct"] for name, score in result["scores"].items()}
    assert scores["clean"] >= 30 and (scores["pgd20"] < 20) == (levels == 0)
    assert result["zero_gradient"] == {"count": 40 if levels else 0, "total": 40}
    found = views.masking(result)
    assert {name for name, check in found.items() if check["suspicious"]} == expected


def test_a_result_of_other_numerics_stays_until_it_is_redone(settings, monkeypatch, caplog):
    first, path = evaluate_run.judge(settings()), evaluate_run.result_path(settings())
    stored = path.read_bytes()
    monkeypatch.setitem(provenance.NUMERICS, "judge", 2)
    assert evaluate_run.judge(settings()) == first and path.read_bytes() == stored
    assert "today's code gives other numbers (judge 1 -> 2: no reason written down)" in caplog.text
    second = evaluate_run.judge(settings(), redo=True)
    assert second["scores"] == first["scores"] and second["numerics"]["judge"] == 2
    old, = path.parent.glob("older-*/seed0.json")
    assert old.read_bytes() == stored


@pytest.mark.parametrize("module, name", [(evaluate_run, "device_for_work"), (data, "load"),
                                          (evaluate_run, "load_model")])
def test_a_redo_that_is_refused_leaves_result_and_scores_in_their_place(settings, monkeypatch,
                                                                        module, name):
    first, path = evaluate_run.judge(settings()), evaluate_run.result_path(settings())
    scores, = folder.open_run(settings()).dir.rglob("judge/*/scores.json")
    stored = path.read_bytes(), scores.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_run.judge(settings(), redo=True)
    assert (path.read_bytes(), scores.read_bytes()) == stored
    assert evaluate_run.judge(settings()) == first and list(path.parent.iterdir()) == [path]


def test_a_killed_redo_goes_on_without_it_and_keeps_what_was_there(settings, monkeypatch):
    evaluate_run.judge(settings())
    path = evaluate_run.result_path(settings())
    stored, judged = path.read_bytes(), []
    under_attack = evaluate.under_attack

    def killed(*arguments, **more):
        judged.append(1)
        if len(judged) == 2:
            raise KeyboardInterrupt
        return under_attack(*arguments, **more)

    monkeypatch.setattr(evaluate, "under_attack", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run.judge(settings(), redo=True)
    assert path.read_bytes() == stored
    evaluate_run.judge(settings())
    assert len(judged) == 7  # three attacks on two checkpoints, the killed one twice
    old, = path.parent.glob("older-*/seed0.json")
    assert old.read_bytes() == stored
    assert evaluate_run.judge(settings()) == files.read_json(path) and len(judged) == 7


def test_redo_makes_every_attack_anew(settings, registries):
    """A reader mends an attack of his own: what it gave before is not taken for the new one."""
    def broken(model, x, y, *, eps, generator):
        return x

    def mended(model, x, y, *, eps, generator):
        return evaluate.pgd20(model, x, y, eps=eps, generator=generator)

    far = settings(judge_eps="128/255")
    evaluate.register_attack("own", broken)
    first, path = evaluate_run.judge(far), evaluate_run.result_path(far)
    assert first["scores"]["own"] == first["scores"]["clean"]
    evaluate.register_attack("own", mended, replace=True)
    assert evaluate_run.judge(far)["scores"] == first["scores"]
    assert first["own_code"]["own"] in path.read_text()
    second = evaluate_run.judge(far, redo=True)
    assert second["scores"]["own"] == second["scores"]["pgd20"] != first["scores"]["own"]
    assert second["provenance"]["date"] >= first["provenance"]["date"]
