"""The pipeline's commands: one line for a bad input, and results that are never replaced."""

import re
from pathlib import Path

import pytest

from frlib.__main__ import main, publish
from frlib.run import files

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments, message", [
    (["train", "--preset", "nano"], "unknown preset 'nano': choose one of cifar100-subset, mini, "),
    (["train", "--run", "at@epoch=3"], "did you mean 'epochs'"),
    (["judge", "--run", "at", "--seed", "99"], "train at first"),
])
def test_bad_input_is_one_clear_line_before_any_work(capsys, arguments, message):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


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
    files.write_json(fresh / "at" / "seed0.json", {"correct": 2})
    files.write_json(fresh / "at" / "seed1.json", {"correct": 3})
    with pytest.raises(FileExistsError, match="seed0.json"):
        publish(fresh, committed)
    assert files.read_json(committed / "at" / "seed0.json") == {"correct": 1}
    assert not (committed / "at" / "seed1.json").exists()
