"""Many settings of one run: their labels, and the pipeline's command that makes their results."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

from frlib.run.config import Config
from frlib.run.labels import parse_label
from frlib.run.settings import FIELDS, TRAINING


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


def labels(base: Config, vary: dict[str, list]) -> list[str]:
    """The results' labels of every combination of the varied settings, in their order, each once.

    A value that is the preset's own leaves no trace in its label, so the run is found where it is
    found otherwise: at-fr, not at-fr@fr_lambda=0.1.
    """
    combinations = itertools.product(*vary.values())
    changed = (replace(base, **dict(zip(vary, values, strict=True))) for values in combinations)
    return list(dict.fromkeys(settings.result_label for settings in changed))


def pipeline(base: Config, wanted: list[str], seeds: list[int], *, jobs: int = 2) -> list[str]:
    """The Snakemake command that trains and judges these labels, as far as they are missing."""
    snakefile = Path(__file__).resolve().parents[2] / "Snakefile"
    return [sys.executable, "-m", "snakemake", f"-j{jobs}", "--rerun-incomplete", "--nolock",
            "--quiet", "rules", "--snakefile", str(snakefile), "--config",
            f"preset={json.dumps(base.preset)}", f"data={json.dumps(base.data_root)}",
            *([f"plugin={json.dumps(base.plugin)}"] if base.plugin else []),
            f"runs={json.dumps(base.runs_dir)}", f"labels={json.dumps(wanted)}",
            f"seeds={json.dumps(seeds)}", "--", "sweep"]
