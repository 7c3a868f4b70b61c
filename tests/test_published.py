"""Every committed result: its counts are those of its flags, attacks ordered, origin whole."""

from pathlib import Path

import numpy as np
import pytest

from frlib.publish.result_format import KINDS
from frlib.run.files import read_json, unpack_flags

FILES = sorted((Path(__file__).resolve().parents[1] / "results").glob("*/*/seed*.json"))
JUDGED = [path for path in FILES if path.parent.name not in KINDS]


def name(path):
    return "/".join(path.parts[-3:])


@pytest.mark.parametrize("path", JUDGED, ids=name)
def test_a_judged_result_is_consistent(path):
    result = read_json(path)
    assert [result["preset"], result["label"], f"seed{result['seed']}"] \
        == [*path.parts[-3:-1], path.stem]
    flags = {key: unpack_flags(score["flags"], score["total"])
             for key, score in result["scores"].items()}
    for key, score in result["scores"].items():
        assert flags[key].sum() == score["correct"] <= score["total"]
        assert not (flags[key] & ~flags["clean"][:len(flags[key])]).any(), "robust but not correct"
    same = len(flags["aa"])
    assert flags["aa"].sum() <= flags["pgd20"][:same].sum() + 1, "AutoAttack weaker than PGD-20"
    assert flags["pgd20"].sum() <= flags["fgsm"].sum() + 1, "PGD-20 weaker than FGSM"
    stages = list(result["scores"]["aa"]["stages"].values())
    assert stages == sorted(stages, reverse=True)
    assert stages[-1] == result["scores"]["aa"]["correct"]
    assert len(result["history"]) == result["config"]["epochs"]
    for made in (result["provenance"], result["train_provenance"]):
        assert len(made["commit"]) == 40 and made["dirty"] is False and made["device"]


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "figures"], ids=name)
def test_the_figures_of_a_preset_agree_with_its_results(path):
    figures = read_json(path)
    for model, inputs in figures["table1"].items():
        judged = read_json(path.parents[1] / model / path.name)["scores"]
        assert inputs["clean"]["32"] == judged["clean"]
        ours, theirs = (unpack_flags(score["flags"], score["total"])
                        for score in (inputs["pgd20"]["32"], judged["pgd20"]))
        assert np.mean(ours != theirs) < 0.02, "PGD-20 with other random starts"


def test_results_of_a_preset_share_their_test_images():
    images = {}
    for path in JUDGED:
        images.setdefault(path.parts[-3], set()).add(read_json(path)["data"]["test"])
    assert all(len(sums) == 1 for sums in images.values())
