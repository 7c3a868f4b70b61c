"""A file is written whole or not at all, and a number knows where it comes from."""

import errno
import json
import os
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch

from frlib.run import files
from frlib.run import provenance as made
from frlib.run.files import (
    atomic,
    file_checksum,
    lock,
    pack_flags,
    read_json,
    unpack_flags,
    write_json,
)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


# --- writing


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError, RuntimeError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(error if error is not RuntimeError else OSError), \
            atomic(path) as temporary:
        temporary.write_text("half a fi")
        assert read_json(path) == {"old": 1}
        raise error("stop")
    assert read_json(path) == {"old": 1} and listing(path.parent) == ["a.json"]
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert read_json(path) == {"old": 1} and temporary.parent == path.parent
    assert path.read_text() == "new" and listing(path.parent) == ["a.json"]


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"cannot write {re.escape(str(path))} .*No space left on "
                                      "device.*what was there before is intact"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1} and listing(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": float("inf")}, {"x": {1, 2}}])
def test_what_is_no_strict_json_is_refused_before_anything_is_touched(tmp_path, content):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError), match="JSON"):
        write_json(path, content)
    assert read_json(path) == {"old": 1} and listing(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{}", b"{'a': 1}"])
def test_damaged_json_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: damaged JSON .*delete it"):
        read_json(path)


# --- flags


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_flags_come_back_as_packed_and_a_score_counts_them(count):
    flags = np.random.default_rng(count).random(count) < 0.5
    for given in (flags, flags.tolist(), torch.from_numpy(flags)):
        text = pack_flags(given)
        assert np.array_equal(unpack_flags(text, count), flags)
    assert len(text) <= 4 * (count // 8 // 3 + 1) and text.isascii()
    assert files.score(flags) == {"correct": flags.sum(), "total": count, "flags": text}
    assert pack_flags([True] + [False] * 7) == "gA=="  # the first is the highest bit, 0x80
    with pytest.raises(ValueError, match="8 flags stored, 9 expected"):
        unpack_flags(pack_flags([True] * 8), 9)


# --- provenance


def fake_git(monkeypatch, answers):
    def run(command, **kwargs):
        answer = answers[command[1]]
        if isinstance(answer, Exception):
            raise answer
        assert kwargs["check"]  # or a failing git would pass for an empty answer
        return subprocess.CompletedProcess(command, 0, stdout=answer, stderr="")
    monkeypatch.setattr(subprocess, "run", run)
    own = getattr(made._commit, "__wrapped__", made._commit)
    monkeypatch.setattr(made, "_commit", own)  # else asked once


@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M frlib/train.py\n", True)])
def test_provenance_says_commit_versions_device_and_threads(monkeypatch, status, dirty):
    fake_git(monkeypatch, {"ls-files": "", "rev-parse": "0123abc\n", "status": status})
    monkeypatch.setattr(made, "LIBRARIES", (*made.LIBRARIES, "no-such-library"))
    facts = made.provenance()
    assert facts["versions"]["no-such-library"] == "not installed"
    assert (facts["commit"], facts["dirty"]) == ("0123abc", dirty)
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0] \
        or facts["versions"]["torch"] == torch.__version__
    assert facts["versions"].keys() == {"python", *made.LIBRARIES}
    assert facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["device"].startswith("CPU ") and facts["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", facts["date"])
    assert json.loads(json.dumps(facts)) == facts


def test_the_commit_is_that_of_the_process_whatever_is_committed_later(monkeypatch):
    fake_git(monkeypatch, {"ls-files": "", "rev-parse": "0123abc\n", "status": ""})
    monkeypatch.setattr(made, "_commit", cache(made._commit))
    first = made.provenance()
    fake_git_again = subprocess.CompletedProcess([], 0, stdout="4567def\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: fake_git_again)
    assert made.provenance()["commit"] == first["commit"] == "0123abc"


def test_an_earlier_part_of_the_work_stays_in_the_provenance(monkeypatch):
    monkeypatch.setattr(made, "_commit", lambda: {"commit": "0123abc", "dirty": False})
    first = made.provenance() | {"date": "2026-01-01 00:00:00"}
    again = made.provenance(before=first)
    assert "earlier" not in again and again["date"] > first["date"]
    monkeypatch.setattr(made, "_commit", lambda: {"commit": "4567def", "dirty": False})
    second = made.provenance(before=first)
    assert second["commit"] == "4567def" and second["earlier"] == [first]
    third = made.provenance(before=second, processes=2)
    assert third["processes"] == 2 and [part["commit"] for part in third["earlier"]] \
        == ["0123abc", "4567def"]
    assert made.provenance(before=third, processes=2)["earlier"] == third["earlier"]


@pytest.mark.parametrize("error", [FileNotFoundError("git"),
                                   subprocess.CalledProcessError(128, "git"),
                                   subprocess.TimeoutExpired("git", 20)])
def test_without_git_the_commit_is_unknown(monkeypatch, error):
    for asked in ("ls-files", "rev-parse"):  # the first: a copy inside another repository
        fake_git(monkeypatch, {"ls-files": "", "rev-parse": "0", "status": "", asked: error})
        facts = made.provenance()
        assert facts["commit"] == "unknown" and facts["dirty"] is None


# --- the lock


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with lock(tmp_path / "run"):
        with pytest.raises(RuntimeError, match="run is in use by another process"), \
                lock(tmp_path / "run"):
            pytest.fail("the lock was given twice")
        with lock(tmp_path / "other"):
            pass
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "run"):  # free again
        raise ZeroDivisionError
    with lock(tmp_path / "run"):  # after an error, too
        pass


def test_what_is_only_read_needs_no_disk_to_write_on(tmp_path, monkeypatch):
    def read_only(path, mode="r"):
        raise OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(files, "open", read_only, raising=False)
    with lock(tmp_path, reading=True):
        assert listing(tmp_path) == []
    with pytest.raises(RuntimeError, match="cannot write to .*: Read-only file system; choose"), \
            lock(tmp_path):
        pytest.fail("held what cannot be written")


def test_json_keeps_every_value_and_puts_numbers_on_one_line(tmp_path):
    content = {"a": [1, -2.5e-07, 3], "b": [[1.0, 2.0], [3.0, 4.0]], "c": [],
               "d": ["[1,  2]", None]}
    path = tmp_path / "x.json"
    write_json(path, content)
    assert read_json(path) == content and "[ 1, -2.5e-07, 3 ]" in path.read_text()
    path.write_bytes(b"abc")
    assert file_checksum(path) == \
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
