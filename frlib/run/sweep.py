"""Many settings of one run: their labels, and the pipeline's command that makes their results."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
from pathlib import Path

from frlib.run.config import Config
from frlib.run.labels import LONGEST, as_text, join, parse_label
from frlib.run.settings import FIELDS, TRAINING, check, refuse_idle


def parse_vary(texts) -> dict[str, list]:
    """["fr_lambda=0.01,0.1", "beta=1,6"] -> {"fr_lambda": [0.01, 0.1], "beta": [1.0, 6.0]}.

    ValueError for a setting that decides no training, is given twice, or has a bad value.
    """
    found: dict[str, list] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if key not in TRAINING:
            known = ", ".join(name for name in FIELDS if name in TRAINING)
            raise ValueError(f"vary {text!r}: {key!r} decides no training; choose one of {known}")
        if key in found:
            raise ValueError(f"vary {text!r}: {key} is given twice; write {key}=value,value,...")
        found[key] = [parse_label(f"at@{key}={value}")[key] for value in values.split(",")]
    return found


def parse_seeds(text: str) -> list[int]:
    """"0,1" -> [0, 1], each once. ValueError for what is no seed."""
    if not re.fullmatch(r"\d{1,19}(,\d{1,19})*", text, re.ASCII):
        raise ValueError(f"--seeds {text!r}: must be whole numbers from 0, as 0,1,2")
    return list(check("seeds", list(dict.fromkeys(map(int, text.split(","))))))


def labels(base: Config, vary: dict[str, list]) -> list[str]:
    """The results' labels of every combination of the varied settings, in their order, each once.

    A value that is the preset's own leaves no trace in its label, so the run is found where it is
    found otherwise: at-fr, not at-fr@fr_lambda=0.1. ValueError for a setting that decides nothing
    of this method, and for a combination that is no run.
    """
    refuse_idle("vary", vary, base.method)
    combinations = itertools.product(*(
        [f"{key}={as_text(value)}" for value in values] for key, values in vary.items()))
    return list(dict.fromkeys(base.sibling(join(base.method, [*changes])).result_label
                              for changes in combinations))


def table_name(base: Config, vary: dict[str, list], seeds: list[int]) -> str:
    """"sweep-at-fr-fr_lambda=0.01,1.0-seeds=0,1.csv": no two sweeps share a file."""
    varied = {**vary, "seeds": seeds}
    name = "-".join(["sweep", base.result_label, *(
        f"{key}={','.join(map(as_text, values))}" for key, values in varied.items())])
    if len(name) > LONGEST:
        name = f"{name[:LONGEST - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{name}.csv"


def pipeline(base: Config, wanted: list[str], seeds: list[int], *, jobs: int = 2) -> list[str]:
    """The Snakemake command that trains and judges these labels, as far as they are missing.

    Every text stands in brackets, without which Snakemake drops its quotes and may read a number.
    """
    snakefile = Path(__file__).resolve().parents[2] / "Snakefile"
    given = {"preset": [base.preset], "data": [base.data_root], "runs": [base.runs_dir],
             **({"plugin": [base.plugin]} if base.plugin else {}),
             "labels": wanted, "seeds": seeds}
    return [sys.executable, "-m", "snakemake", f"-j{jobs}", "--rerun-incomplete", "--nolock",
            "--quiet", "rules", "--snakefile", str(snakefile), "--config",
            *(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()),
            "--", "sweep"]
