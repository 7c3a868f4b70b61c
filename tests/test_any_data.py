"""The pipeline up to its pages on data that no preset of the book has, in size and in classes."""

import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import write_preset
from PIL import Image

from frlib.run import files

REPO = Path(__file__).resolve().parents[1]
PAGES = [path.stem for path in sorted((REPO / "notebooks").glob("*.ipynb"))]
# at this radius AutoAttack is soon done
PRESET = {"train_size": 0, "epochs": 1, "batch_size": 16, "flip": True, "eps": "128/255",
          "curve_images": 2, "judge_images": 8, "aa_images": 2, "judge_batch": 8}


def write(path, label, i, side):
    """An image of one colour for each label, under noise."""
    colour = np.random.default_rng(label).integers(40, 216, 3)
    pixels = colour + np.random.default_rng([label, i]).integers(-30, 30, (side, side, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def image_folder(root, names, side, train, test):
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(names):
            for i in range(count):
                write(root / split / name / f"{i}.png", label, i + 100 * (split == "test"), side)


def tiny_imagenet(root, train=6, test=2):
    """The published layout; two of the classes have one name."""
    folder, wnids = root / "tiny-imagenet-200", [f"n0{i}" for i in range(5)]
    table = []
    for label, wnid in enumerate(wnids):
        for i in range(train):
            write(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", label, i, 64)
        for i in range(test):
            name = f"val_{label}_{i}.JPEG"
            write(folder / "val" / "images" / name, label, i + 100, 64)
            table.append(f"{name}\t{wnid}\t0\t0\t9\t9\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(table))
    (folder / "wnids.txt").write_text("\n".join(wnids))
    (folder / "words.txt").write_text("n00\tcrane, bird\nn01\tcrane\nn02\ta <b>&\nn03\tship\n")


CASES = {  # what is written, and what of it a preset runs
    "tiny": (tiny_imagenet, {"dataset": "tiny-imagenet", "runs": ["at-fr"]}),
    "hundred": (lambda root: image_folder(root, [f"class {i}" for i in range(100)], 32, 2, 1),
                {"dataset": "folder", "runs": ["natural", "at"], "judge_images": 20}),
    "four": (lambda root: image_folder(root, ["ape", "bee", "cow", "dog"], 48, 12, 2),
             {"dataset": "folder", "runs": ["trades"], "lr": 0.0}),  # untrained: right by chance
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_page_is_made_of_any_data(checkout, name):
    make, settings = CASES[name]
    make(checkout / "data")
    settings = {**PRESET, **settings}
    write_preset(checkout, name, **settings)
    pages = [f"runs/notebooks/{name}/{page}.ipynb" for page in PAGES]
    made = subprocess.run(
        [sys.executable, "-m", "snakemake", "-j1", "--nolock", "--config", f"preset={name}.yaml",
         "data=data", "--", *pages, "book/generated/table2.md"],
        cwd=checkout, text=True, capture_output=True, timeout=1800)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-6000:]
    trained = {path.parts[-3] for path in checkout.glob(f"runs/{name}/*/seed0/finished.json")}
    assert trained == set(settings["runs"]), "nothing else is trained"
    for page in pages:
        outputs = [out for cell in nbformat.read(checkout / page, as_version=4).cells
                   for out in cell.get("outputs", [])]
        assert all(out.output_type != "error" for out in outputs), page
    numbers = files.read_json(checkout / f"runs/results/{name}/figures/seed0.json")
    lens = files.read_json(checkout / f"runs/results/{name}/lens/seed0.json")
    there = sum(1 for _ in (checkout / "data").rglob("val/images/*" if name == "tiny" else
                                                     "test/*/*"))
    assert numbers["images"] == settings["judge_images"]
    assert lens["images"] == min(20, there), "as few are judged"
    assert len(set(lens["checkpoint_sha256"])) == len(lens["scores"]) > 0
