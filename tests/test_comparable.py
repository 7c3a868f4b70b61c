"""Results of two experiments never stand in one table, and the refusal says what differs."""

import numpy as np
import pytest

from frlib.publish import claims, comparable
from frlib.publish.collected import collect
from frlib.run import config
from frlib.run.files import score, write_json

SHARED = {"dataset": "cifar10", "model": "resnet8-32", "epochs": 15, "train_size": 8000,
          "eps": 8 / 255, "judge_images": 20, "judge_batch": 10}


def result(label="at", images="abc", **changes):
    settings = {**SHARED, **config.parse_label(label), **changes}
    right = score(np.arange(20) < 15)
    return {"scores": {"clean": right, "pgd20": right}, "last": {"pgd20": right}, "label": label,
            "config": settings, "data": {"train": "of 8000", "test": images}}


def store(folder, *results):
    for made in results:
        write_json(folder / "mini" / made["label"] / "seed0.json", made)
    return folder


@pytest.mark.parametrize(("label", "other", "said"), [
    ("at-fr", {}, ""), ("at-fr", {"beta": 1.0}, ""),  # of no account for either
    ("at-fr", {"fr_lambda": 0.5}, ""),  # AT's own files say nothing of it
    ("at-fr@epochs=3", {}, ""), ("at@judge_images=10", {"images": "of 10"}, ""),
    ("trades@recipe=official", {"epochs": 76, "eps": 0.031, "judge_eps": 8 / 255}, ""),
    ("natural", {"steps": 3}, ""),  # it makes no attack
    ("at-fr", {"train_size": 2000, "model": "resnet18"}, "train_size = 2000 and 8000, "
                                                         "model = 'resnet18' and 'resnet8-32'"),
    ("at-fr", {"steps": 3}, "steps = 3 and 10"),  # a missing one had the effect of its default
    ("at-fr", {"images": "other"}, "test data = 'other' and 'abc'"),
    ("at-fr@epochs=3", {"lr": 0.2}, "lr = 0.2 and 0.1"),
    ("at-fr", {"judge_eps": 0.1}, "judge_eps = 0.1 and"),
    ("at", {"epochs": 3}, "epochs = 3 and 15"),  # another seed of the same label
])
def test_what_a_label_does_not_say_must_agree(tmp_path, label, other, said):
    first, second = store(tmp_path / "own", result()), tmp_path / "committed"
    made = result(label, **other)
    path = second / "mini" / label / f"seed{int(label == 'at')}.json"
    write_json(path, made)
    if not said:
        assert len(collect("mini", first, second)) == 2
        return
    with pytest.raises(ValueError, match="are of two experiments") as caught:
        collect("mini", first, second)
    for part in (str(path), str(first / "mini" / "at" / "seed0.json"), said, "another name"):
        assert part in str(caught.value).replace(" (", ", "), part


@pytest.mark.parametrize(("code", "other", "fits"), [
    ({"own_code": {"mine": "a"}}, {"own_code": {"mine": "b"}}, False),
    ({"own_code": {"mine": "a"}}, {"own_code": {"other": "b"}}, True),
    ({"trained_by": "a"}, {"trained_by": "b"}, False),
    ({"trained_by": "a"}, {"trained_by": ""}, True),  # this library's is told by its numerics
])
def test_a_readers_code_before_and_after_an_edit_is_two_experiments(tmp_path, code, other, fits):
    folder = store(tmp_path, {**result(), **code}, {**result("at@epochs=3"), **other})
    if fits:
        assert len(collect("mini", folder)) == 2
    else:
        with pytest.raises(ValueError, match="two experiments: code of (attack mine|at) = 'b' and"):
            collect("mini", folder)
    store(tmp_path / "net", {**result(), "trained_by": "a"},
          {**result("at@model=resnet18"), "trained_by": "b"})  # its label says so
    assert len(collect("mini", tmp_path / "net")) == 2


def test_images_of_another_data_set_are_not_paired(tmp_path):
    found = collect("mini", store(tmp_path, result(), result("at@dataset=digits", images="other")))
    assert claims.difference(found, "at@dataset=digits", "at", "clean") is None
    assert claims.difference(found, "at", "at", "clean")["left"] == 75


def test_the_settings_of_the_preset_itself_must_agree(tmp_path):
    found = collect("mini", store(tmp_path, {**result(), "config": {"epochs": 2}}))
    comparable.of_one_experiment(found)
    with pytest.raises(ValueError, match="seed0.json and preset mini .*: epochs = 2 and 15;"):
        comparable.of_one_experiment(found, config.load("mini"))


@pytest.mark.parametrize(("label", "verdict"), [("at-fr@fr_lambda=0.5", "cannot be decided here"),
                                                ("at-fr@epochs=3", "epochs = 15 and 3")])
def test_a_verdict_needs_the_same_settings_but_for_the_methods_own(label, verdict):
    statement = next(s for s in claims.paper()["statements"] if s["id"] == "C6")
    results = {"at": {0: result()}, "at-fr": {0: result(label)}}  # as a notebook reads it
    if verdict in claims.VERDICTS:
        assert claims.verdict(statement, results) == verdict
        return
    with pytest.raises(ValueError, match=f"{verdict}; nothing follows for C6"):
        claims.verdict(statement, results)


def test_an_effect_is_that_of_the_label_alone():
    entry = {"detail": "Epochs", "run": "at@epochs=3", "base": "at"}
    results = {"at": {0: result()}, "at@epochs=3": {0: result("at@epochs=3")}}
    assert claims.effect(entry, results, "clean")["left"] == 75
    results["at@epochs=3"][0]["config"]["lr"] = 0.2
    with pytest.raises(ValueError, match="lr = 0.1 and 0.2; nothing follows for Epochs"):
        claims.effect(entry, results, "clean")
