"""CIFAR-100, SVHN, Tiny ImageNet and image folders, from small files in the published formats."""

import hashlib
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageOps
from scipy.io import savemat

from frlib import data, readers
from frlib.data import load

REPO = Path(__file__).resolve().parents[1]


def split_of(count, fraction=0.1, seed=42):
    """Indices of the training images that train, and of those that validate."""
    order = np.random.RandomState(seed).permutation(count)
    cut = count - round(count * fraction)
    return {"train": order[:cut], "val": order[cut:]}


def well_formed(part, count, height, width):
    assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
    assert part.images.shape == (count, 3, height, width) and part.labels.shape == (count,)
    assert part.images.is_contiguous() and isinstance(part.classes, tuple)


def pixels(images):
    return images.permute(0, 2, 3, 1).numpy()


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


# --- CIFAR-100


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the official files hold them: strings of Python 2."""

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Python2Pickler(file, protocol=2).dump(value)


def write_cifar100(root, patch, sizes=(("train", 30), ("test", 8))):
    """{split: (images NHWC, labels)}; torchvision is told the MD5 sums of what was written."""
    folder, rng, written = root / "cifar-100-python", np.random.RandomState(0), {}
    for name, count in sizes:
        flat = rng.randint(0, 256, (count, 3072), dtype=np.uint8)
        labels = rng.randint(0, 100, count).tolist()
        dump(folder / name, {b"data": flat, b"fine_labels": labels, b"batch_label": b"1 of 1",
                             b"coarse_labels": [label // 5 for label in labels],
                             b"filenames": [b"a_s_%d.png" % i for i in range(count)]})
        written[name] = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels)
        patch.setattr(torchvision.datasets.CIFAR100, f"{name}_list", [[name, md5(folder / name)]])
    dump(folder / "meta", {b"fine_label_names": [b"fine %d" % i for i in range(100)],
                           b"coarse_label_names": [b"coarse %d" % i for i in range(20)]})
    patch.setitem(torchvision.datasets.CIFAR100.meta, "md5", md5(folder / "meta"))
    return written


def test_cifar100_is_read_and_split(tmp_path, monkeypatch):
    written = write_cifar100(tmp_path, monkeypatch)
    images, labels = written["train"]
    for name, chosen in split_of(30).items():
        part = load("cifar100", tmp_path, name, download=False)
        well_formed(part, {"train": 27, "val": 3}[name], 32, 32)
        assert np.array_equal(pixels(part.images), images[chosen])
        assert part.labels.tolist() == labels[chosen].tolist()
        assert part.classes == tuple(f"fine {i}" for i in range(100))
    part = load("cifar100", str(tmp_path), "test", download=False)
    well_formed(part, 8, 32, 32)
    assert np.array_equal(pixels(part.images), written["test"][0])
    assert part.labels.tolist() == written["test"][1].tolist()


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.parametrize("split", data.SPLITS)
def test_a_damaged_cifar100_file_is_named(tmp_path, monkeypatch, name, split):
    write_cifar100(tmp_path, monkeypatch)
    path = tmp_path / "cifar-100-python" / name
    damage(path)
    with pytest.raises(RuntimeError, match=r"^damaged CIFAR-100 file \(MD5 differs\): "
                                           rf"{re.escape(str(path))}; delete it"):
        load("cifar100", tmp_path, split)


# --- SVHN


def write_svhn(root, patch, name, count=20):
    """(images NHWC, raw labels 1 to 10) of train_32x32.mat or test_32x32.mat."""
    rng, path = np.random.RandomState(len(name)), root / f"{name}_32x32.mat"
    x = rng.randint(0, 256, (32, 32, 3, count), dtype=np.uint8)
    y = (np.arange(count)[:, None] % 10 + 1).astype(np.uint8)
    savemat(path, {"X": x, "y": y})
    patch.setitem(torchvision.datasets.SVHN.split_list, name,
                  ["http://nowhere", path.name, md5(path)])
    return x.transpose(3, 0, 1, 2), y[:, 0]


def test_svhn_is_read_and_split(tmp_path, monkeypatch):
    images, raw = write_svhn(tmp_path, monkeypatch, "train")
    digits = np.where(raw == 10, 0, raw)
    assert (digits == 0).sum() == 2
    for name, chosen in split_of(20, 0.25, 7).items():
        part = load("svhn", tmp_path, name, val_fraction=0.25, seed=7, download=False)
        well_formed(part, {"train": 15, "val": 5}[name], 32, 32)
        assert np.array_equal(pixels(part.images), images[chosen])
        assert part.labels.tolist() == digits[chosen].tolist()
        assert part.classes == tuple("0123456789")
    images, raw = write_svhn(tmp_path, monkeypatch, "test", 11)
    part = load("svhn", tmp_path, "test", download=False)
    well_formed(part, 11, 32, 32)
    assert np.array_equal(pixels(part.images), images)
    assert part.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize(("name", "split"),
                         [("train", "train"), ("train", "val"), ("test", "test")])
def test_a_damaged_svhn_file_is_named(tmp_path, monkeypatch, name, split):
    for each in ("train", "test"):
        write_svhn(tmp_path, monkeypatch, each)
    path = tmp_path / f"{name}_32x32.mat"
    damage(path)
    with pytest.raises(RuntimeError, match=r"^damaged SVHN file \(MD5 differs\): "
                                           rf"{re.escape(str(path))}; delete it"):
        load("svhn", tmp_path, split)


# --- what both official sets say when they are not there


OFFICIAL = [("cifar100", torchvision.datasets.CIFAR100, "CIFAR-100", "train, meta, test",
             "cifar-100-python"),
            ("svhn", torchvision.datasets.SVHN, "SVHN", "train_32x32.mat", "train_32x32.mat")]


@pytest.mark.parametrize(("name", "dataset", "title", "missing", "landmark"), OFFICIAL)
def test_missing_files_say_where_they_should_be(tmp_path, monkeypatch, name, dataset, title,
                                                missing, landmark):
    monkeypatch.setattr(dataset, "download", lambda self: pytest.fail("a download was tried"))
    message = (f"{title} is not complete under {tmp_path} (no {missing}); "
               f"set data_root to the folder that holds {landmark}")
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        load(name, tmp_path, "train", download=False)


@pytest.mark.parametrize(("name", "dataset", "title", "missing", "landmark"), OFFICIAL)
def test_a_failed_download_says_why(tmp_path, monkeypatch, name, dataset, title, missing, landmark):
    def download(self):
        raise OSError("no route to host")
    monkeypatch.setattr(dataset, "download", download)
    message = (f"{title} is not complete under {tmp_path} (no {missing}) and the download failed "
               f"(no route to host); set data_root to the folder that holds {landmark}")
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        load(name, tmp_path, "train")


@pytest.mark.parametrize(("name", "write"), [
    ("cifar100", write_cifar100), ("svhn", lambda root, patch: write_svhn(root, patch, "train"))])
def test_missing_files_are_downloaded_once(tmp_path, monkeypatch, name, write):
    calls, dataset = [], {row[0]: row[1] for row in OFFICIAL}[name]

    def download(self):
        calls.append(self.root)
        write(tmp_path, monkeypatch)
    monkeypatch.setattr(dataset, "download", download)
    assert len(load(name, tmp_path, "train")) == {"cifar100": 27, "svhn": 18}[name]
    assert len(load(name, tmp_path, "val")) == {"cifar100": 3, "svhn": 2}[name]
    assert calls == [str(tmp_path)]


DOWNLOAD = """
import hashlib, sys, time
from pathlib import Path
from torchvision.datasets import SVHN
from scipy.io import savemat
import numpy as np
from frlib import data

