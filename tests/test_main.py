"""The pipeline's commands: one line for a bad input, and results that are never replaced."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import write_preset

from frlib.__main__ import main, publish
from frlib.run import config, evaluate_run, files

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments, message", [
    (["train", "--preset", "nano"], "unknown preset 'nano': choose one of cifar100-subset, mini, "),
    (["train", "--run", "at@epoch=3"], "did you mean 'epochs'"),
    (["judge", "--run", "at", "--seed", "99"], "train at first"),
    (["train", "--seeds", "1,2"], "train does not use --seeds, which is for sweep; train takes "),
    (["sweep", "--seed", "4"], "sweep does not use --seed, which is for train, judge, "),
    (["status", "--redo"], "status takes --preset, --runs-dir, --plugin, --json"),
    (["figures", "at"], "figures does not use --run, which is for train, judge, sweep, export"),
    (["export", "at", "--run", "at-fr"], "they mean the same, give one"),
    (["sweep", "--seeds", "-1"], "--seeds '-1': must be whole numbers from 0"),
    (["sweep", "--jobs", "0"], "--jobs 0: must be at least 1"),
    (["sweep", "--run", "at", "--vary", "fr_lambda=1"], "it decides nothing of at"),
    (["train", "--run", "at@fr_lambda=0.5"],
     "--run at@fr_lambda=0.5, fr_lambda: it decides nothing of at; --run may be one of at-fr, "),
    (["judge", "--run", "natural@epochs=3,steps=2"], "steps: it decides nothing of natural; "),
    (["publish"], "name the preset with --preset"),
    (["publish", "--preset", ""], "name the preset with --preset"),
])
def test_bad_input_is_one_clear_line_before_any_work(capsys, arguments, message):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_part_of_an_options_name_is_none(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--runs", "at-fr"])
    assert "unrecognized arguments: --runs" in capsys.readouterr().err


def test_a_preset_brings_the_methods_of_its_labels(own_root, registries, capsys):
    (own_root / "brought.py").write_text(
        "from dataclasses import replace\nfrom frlib.methods import METHODS, register\n"
        "register('brought', replace(METHODS['at'], averaged=''))\n")
    preset = write_preset(own_root, "bringing", plugin="brought.py")
    assert main(["judge", "--preset", preset, "--run", "brought"]) == 1
    assert "train brought first" in capsys.readouterr().err


def test_a_sweep_refuses_results_of_an_earlier_preset(own_root, tmp_path, monkeypatch, capsys):
    command = ["sweep", "--preset", write_preset(own_root, "edited", epochs=1), "--run", "at",
               "--runs-dir", str(tmp_path), "--vary", "epochs=1,2"]
    monkeypatch.setattr(subprocess, "run", lambda command, cwd: subprocess.CompletedProcess("", 0))
    for label in ("at", "at@epochs=2"):
        c = config.load("edited.yaml", runs_dir=str(tmp_path), **config.parse_label(label))
        files.write_json(evaluate_run.result_path(c), {
            "label": label, "seed": 0, "config": c.group("train", "judge"), "data": {"test": "abc"},
            "scores": {"clean": files.score([True, False])}})
    assert main(command) == 0
    assert (tmp_path / "results/edited/sweep-at-epochs=1,2-seeds=0.csv").is_file()
    write_preset(own_root, "edited", epochs=3)
    monkeypatch.setattr(subprocess, "run", None)  # it does not come to that
    assert main(command) == 1
    assert "seed0.json and preset edited are of two experiments: epochs = 1 and 3" \
        in capsys.readouterr().err


def test_commands_hold_where_a_path_has_a_space_or_has_moved():
    """Paths are quoted; and of .venv only Python is called, since a script holds its old place."""
    makefile = (REPO / "Makefile").read_text()
    for line in makefile.splitlines():
        for path in re.finditer(r"\$\((CURDIR|DATA|PRESET|PYTHON|CHROMIUM)\)", line):
            assert line[:path.start()].count('"') % 2, line
    texts = [makefile, *((REPO / name).read_text() for name in ("Snakefile", "README.md"))]
    assert set(re.findall(r"\.venv/bin/([\w-]+)", "".join(texts))) == {"python"}


def test_publish_copies_and_never_replaces(tmp_path):
    fresh, committed = tmp_path / "fresh", tmp_path / "results"
    with pytest.raises(FileNotFoundError, match="no results"):
        publish(fresh, committed)
    files.write_json(fresh / "at" / "seed0.json", {"correct": 1})
    publish(fresh, committed)
    publish(fresh, committed)  # the same again changes nothing
    files.write_json(committed / "at" / "seed0.json", {"correct": 1, "weights": "abc"})
    publish(fresh, committed)  # the weights may lie on another machine
    assert files.read_json(committed / "at" / "seed0.json")["weights"] == "abc"
    (committed / "at" / "seed0.json").unlink()
    publish(fresh, committed)
    files.write_json(fresh / "at" / "seed0.json", {"correct": 2})
    files.write_json(fresh / "at" / "seed1.json", {"correct": 3})
    with pytest.raises(FileExistsError, match="seed0.json"):
        publish(fresh, committed)
    assert files.read_json(committed / "at" / "seed0.json") == {"correct": 1}
    assert not (committed / "at" / "seed1.json").exists()


def test_only_the_weights_that_a_result_names_are_published(tmp_path, caplog):
    fresh, committed = tmp_path / "fresh", tmp_path / "results"
    for label in ("at", "at-fr"):
        (fresh / label).mkdir(parents=True)
        (fresh / label / "weights-seed0.safetensors").write_text(label)
    own = files.file_checksum(fresh / "at" / "weights-seed0.safetensors")
    files.write_json(fresh / "at" / "seed0.json", {"correct": 1, "weights": own})
    files.write_json(fresh / "at-fr" / "seed0.json", {"correct": 2})  # judged again since
    publish(fresh, committed)
    assert [path.parent.name for path in committed.rglob("weights*")] == ["at"]
    assert "at-fr/weights-seed0.safetensors is left out" in caplog.text
