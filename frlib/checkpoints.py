"""Files of weights from anywhere: the plain ones are read, of the others it is said what they are.

No code in a file is ever run.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger("frlib")
NORMALISATION = ("mean", "std", "mu", "sigma")  # its names in checkpoints
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params",
            "model_state", "ema", "ema_state_dict", "state_dict_ema", "model_ema")  # best first
# of torch.compile, of DataParallel and SWA, of attributes, of Sequential(normalise, network)
PREFIXES = re.compile(r"^((_orig_mod|module|model|net|network|[01])\.)+")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, on the CPU, under the names of this module.

    `torch.save`d or safetensors. Only tensors, plain containers and numbers are read; code in a
    pickle is refused, never run. Undone are a wrapper (one of WRAPPERS, or the only dict of tensors
    there), leading PREFIXES, the prefix of a normalising layer and dead `sub_block1.*` entries.
    Raises FileNotFoundError; ValueError saying what the file is, if it holds no such tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    weights = {}
    for key, value in _tensors(_content(path), path).items():
        name = PREFIXES.sub("", key)
        if name.rpartition(".")[2] in NORMALISATION:
            name = name.rpartition(".")[2]  # "normalize.mean"
        if "sub_block1." in name or name == "n_averaged":
            continue
        if name in weights and not torch.equal(weights[name], value):
            raise ValueError(f"{path}: holds {name} more than once, as in {key}: save the "
                             "state_dict of one network alone")
        weights[name] = value
    return weights


def _tensors(content, path: Path) -> dict[str, Tensor]:
    """The one state_dict in what a file held."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no state_dict of named tensors, but a "
                         f"{type(content).__name__}; save model.state_dict() there")
    found = {key: _named(value) for key, value in content.items() if _named(value)}
    known = [key for key in WRAPPERS if key in found]
    if own := _named(content):
        return own
    if not known and len(found) != 1:
        holds = ", ".join(map(repr, list(content)[:10])) or "nothing"
        raise ValueError(f"{path}: holds no state_dict of named tensors"
                         f"{f', but {len(found)} of them' if found else ''}; its keys: {holds}; "
                         "save model.state_dict() alone")
    key = known[0] if known else next(iter(found))
    if len(found) > 1 and key != "state_dict":
        log.warning("%s: read are the weights under %r; %s are there, too", path, key,
                    ", ".join(repr(other) for other in found if other != key))
    return found[key]


def _named(value) -> dict[str, Tensor]:
    """The tensors of a dict of named ones, without plain values beside them; else {}."""
    if not isinstance(value, dict) or not all(
            isinstance(k, str) and (v is None or isinstance(v, Tensor | int | float | str))
            for k, v in value.items()):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, Tensor)}


def _content(path: Path):
    """What the file holds, as tensors, plain containers and numbers. ValueError for all else."""
    with open(path, "rb") as file:
        head = file.read(512)
    if told := _other_kind(head, path):
        raise ValueError(f"{path}: not a checkpoint: {told}")
    try:
        if head[8:9] == b"{":  # safetensors: the length of a JSON header, then the header
            from safetensors.torch import load_file  # only such files need it

            return load_file(path)
        # an epoch or accuracy in NumPy's types, as they are pickled; their values are not needed
        with torch.serialization.safe_globals([
                (_ignored, "numpy._core.multiarray.scalar"), (_Ignored, "numpy.dtype"),
                (_ignored, "numpy.core.multiarray.scalar")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: not a file of plain weights (it holds code or other objects, "
                         f"which are never loaded{_objects(path)}); ask whoever made it for "
                         "model.state_dict() alone") from error
    except Exception as error:  # torch.load raises many kinds for damaged bytes
        raise ValueError(f"{path}: damaged or not a checkpoint ({error})") from error


class _Ignored:
    """Stands for a NumPy type in a pickle: nothing of NumPy is called."""

    def __init__(self, *state):
        pass

    def __setstate__(self, state):
        pass


def _ignored(kind, value=None):
    """Stands for a NumPy number in a pickle: read as None."""


def _objects(path: Path) -> str:
    """The names of the first objects in a pickle that are no plain weights, as text."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it cannot tell for older formats
        return ""
    return f": {', '.join(sorted(names)[:4])}" if names else ""


def _other_kind(head: bytes, path: Path) -> str:
    """What a file is that people take for weights, and what to do; "" if it may be weights."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if not head:
        return "an empty file; fetch it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, saved in place of the file it leads to; download that file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it points to; fetch that with `git lfs pull`"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")) or head[257:262] == b"ustar" \
            and path.suffix in (".tar", ".tgz"):
        return "an archive; unpack it and give the file of weights in it"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, as Keras writes; weights must be those of a PyTorch network"
    if not head.startswith((b"PK", b"\x80")) and head[8:9] != b"{":
        return "neither in the format of torch.save nor in that of safetensors"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # no zip, as old files are, or a damaged one, of which torch.load tells
        return ""
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return "a TorchScript archive, which is a program; where it was made, save " \
               "model.state_dict() with torch.save"
    if not any(name.endswith("data.pkl") for name in names):
        return f"a zip archive of {', '.join(names[:4]) or 'nothing'}; unpack it and give the " \
               "file of weights in it"
    return ""
