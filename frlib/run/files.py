"""Files that hold numbers: atomic writes, checksums, locks, flags, result JSONs."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

CHECKSUM = "sha256"  # the key of a JSON file that vouches for all others


@contextmanager
def atomic(path: str | Path):
    """A temporary path beside `path`, moved onto it (after fsync) only when the block succeeds."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise OSError(f"cannot write {path} ({error}); what was there before is intact") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict) -> None:
    """Write strict JSON (no NaN) atomically, a list of plain numbers on one line.

    Its last key, CHECKSUM, is a hash of the rest, by which `read_json` knows that it is whole.
    """
    content = {**_without_checksum(content), CHECKSUM: _digest(content)}
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[-+.\deE,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    with atomic(path) as temporary:
        temporary.write_text(text + "\n")


def read_json(path: str | Path) -> dict:
    """Read strict JSON, without its CHECKSUM; ValueError naming the file when it is damaged.

    Damaged is also what holds no object, a number that is not finite, or another content than the
    checksum says. A file without one is taken as it is.
    """
    try:
        content = json.loads(Path(path).read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        digest = _digest(content)
        if content.get(CHECKSUM, digest) != digest:
            raise ValueError(f"its {CHECKSUM} is that of another content")
        return _without_checksum(content)
    except (ValueError, RecursionError) as error:  # the latter for what is nested too deep
        raise ValueError(f"{path}: damaged JSON ({error}); delete it to compute it again") \
            from error


def _without_checksum(content: dict) -> dict:
    return {key: value for key, value in content.items() if key != CHECKSUM}


def _digest(content: dict) -> str:
    """SHA-256 of the content, however it is laid out in a file. ValueError for NaN."""
    text = json.dumps(_without_checksum(content), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_archive(path: str | Path) -> None:
    """RuntimeError naming a checkpoint with a byte that is not as `torch.save` wrote it.

    Such a file is a zip with a CRC of each part; `torch.load` does not look at them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises many kinds for damaged bytes
        damaged = error
    if damaged:
        raise RuntimeError(f"{path}: damaged checkpoint ({damaged}); delete its folder and give "
                           "the same command again")


def read_tensors(path: str | Path) -> dict:
    """What this library saved there: tensors, on the CPU, and plain containers, never code.

    RuntimeError naming a damaged file (see `check_archive`), ValueError naming one with code in it.
    """
    import torch

    check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # its message would advise to trust the file
        raise ValueError(f"{path}: not a file of plain weights (it holds code or other objects, "
                         "which are never loaded)") from error


@contextmanager
def lock(folder: Path, *, reading: bool = False):
    """Hold `folder` for this process, and find only whole checkpoints in it.

    What a killed process left half written is removed. RuntimeError when another process has the
    folder or it cannot be written, and for a damaged checkpoint (see `check_archive`). For
    `reading` alone, another process is waited for, and what cannot be written is not held.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(folder / ".lock", "w"))
            fcntl.flock(file, fcntl.LOCK_EX | (0 if reading else fcntl.LOCK_NB))
            for left_over in folder.glob(".*.tmp"):
                left_over.unlink()
        except BlockingIOError:
            raise RuntimeError(f"{folder} is in use by another process") from None
        except OSError as error:
            if not reading:
                raise RuntimeError(f"cannot write to {folder}: {error.strerror}; choose another "
                                   "runs_dir") from error
        for checkpoint in sorted(folder.glob("*.pt")):
            check_archive(checkpoint)
        yield


def pack_flags(flags) -> str:
    """Per-example booleans as base64 of packed bits, first example in the highest bit."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack_flags(text: str, count: int) -> np.ndarray:
    """The `count` booleans that `pack_flags` wrote. ValueError for text of more or fewer."""
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{8 * len(packed)} flags stored, {count} expected")
    return np.unpackbits(packed)[:count].astype(bool)


def score(flags) -> dict:
    """{"correct", "total", "flags"} of per-example booleans, as stored in a result."""
    flags = np.asarray(flags, dtype=bool)
    return {"correct": int(flags.sum()), "total": len(flags), "flags": pack_flags(flags)}


def flags_of(score: dict) -> np.ndarray:
    """The flags of a `score`, int (N,): 1 where an example is classified correctly, else 0."""
    return unpack_flags(score["flags"], score["total"]).astype(int)


def weights_checksum(weights: dict) -> str:
    """SHA-256 over named tensors, in the order of their names: of weights, not of their file."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def of_first(stored: dict, count: int) -> dict:
    """The score of the first `count` images of a stored score, or of all where it has fewer."""
    return score(unpack_flags(stored["flags"], stored["total"])[:count])


def redo_mark(path: str | Path) -> Path:
    """Where an empty file stands while a result, or a run's finished.json, is made anew.

    The old file at `path` stays until then, and does not count: the same command without `redo`
    goes on with what a killed one has left, also where Snakemake has put the old file back.
    """
    return Path(path).with_suffix(".redo")


def file_checksum(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