root = Path(sys.argv[1])
SVHN.split_list["test"] = ["http://nowhere", "test_32x32.mat", sys.argv[2]]

def download(self):
    (root / f"download-{time.time_ns()}").touch()
    whole = (root / "source").read_bytes()
    with open(root / "test_32x32.mat", "wb") as file:
        for start in range(0, len(whole), -(-len(whole) // 20)):
            file.write(whole[start:start - (-len(whole) // 20)])
            file.flush()
            time.sleep(0.02)

SVHN.download = download
print(len(data.load("svhn", root, "test")))
"""


def test_two_processes_that_miss_a_set_download_it_once(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch, "test", 11)
    (tmp_path / "test_32x32.mat").rename(tmp_path / "source")
    both = [subprocess.Popen([sys.executable, "-c", DOWNLOAD, tmp_path, md5(tmp_path / "source")],
                             cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["11\n", "11\n"], told
    assert len(list(tmp_path.glob("download-*"))) == 1


# --- image folders


def paint(path, value, size=(32, 32), mode="RGB"):
    """An image of noise under the seed `value`; returns it as it should be read, (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(value).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if mode == "L":
        noise[:] = noise[:, :, :1]
        Image.fromarray(noise[:, :, 0]).save(path)
    else:
        Image.fromarray(noise).save(path)
    return noise


def write_folder(root, size=(5, 7), classes=("b", "a", "C"), train=8, test=4):
    """{side: (images NHWC, labels)}, the classes in sorted order: C, a, b; each second is grey."""
    written, value = {}, 0
    for side, count in (("train", train), ("test", test)):
        images, labels = [], []
        for label, name in enumerate(sorted(classes)):
            for i in range(count):
                value += 1
                images.append(paint(root / side / name / f"{i:02}.png", value, size,
                                    "L" if i == 1 else "RGB"))
                labels.append(label)
        written[side] = np.stack(images), np.array(labels)
    return written


def test_an_image_folder_is_read_and_split(tmp_path):
    written = write_folder(tmp_path)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    images, labels = written["train"]
    for name, chosen in split_of(24).items():
        part = load("folder", tmp_path, name)
        well_formed(part, {"train": 22, "val": 2}[name], 7, 5)
        assert np.array_equal(pixels(part.images), images[chosen])
        assert part.labels.tolist() == labels[chosen].tolist()
        assert part.classes == ("C", "a", "b")
    part = load("folder", tmp_path, "test")
    shuffled = np.random.RandomState(0).permutation(12)
    well_formed(part, 12, 7, 5)
    assert np.array_equal(pixels(part.images), written["test"][0][shuffled])
    assert part.labels.tolist() == written["test"][1][shuffled].tolist()
    assert load("folder", tmp_path, "test", val_fraction=0.5, seed=1).checksum == part.checksum


def test_the_splits_of_a_folder_share_no_image_and_lose_none(tmp_path):
    write_folder(tmp_path)
    parts = [load("folder", tmp_path, name, val_fraction=0.3, seed=5) for name in data.SPLITS]
    assert [len(part) for part in parts] == [17, 7, 12]
    seen = {image.tobytes() for part in parts for image in part.images.numpy()}
    assert len(seen) == 36


def test_nothing_is_left_for_validation_when_nothing_is_asked_for(tmp_path):
    write_folder(tmp_path)
    well_formed(load("folder", tmp_path, "train", val_fraction=0), 24, 7, 5)
    well_formed(load("folder", tmp_path, "val", val_fraction=0), 0, 7, 5)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_8_bit_mode_becomes_rgb(tmp_path, mode):
    write_folder(tmp_path)
    path = tmp_path / "test" / "C" / "00.png"
    colour = {"L": 90, "P": 3, "RGBA": (10, 20, 30, 255), "1": 1}[mode]
    image = Image.new(mode, (5, 7), colour)
    if mode == "P":
        image.putpalette([0] * 9 + [40, 50, 60])
    image.save(path)
    part = load("folder", tmp_path, "test")
    where = np.random.RandomState(0).permutation(12).tolist().index(0)
    expected = {"L": [90] * 3, "P": [40, 50, 60], "RGBA": [10, 20, 30], "1": [255] * 3}[mode]
    assert (part.images[where] == torch.tensor(expected)[:, None, None]).all()


def test_16_bit_images_are_refused(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "train" / "b" / "02.png"
    Image.fromarray(np.full((7, 5), 40_000, np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} has I;16 pixels: 8-bit"):
        load("folder", tmp_path, "train")


@pytest.mark.parametrize("odd", ["train/C/01.png", "train/b/07.png", "test/a/00.png"])
@pytest.mark.parametrize("split", data.SPLITS)
def test_images_of_another_size_are_refused_the_first_by_name(tmp_path, odd, split):
    write_folder(tmp_path)
    paint(tmp_path / odd, 1, (7, 5))
    paint(tmp_path / "test" / "b" / "03.png", 1, (9, 9))
    message = f"{tmp_path / odd} is 7 x 5 pixels, not 5 x 7: all images must have one size"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load("folder", tmp_path, split)


def test_train_and_test_must_have_the_same_classes(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "test" / "a").rename(tmp_path / "test" / "z")
    message = (f"train and test under {tmp_path} must have the same classes: "
               "only in train ['a'], only in test ['z']")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load("folder", tmp_path, "train")


@pytest.mark.parametrize("split", data.SPLITS)
@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image_is_named(tmp_path, split, content):
    write_folder(tmp_path)
    path = tmp_path / "train" / "a" / "03.png"
    path.write_bytes(content)
    message = f"unreadable image {path} (cannot identify image file '{path}'); replace it"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        load("folder", tmp_path, split)


@pytest.mark.parametrize("cut", [60, 100])
def test_half_an_image_is_named_when_it_is_decoded(tmp_path, cut):
    write_folder(tmp_path)
    path = tmp_path / "test" / "C" / "02.png"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RuntimeError, match=rf"^unreadable image {path} \("):
        load("folder", tmp_path, "test")


def test_a_broken_png_is_named(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "test" / "C" / "02.png"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IDAT") - 1] ^= 8  # the length of the data: what follows is no chunk
    path.write_bytes(raw)
    with pytest.raises(RuntimeError, match=rf"^unreadable image {path} \("):
        load("folder", tmp_path, "test")


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_side_says_what_the_folder_should_hold(tmp_path, side, split):
    write_folder(tmp_path)
    (tmp_path / side).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"^no folder {tmp_path / side}: set data_root "
                                                r".* train/<class>/ and test/<class>/"):
        load("folder", tmp_path, split)


def test_a_class_without_images_is_named(tmp_path):
    write_folder(tmp_path)
    for side in ("train", "test"):
        (tmp_path / side / "empty").mkdir()
    with pytest.raises(FileNotFoundError,
                       match=f"^images are missing in {tmp_path / 'train'}: .*empty"):
        load("folder", tmp_path, "train")
    (tmp_path / "bare" / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError,
                       match=f"^images are missing in {tmp_path / 'bare' / 'train'}: "):
        load("folder", tmp_path / "bare", "train")


@pytest.fixture(scope="module")
def subset_root():
    """An ImageFolder tree of real CIFAR-100 images (100 + 20 per class), or a skip."""
    places = [os.environ.get("FRLIB_CIFAR100_SUBSET"),
              REPO.parent / "shared" / "data" / "cifar100-subset",
              REPO / "data" / "cifar100-subset"]
    for place in map(Path, filter(None, places)):
        if (place / "train" / "apple").is_dir():
            return place
    pytest.skip("no CIFAR-100 images: set FRLIB_CIFAR100_SUBSET to the folder of train/ and test/")


def test_a_folder_of_real_images(subset_root):
    files = sorted(subset_root.glob("train/*/*.png"))
    assert len(files) == 10_000
    parts = {name: load("folder", subset_root, name) for name in ("val", "test")}
    for name, count in (("val", 1_000), ("test", 2_000)):
        well_formed(parts[name], count, 32, 32)
        assert parts[name].classes == tuple(sorted(os.listdir(subset_root / "test")))
    assert parts["test"].labels.bincount().tolist() == [20] * 100
    assert len(parts["test"].take(500).labels.unique()) > 90
    chosen, part = split_of(10_000)["val"], parts["val"]
    for i, image in enumerate(pixels(part.images)):
        path = files[chosen[i]]
        assert part.classes[part.labels[i]] == path.parent.name
        assert i % 50 or np.array_equal(image, np.asarray(Image.open(path)))


def test_a_folder_reads_as_imagefolder_does(tmp_path):
    write_folder(tmp_path)
    for i, name in enumerate(("a/x/1.PNG", "a/x.y/2.png", "b/sub/deep/0.Jpeg", "C/9.bmp")):
        paint(tmp_path / "train" / name, 100 + i, (5, 7))
    expected = torchvision.datasets.ImageFolder(tmp_path / "train")
    part = load("folder", tmp_path, "train", val_fraction=0)
    order = np.random.RandomState(42).permutation(len(expected))
    assert part.classes == tuple(expected.classes)
    for image, label, i in zip(pixels(part.images), part.labels, order, strict=True):
        assert np.array_equal(image, np.asarray(expected[i][0])) and label == expected[i][1]


def test_hidden_files_are_no_images_and_no_class(tmp_path, caplog):
    write_folder(tmp_path)
    seen = [load("folder", tmp_path, name).checksum for name in data.SPLITS]
    listed = data.listing("folder", tmp_path)
    for name in ("train/.ipynb_checkpoints/x.png", "train/a/.ipynb_checkpoints/00-checkpoint.png",
                 "test/b/._00.png"):
        paint(tmp_path / name, 1)
    (tmp_path / "train" / "a" / ".DS_Store").write_bytes(b"x")
    assert [load("folder", tmp_path, name).checksum for name in data.SPLITS] == seen
    assert data.listing("folder", tmp_path) == listed and not caplog.messages


def test_what_is_left_out_is_counted_and_said_once(tmp_path, caplog):
    write_folder(tmp_path)
    listed = data.listing("folder", tmp_path)
    for name in ("train/a/1.gif", "train/b/2.GIF", "train/b/3.jfif", "train/Thumbs.db",
                 "train/b/README"):
        (tmp_path / name).write_bytes(b"x")
    for split in data.SPLITS:
        load("folder", tmp_path, split)
    assert data.listing("folder", tmp_path) == listed
    said, = caplog.messages
    assert said.startswith(f"{tmp_path}/train: 5 files are left out (")
    for kind in ("1 .gif", "1 .GIF", "1 .jfif", "1 .db", "1 without suffix"):
        assert kind in said


@pytest.mark.parametrize(("place", "target"), [
    ("train/a/up", "train/a"), ("train/a/x/up", "train"), ("train/d", "."), ("test/b/up", "test")])
def test_a_link_in_a_circle_is_named(tmp_path, place, target):
    write_folder(tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=rf"^{tmp_path / place} is a link to .*remove the link"):
        load("folder", tmp_path, "train")


def test_linked_folders_are_read_and_other_images_there_are_another_listing(tmp_path):
    write_folder(tmp_path)
    for grey, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (5, 7), (grey + 10 * i,) * 3).save(tmp_path / name / f"{i}.bmp")
        for side in ("train", "test"):
            (tmp_path / side / "linked").unlink(missing_ok=True)
            (tmp_path / side / "linked").symlink_to(tmp_path / name)
    assert load("folder", tmp_path, "test").classes == ("C", "a", "b", "linked")
    linked, seen = tmp_path / "train" / "linked", [data.listing("folder", tmp_path)]
    Image.new("RGB", (5, 7), (9, 9, 9)).save(linked / "0.bmp")  # as many bytes, other pixels
    seen.append(data.listing("folder", tmp_path))
    linked.unlink()
    linked.symlink_to(tmp_path / "one")
    seen.append(data.listing("folder", tmp_path))
    (tmp_path / "train" / "a" / "00.png").rename(tmp_path / "train" / "a" / "0.png")
    seen.append(data.listing("folder", tmp_path))
    assert len(set(seen)) == 4 and all(each.startswith(data.LISTED) for each in seen)


def write_turned(path, orientation):
    """A 7 x 5 file that its EXIF turns into a 5 x 7 image, if orientation is 6: its red corner."""
    image = Image.new("RGB", (7, 5))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, suffix):
    write_folder(tmp_path)
    (tmp_path / "train" / "C" / "00.png").unlink()
    path = tmp_path / "train" / "C" / f"00.{suffix}"
    write_turned(path, 6)  # turned by a quarter to the right
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    part = load("folder", tmp_path, "train", val_fraction=0)
    where = np.random.RandomState(42).permutation(24).tolist().index(0)
    assert expected.shape == (7, 5, 3) and expected[0, 4, 0] > 50
    assert np.array_equal(pixels(part.images)[where], expected)
    write_turned(path, 1)  # the first file is the odd one, and it is named
    with pytest.raises(ValueError, match=rf"^{path} is 7 x 5 pixels, not 5 x 7"):
        load("folder", tmp_path, "train")


def bomb(path):
    """The header of a PNG with far too many pixels."""
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">II", 20_000, 20_000)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    return bytes(raw)


@pytest.mark.parametrize("spoil", [
    bomb,
    lambda path: bomb(path)[:16] + struct.pack(">II", 10_000, 10_000),
    lambda path: path.read_bytes().replace(b"IHDR", b"IHDX"),
    lambda path: path.read_bytes()[:40] + b"\xff" * 30,
    lambda path: b"BM" + bytes(60)], ids=["bomb", "cut", "no header", "spoilt", "zeros"])
def test_a_damaged_header_is_named(tmp_path, spoil):
    write_folder(tmp_path)
    path = tmp_path / "train" / "C" / "05.png"
    path.write_bytes(spoil(path))
    with pytest.raises(RuntimeError, match=rf"^unreadable image {path} \(.*\); replace it$"):
        load("folder", tmp_path, "train", val_fraction=0)


# --- Tiny ImageNet


WNIDS = ("n03", "n01", "n02")  # as in the published file, not sorted


def colour(path, rgb, size=(64, 64)):
    """A JPEG of one colour, greyscale where its channels are one number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode, value = ("L", rgb[0]) if len(set(rgb)) == 1 else ("RGB", rgb)
    Image.new(mode, size, value).save(path, format="JPEG", quality=95)


def write_tiny(root):
    """The published tree in small: 3 classes of 5, the second image of each grey; 4 val images.

    The colour of training image i of class k, and of val image v, are what the tests expect.
    """
    folder = root / "tiny-imagenet-200"
    for label, wnid in enumerate(sorted(WNIDS)):
        for i in range(5):
            colour(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", train_colour(label, i))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t9\t9\n")
    for name, _, rgb in VAL:
        colour(folder / "val" / "images" / name, rgb)
    (folder / "val" / "val_annotations.txt").write_text(
        "".join(f"{name}\t{wnid}\t0\t32\t44\t62\n" for name, wnid, _ in VAL))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\n"
                                      "n03\tcliff, drop\nn02\ttailed frog, bell toad\n")
    (folder / "test" / "images").mkdir(parents=True)
    (folder / "test" / "images" / "test_0.JPEG").write_bytes(b"never read")
    return folder


def train_colour(label, i):
    return (40 * i + 20,) * 3 if i == 1 else (40 * i + 20, 200 - 80 * label, 30)


VAL = [("val_0.JPEG", "n03", (250, 0, 0)), ("val_1.JPEG", "n01", (0, 250, 0)),
       ("val_2.JPEG", "n03", (70, 70, 70)), ("val_10.JPEG", "n02", (0, 0, 250))]


def has_colours(part, expected):
    images = part.images.double()
    assert images.std((2, 3)).max() < 1
    assert (images.mean((2, 3)) - torch.tensor(expected)).abs().max() < 4


def test_tiny_imagenet_is_read_and_split(tmp_path):
    write_tiny(tmp_path)
    for name, chosen in split_of(15, 0.4).items():
        part = load("tiny-imagenet", tmp_path, name, val_fraction=0.4)
        well_formed(part, {"train": 9, "val": 6}[name], 64, 64)
        assert part.labels.tolist() == (chosen // 5).tolist()
        assert part.classes == ("goldfish", "tailed frog", "cliff")
        has_colours(part, [train_colour(i // 5, i % 5) for i in chosen])
        for image, i in zip(part.images, chosen, strict=True):
            assert (image == image[0]).all() == (i % 5 == 1)


def test_tiny_imagenets_val_folder_is_the_test_split(tmp_path):
    write_tiny(tmp_path)
    part = load("tiny-imagenet", tmp_path, "test")
    well_formed(part, 4, 64, 64)
    assert part.labels.tolist() == [2, 0, 2, 1]
    assert part.classes == ("goldfish", "tailed frog", "cliff")
    has_colours(part, [rgb for _, _, rgb in VAL])
    decoded = Image.open(tmp_path / "tiny-imagenet-200" / "val" / "images" / "val_1.JPEG")
    assert np.array_equal(pixels(part.images)[1], np.asarray(decoded))


def test_missing_tiny_imagenet_names_its_address_and_place(tmp_path):
    message = (f"Tiny ImageNet is not complete under {tmp_path} (no {tmp_path}/tiny-imagenet-200"
               "/wnids.txt): fetch http://cs231n.stanford.edu/tiny-imagenet-200.zip and unzip it "
               "there")
    for download in (True, False):
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            load("tiny-imagenet", tmp_path, "train", download=download)


@pytest.mark.parametrize("part", ["wnids.txt", "words.txt", "train", "val/val_annotations.txt"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_half_a_tiny_imagenet_is_refused(tmp_path, part, split):
    folder = write_tiny(tmp_path)
    (folder / part).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"\(no {folder / part}\): fetch http://cs231n"):
        load("tiny-imagenet", tmp_path, split)


def test_a_class_missing_from_tiny_imagenet_is_named(tmp_path):
    folder = write_tiny(tmp_path)
    (folder / "train" / "n02").rename(folder / "n02")
    with pytest.raises(FileNotFoundError, match=rf"^images are missing in {folder}/train: .*n02"):
        load("tiny-imagenet", tmp_path, "train")


@pytest.mark.parametrize("line", ["val_9.JPEG\tn99\t0\t0\t9\t9", "val_9.JPEG"])
def test_a_line_without_a_known_class_is_named(tmp_path, line):
    table = write_tiny(tmp_path) / "val" / "val_annotations.txt"
    table.write_text(table.read_text() + line + "\n")
    with pytest.raises(ValueError, match=rf"^{table}, line 5: must be an image, a wnid"):
        load("tiny-imagenet", tmp_path, "test")


@pytest.mark.parametrize("lost", ["image", "line"])
def test_val_images_and_their_table_must_agree(tmp_path, lost):
    folder = write_tiny(tmp_path) / "val"
    table = folder / "val_annotations.txt"
    if lost == "image":
        (folder / "images" / "val_10.JPEG").unlink()
    else:
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FileNotFoundError, match=rf"^{table} and {folder}/images must list the same "
                                                r"images, val_10.JPEG is in one alone: unzip http"):
        load("tiny-imagenet", tmp_path, "test")


def test_a_tiny_image_of_another_size_or_cut_short_is_named(tmp_path):
    path = write_tiny(tmp_path) / "train" / "n02" / "images" / "n02_3.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RuntimeError, match=rf"^unreadable image {path} \(.*[Tt]runcated"):
        load("tiny-imagenet", tmp_path, "train", val_fraction=0)
    colour(path, (1, 2, 3), (32, 64))
    with pytest.raises(ValueError, match=rf"^{path} is 32 x 64 pixels, not 64 x 64: "):
        load("tiny-imagenet", tmp_path, "train", val_fraction=0)


def test_only_the_chosen_images_are_decoded_behind_a_quiet_bar(tmp_path, monkeypatch):
    folder, shown = write_tiny(tmp_path), []

    def bar(files, **options):
        shown.append(([Path(file).name for file in files], options["disable"]))
        return files
    monkeypatch.setattr(readers, "tqdm", bar)
    load("tiny-imagenet", tmp_path, "val", val_fraction=0.4)
    files = sorted(path.name for path in folder.glob("train/*/images/*"))
    assert shown == [([files[i] for i in split_of(15, 0.4)["val"]], None)]
