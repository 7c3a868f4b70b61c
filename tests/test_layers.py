"""The library's layers and the README's tree are what is on disk, and each floor stands alone."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import frlib

REPO = Path(__file__).resolve().parents[1]
FLOORS = ("publish", "run", "")  # from the top down; "" is the science, frlib/*.py itself
MODULES = {str(path.relative_to(REPO / "frlib").with_suffix("")).replace("/", "."): path
           for path in sorted((REPO / "frlib").rglob("*.py"))}
OUTSIDE = {  # what the science and the bottom of run may use beyond the standard library
    "__init__": set(), "run.config": set(), "run.presets": {"yaml"}, "run.labels": {"yaml"},
    "run.files": {"numpy", "torch"},
    "data": {"numpy", "torch"}, "models": {"torch"},
    "checkpoints": {"torch", "safetensors"},
    "readers": {"numpy", "torch", "torchvision", "sklearn", "PIL", "tqdm", "filelock"},
    "fast": {"torch"},
    "attacks": {"torch"}, "spectral": {"torch"}, "averaging": {"torch"},
    "run.cost": {"psutil", "torch"}, "run.distributed": {"torch"}, "run.published": {"torch"},
    **{f"publish.plots_{kind}": {"numpy", "matplotlib"}
       for kind in ("common", "compared", "spectral", "training")},
    "publish.plots": set(), "losses": {"torch"}, "run.provenance": {"torch"},
    "evaluate": {"torch", "tqdm", "pyautoattack"}, "run.folder": {"torch"},
    "train": {"torch"}, "methods": {"torch"}, "registry": set(), "schedule": set(),
}
DOORS = {  # what the science reaches above itself, inside a function that needs it
    "train": {"run.training"},  # train(config)
    "evaluate": {"run.files"},  # autoattack(state_dir=...), and how judge packs its flags
}


def floor(module: str) -> str:
    """"run.config" -> "run", "attacks" -> ""."""
    return module.rpartition(".")[0]


def imported(source: str) -> tuple[set[str], set[str]]:
    """(frlib modules, top-level packages outside the standard library), wherever they stand."""
    own, outside = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "frlib" if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            names = [f"{base}.{alias.name}" for alias in node.names] \
                if base in ("frlib", "frlib.run", "frlib.publish") else [base]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "frlib":
                own.add(rest)
            elif top not in sys.stdlib_module_names:
                outside.add(top)
    return own, outside


def test_the_reader_of_imports_sees_every_form():
    source = ("import frlib.train, os\nfrom frlib import data as d, models\n"
              "from frlib.attacks import pgd\ndef f():\n    from frlib.run import files\n"
              "    from .losses import x\n    import torch.nn as nn\n    from numpy import array\n")
    assert imported(source) == ({"train", "data", "models", "attacks", "run.files", "losses"},
                                {"torch", "numpy"})


def test_a_module_is_imported_when_it_is_asked_for():
    assert frlib.attacks.pgd and frlib.run
    with pytest.raises(AttributeError, match="module 'frlib' has no attribute 'attack'"):
        frlib.attack  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    own, outside = imported(MODULES[name].read_text())
    allowed = FLOORS[0 if name == "__main__" else FLOORS.index(floor(name)):]
    above = {other for other in own if floor(other) not in allowed}
    assert above == DOORS.get(name, set()), f"{name} imports from a floor above: {above}"
    assert outside <= OUTSIDE.get(name, outside)
    assert not (name.startswith("publish.") and "train" in own), "pages never train"


def listed(tree: str, folder: str, suffix: str) -> list[str]:
    """The files of `folder` in a drawn tree: deeper than its line, up to the next that is not."""
    names, inside = [], None
    for line in tree.splitlines():
        match = re.search(r"[\w.]", line)
        if not match:
            continue
        indent, word = match.start(), line[match.start():].split()[0]
        if word == f"{folder}/":
            inside = indent
        elif inside is not None and indent <= inside:
            inside = None
        elif inside is not None and word.endswith(suffix):
            names.append(word)
    return names


def test_the_reader_of_trees_sees_both_ways_of_drawing():
    plain = "frlib/          the library\n  a.py     x\n  b.py\n    deep.yaml\ntests/\n  c.py\n"
    drawn = "repo/\n├── frlib/\n│   ├── a.py  # x\n│   └── b.py\n└── tests/\n    └── c.py\n"
    assert listed(plain, "frlib", ".py") == listed(drawn, "frlib", ".py") == ["a.py", "b.py"]


@pytest.mark.parametrize(("folder", "suffix"), [("frlib", ".py"), ("notebooks", ".ipynb")])
def test_the_readmes_tree_is_what_is_on_disk(folder, suffix):
    readme = REPO / "README.md"
    if not readme.is_file():
        pytest.skip("no README.md yet")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", readme.read_text(), re.M | re.S)
    names = [name for block in blocks for name in listed(block, folder, suffix)]
    disk = {path.name for path in (REPO / folder).rglob(f"*{suffix}")}
    assert sorted(set(names) - {"__init__.py"}) == sorted(disk - {"__init__.py"})
    assert len(names) == len(set(names)), "a file is listed twice"


PLAIN = """
import time
import torch
start = time.process_time()  # so that a busy machine makes no difference
from frlib import attacks, data, evaluate, models, spectral, train
assert time.process_time() - start < 0.3, "importing the library is slow"

split = data.load("digits", "", "train").take(16)
images, labels = split.x[:8], split.labels[:8]
torch.manual_seed(0)
model = models.create("resnet8-16")
for method in "at", "at-fr":
    settings = train.Settings(method=method, epochs=1, batch_size=8, steps=1, curve_steps=1)
    row, = train.epochs(train.begin(model, settings), split, {"some": (images, labels)}, settings)
    assert row["epoch"] == 1 and ("loss_fr" in row) == (method == "at-fr"), row
    assert 0 <= row["some_pgd"] <= row["some_clean"] <= 1
x_adv = attacks.pgd(model, images, labels, eps="8/255", step_size="2/255", steps=2)
assert (x_adv - images).abs().max() <= 8 / 255 + 1e-6
assert 0 <= evaluate.accuracy(model, spectral.low_pass(x_adv, 16), labels) <= 1
"""
RUN = """
import sys
from frlib import evaluate
from frlib.__main__ import main
evaluate.autoattack = lambda model, x, y, **_: evaluate.AutoAttackResult(
    evaluate.correct(model, x, y), x, {}, [])  # in place of the long one
sys.exit(any(main([step, "--preset", "alone.yaml", "--runs-dir", "runs"])
             for step in ("train", "judge")))
"""
ALONE = """preset: alone
settings:
  {dataset: digits, train_size: 16, batch_size: 8, model: resnet8-16, epochs: 1, steps: 1,
   curve_images: 4, curve_steps: 1, threads: 1, judge_images: 4, aa_images: 1}
"""


@pytest.mark.parametrize(("without", "script"), [(("run", "publish"), PLAIN), (("publish",), RUN)])
def test_a_floor_stands_without_those_above_it(tmp_path, without, script):
    shutil.copytree(REPO / "frlib", tmp_path / "frlib",
                    ignore=shutil.ignore_patterns("__pycache__", *without))
    (tmp_path / "alone.yaml").write_text(ALONE)
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, text=True,
                         capture_output=True, env={**os.environ, "FRLIB_ROOT": str(tmp_path),
                                                   "PYTHONPATH": str(tmp_path),
                                                   "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert without != ("publish",) or list(tmp_path.glob("runs/results/alone/at/seed0.json"))
