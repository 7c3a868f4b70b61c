"""Which stored results today's code would still give."""

import json

import pytest
from conftest import write_preset

from frlib.__main__ import main
from frlib.publish.status import as_text, status
from frlib.run import files, provenance

SCORE = files.score([True, False])


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Writes a result below results/ and gives back its file's name."""
    monkeypatch.setenv("FRLIB_ROOT", str(tmp_path))

    def store(preset, label, seed=0, **more):
        path = tmp_path / "results" / preset / label / f"seed{seed}.json"
        files.write_json(path, {"preset": preset, "label": label, "seed": seed,
                                "scores": {"clean": SCORE}, **more})
        return str(path.relative_to(tmp_path))
    return store


@pytest.mark.parametrize(("numerics", "stale"), [
    ({"train": 3, "judge": 1}, []), ({"judge": 1}, []),
    ({"train": 1, "judge": 1}, ["train 1 -> 3: crops; no"]),
    ({"train": None, "judge": 1}, ["train was made before numerics had versions"]),
    (None, ["made before numerics had versions"])])
def test_a_stale_result_says_why(stored, tmp_path, monkeypatch, numerics, stale):
    monkeypatch.setitem(provenance.NUMERICS, "train", 3)
    monkeypatch.setitem(provenance.CHANGES, "train", {2: "crops", 3: "no"})
    name = stored("own", "at", **({"numerics": numerics} if numerics else {}))
    found = status(tmp_path / "results")
    assert found["results"] == 1 and found["stale"] == bool(stale)
    assert found["files"] == [{"preset": "own", "label": "at", "seed": 0, "stale": stale,
                               "numerics": numerics or {}, "file": name}]
    assert as_text(found).endswith(f"1 results, {len(stale)} of them stale")


def test_the_command_lists_all_presets_or_one(stored, capsys):
    stored("one", "at", numerics={"judge": 1})
    stored("two", "at", 1, numerics={"judge": 1})
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == 2
    assert main(["status", "--preset", "two"]) == 0
    assert capsys.readouterr().out.startswith("two  at  seed 1  as now\n1 results, 0 of them")


def test_an_unknown_preset_is_told_and_one_that_has_results_or_a_file_is_none(
        stored, tmp_path, capsys):
    stored("gone", "at", numerics={"judge": 1})
    assert main(["status", "--preset", "typo"]) == 1
    error = capsys.readouterr().err
    assert "unknown preset 'typo': choose one of cifar100-subset, gone, mini, " in error
    assert main(["status", "--preset", "typo.yaml"]) == 1
    write_preset(tmp_path, "new")
    for preset, count in (("gone", 1), ("mini", 0), ("new.yaml", 0)):
        assert main(["status", "--preset", preset]) == 0
        assert f"{count} results, 0 of them stale" in capsys.readouterr().out


def test_a_result_whose_run_was_trained_again_is_stale(tmp_path, stored):
    name = stored("own", "at-swa", checkpoint_sha256="a", numerics={"judge": 1})
    finished = tmp_path / "own/at/seed0/finished.json"
    for sums, stale in ({"best": "a"}, []), ({"best": "b"}, ["its run was trained again"]):
        files.write_json(finished, {"checkpoints": sums})
        row, = status(tmp_path / "results")["files"]
        assert (row["file"], row["stale"]) == (name, stale)
