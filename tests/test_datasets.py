"""Official files, Tiny ImageNet and image folders, from small files in the published formats."""

import hashlib
import pickle
import re
import shutil
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageOps
from scipy.io import savemat

from frlib import data, readers
from frlib.data import load


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


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


# --- official files


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))


def write_cifar100(root, patch, sizes=(("train", 30), ("test", 8))):
    """{split: (images NHWC, labels)}; torchvision is told the MD5 sums of what was written."""
    folder, rng, written = root / "cifar-100-python", np.random.RandomState(0), {}
    for name, count in sizes:
        flat = rng.randint(0, 256, (count, 3072), dtype=np.uint8)
        labels = rng.randint(0, 100, count).tolist()
        dump(folder / name, {"data": flat, "fine_labels": labels,
                             "coarse_labels": [label // 5 for label in labels]})
        written[name] = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels)
        patch.setattr(torchvision.datasets.CIFAR100, f"{name}_list", [[name, md5(folder / name)]])
    dump(folder / "meta", {"fine_label_names": [f"fine {i}" for i in range(100)],
                           "coarse_label_names": [f"coarse {i}" for i in range(20)]})
    patch.setitem(torchvision.datasets.CIFAR100.meta, "md5", md5(folder / "meta"))
    return written


def write_svhn(root, patch, name="train", count=20):
    """(images NHWC, raw labels 1 to 10) of train_32x32.mat or test_32x32.mat."""
    rng, path = np.random.RandomState(len(name)), root / f"{name}_32x32.mat"
    x = rng.randint(0, 256, (32, 32, 3, count), dtype=np.uint8)
    y = (np.arange(count)[:, None] % 10 + 1).astype(np.uint8)
    savemat(path, {"X": x, "y": y})
    patch.setitem(torchvision.datasets.SVHN.split_list, name,
                  ["http://nowhere", path.name, md5(path)])
    return x.transpose(3, 0, 1, 2), y[:, 0]


@pytest.mark.parametrize(("name", "write", "classes"), [
    ("cifar100", write_cifar100, tuple(f"fine {i}" for i in range(100))),
    ("svhn", lambda root, patch: {"train": write_svhn(root, patch), "test": write_svhn(
        root, patch, "test", 11)}, tuple("0123456789"))])
def test_an_official_set_is_read_and_split(tmp_path, monkeypatch, name, write, classes):
    written = write(tmp_path, monkeypatch)
    chosen_of = split_of(len(written["train"][1]), 0.2, 7) | {"test": slice(None)}
    for split, chosen in chosen_of.items():
        images, labels = written["test" if split == "test" else "train"]
        part = load(name, str(tmp_path), split, val_fraction=0.2, seed=7, download=False)
        well_formed(part, len(labels[chosen]), 32, 32)
        assert np.array_equal(pixels(part.images), images[chosen]) and part.classes == classes
        right = labels[chosen] if name == "cifar100" else labels[chosen] % 10  # 10 is the digit 0
        assert part.labels.tolist() == right.tolist()


@pytest.mark.parametrize(("name", "file", "split"), [
    ("cifar100", "cifar-100-python/train", "test"), ("cifar100", "cifar-100-python/test", "train"),
    ("cifar100", "cifar-100-python/meta", "val"), ("svhn", "train_32x32.mat", "val"),
    ("svhn", "test_32x32.mat", "test"), ("cifar10", "cifar-10-batches-py/data_batch_3", "test"),
    ("cifar10", "cifar-10-batches-py/batches.meta", "train")])
def test_a_damaged_official_file_is_named(tmp_path, monkeypatch, name, file, split):
    write_cifar100(tmp_path, monkeypatch)
    for each in ("train", "test"):
        write_svhn(tmp_path, monkeypatch, each)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(path.read_bytes()[:-1] + b"?" if path.exists() else b"half a download")
    with pytest.raises(RuntimeError, match=r"^damaged .* file \(MD5 differs\): "
                                           rf"{re.escape(str(path))}; delete it"):
        load(name, tmp_path, split)


OFFICIAL = {  # name: torchvision's class, what is missing, what data_root should hold
    "cifar10": (torchvision.datasets.CIFAR10, "data_batch_1, .*test_batch", "cifar-10-batches-py"),
    "cifar100": (torchvision.datasets.CIFAR100, "train, meta, test", "cifar-100-python"),
    "svhn": (torchvision.datasets.SVHN, "train_32x32.mat", "train_32x32.mat")}


@pytest.mark.parametrize("name", OFFICIAL)
def test_missing_files_say_where_they_should_be_and_why_they_are_not(tmp_path, monkeypatch, name):
    dataset, missing, landmark = OFFICIAL[name]

    def download(self):
        raise OSError("no route to host")
    monkeypatch.setattr(dataset, "download", download)
    for tried, why in ((False, ""), (True, r" and the download failed \(no route to host\)")):
        with pytest.raises(FileNotFoundError, match=(
                rf"is not complete under {re.escape(str(tmp_path))} \(no {missing}\){why}; "
                f"set data_root to the folder that holds {landmark}$")):
            load(name, tmp_path, "train", download=tried)


@pytest.mark.parametrize(("name", "write", "length"), [("cifar100", write_cifar100, 27),
                                                       ("svhn", write_svhn, 18)])
def test_of_two_that_miss_a_set_one_downloads_it(tmp_path, monkeypatch, name, write, length):
    """The lock is one of files: two threads meet as two processes do."""
    calls, (source, root) = [], (tmp_path / "source", tmp_path / "root")
    source.mkdir()
    write(source, monkeypatch)

    def download(self):
        calls.append(self.root)
        time.sleep(0.1)
        shutil.copytree(source, root, dirs_exist_ok=True)
    monkeypatch.setattr(OFFICIAL[name][0], "download", download)
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(load, name, root, "train") for _ in range(2)]
    assert [len(each.result()) for each in found] == [length, length]
    assert len(load(name, root, "val")) and calls == [str(root)]


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
    well_formed(load("folder", tmp_path, "train", val_fraction=0), 24, 7, 5)
    well_formed(load("folder", tmp_path, "val", val_fraction=0), 0, 7, 5)


def test_every_8_bit_mode_becomes_rgb(tmp_path):
    write_folder(tmp_path)
    modes = {"L": (90, [90] * 3), "P": (3, [40, 50, 60]), "1": (1, [255] * 3),
             "RGBA": ((10, 20, 30, 255), [10, 20, 30])}
    for i, (mode, (colour, _)) in enumerate(modes.items()):
        image = Image.new(mode, (5, 7), colour)
        if mode == "P":
            image.putpalette([0] * 9 + [40, 50, 60])
        image.save(tmp_path / "test" / "C" / f"0{i}.png")
    part, order = load("folder", tmp_path, "test"), np.random.RandomState(0).permutation(12)
    for i, (_, expected) in enumerate(modes.values()):
        assert (part.images[order.tolist().index(i)]
                == torch.tensor(expected)[:, None, None]).all()


def spoilt(name, change):
    """A function of the root that changes the bytes of a file."""
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def bomb(raw, side=20_000):
    """A PNG whose header tells of far too many pixels."""
    raw = raw[:16] + struct.pack(">II", side, side) + raw[24:]
    return raw[:29] + struct.pack(">I", zlib.crc32(raw[12:29])) + raw[33:]


def grey16(root):
    Image.fromarray(np.full((7, 5), 40_000, np.uint16)).save(root / "train/b/02.png")


def lost_length(raw):
    place = raw.index(b"IDAT") - 1  # the length of the data: what follows is no chunk
    return raw[:place] + bytes([raw[place] ^ 8]) + raw[place + 1:]


def circle(place, target):
    def make(root):
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).symlink_to(root / target)
    return make


UNREADABLE, SIZE = r"^unreadable image {}/{} \(.*\); replace it$", "^{}/{} is 7 x 5 pixels, not 5 x"
REFUSED = {  # what is wrong: (how it came to be, the file or folder named, what is said of it)
    "16 bits": (grey16, "train/b/02.png", "^{}/{} has I;16 pixels: 8-bit"),
    "another size": (lambda root: paint(root / "train/b/07.png", 1, (7, 5)), "train/b/07.png",
                     SIZE),
    "the first is odd": (lambda root: paint(root / "train/C/00.png", 1, (7, 5)), "train/C/00.png",
                         SIZE),
    "the first of two": (lambda root: [paint(root / f"test/{name}.png", 1, (7, 5))
                                       for name in ("b/03", "a/00")], "test/a/00.png", SIZE),
    "empty": (spoilt("train/a/03.png", lambda _: b""), "train/a/03.png", UNREADABLE),
    "no image": (spoilt("test/a/03.png", lambda _: b"text"), "test/a/03.png", UNREADABLE),
    "transparent": (lambda root: Image.new("RGBA", (5, 7), (9, 9, 9, 0)).save(
        root / "train/C/02.png"), "train/C/02.png", "{}/{} is transparent in places"),
    "half": (spoilt("train/C/02.png", lambda raw: raw[:100]), "train/C/02.png", UNREADABLE),
    "chunks": (spoilt("train/C/02.png", lost_length), "train/C/02.png", UNREADABLE),
    "bomb": (spoilt("train/C/05.png", bomb), "train/C/05.png", UNREADABLE),
    "cut bomb": (spoilt("train/C/05.png", lambda raw: bomb(raw, 10_000)[:24]), "train/C/05.png",
                 UNREADABLE),
    "no header": (spoilt("train/C/05.png", lambda raw: raw.replace(b"IHDR", b"IHDX")),
                  "train/C/05.png", UNREADABLE),
    "zeros": (spoilt("train/C/05.png", lambda _: b"BM" + bytes(60)), "train/C/05.png", UNREADABLE),
    "classes": (lambda root: (root / "test/a").rename(root / "test/z"), "", "^train and test under "
                r"{}{} must have the same classes: only in train \['a'\], only in test \['z'\]$"),
    "no test": (lambda root: (root / "test").rename(root / "x"), "test",
                "^no folder {}/{}: set data_root .* train/<class>/ and test/<class>/"),
    "an empty class": (lambda root: [(root / side / "empty").mkdir() for side in ("train", "test")],
                       "train", "^images are missing in {}/{}: .*empty"),
    **{f"link {place}": (circle(place, target), place, "^{}/{} is a link to .*remove the link")
       for place, target in (("train/a/up", "train/a"), ("train/a/x/up", "train"),
                             ("train/d", "."), ("test/b/up", "test"))},
}


@pytest.mark.parametrize(("spoil", "named", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_in_a_folder_is_told_with_its_place(tmp_path, spoil, named, message):
    write_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError),
                       match=message.format(tmp_path, f"/{named}" if "{}{}" in message and named
                                            else named)):
        for split in data.SPLITS:
            load("folder", tmp_path, split, val_fraction=0)


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
    assert len(set(seen)) == 4 and all(each.startswith("sha256:") for each in seen)


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
    part = load("tiny-imagenet", tmp_path, "test")  # is its val folder
    well_formed(part, 4, 64, 64)
    assert part.labels.tolist() == [2, 0, 2, 1]
    has_colours(part, [rgb for _, _, rgb in VAL])


def without_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def with_line(line):
    return lambda folder: (folder / TABLE).write_text((folder / TABLE).read_text() + line + "\n")


TABLE, FETCH = "val/val_annotations.txt", r"{0}\): fetch http://cs231n.*zip and unzip it there$"
DISAGREE = "^{0} and .*/images must list the same images, val_10.JPEG is in one alone: unzip http"
ODD = "train/n02/images/n02_3.JPEG"
WRONG_TINY = {  # what is wrong: (how it came to be, the split that sees it, file named, message)
    **{f"no {part}": (lambda folder, part=part: (folder / part).rename(folder / "elsewhere"),
                      split, part, FETCH)
       for part, split in (("wnids.txt", "val"), ("words.txt", "test"), ("train", "test"),
                           (TABLE, "train"))},
    "no class": (lambda folder: (folder / "train/n02").rename(folder / "n02"), "train", "train",
                 "^images are missing in {0}: .*n02"),
    "unknown class": (with_line("val_9.JPEG\tn99\t0\t0\t9\t9"), "test", TABLE,
                      "^{0}, line 5: must be an image, a wnid"),
    "no columns": (with_line("val_9.JPEG"), "test", TABLE, "^{0}, line 5: must be an image, a wn"),
    "no image": (lambda folder: (folder / "val/images/val_10.JPEG").unlink(), "test", TABLE,
                 DISAGREE),
    "no line": (lambda folder: without_last_line(folder / TABLE), "test", TABLE, DISAGREE),
    "cut short": (spoilt(ODD, lambda raw: raw[:-200]), "train", ODD,
                  r"^unreadable image {0} \(.*[Tt]runcated"),
    "another size": (lambda folder: colour(folder / ODD, (1, 2, 3), (32, 64)), "train", ODD,
                     "^{0} is 32 x 64 pixels, not 64 x 64: "),
}


@pytest.mark.parametrize(("spoil", "split", "named", "message"), WRONG_TINY.values(),
                         ids=WRONG_TINY)
def test_what_is_wrong_in_tiny_imagenet_is_told_with_its_place(tmp_path, spoil, split, named,
                                                               message):
    folder = write_tiny(tmp_path)
    spoil(folder)
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError),
                       match=message.format(folder / named)):
        load("tiny-imagenet", tmp_path, split, val_fraction=0)


def test_only_the_chosen_images_are_decoded_behind_a_quiet_bar(tmp_path, monkeypatch):
    folder, shown = write_tiny(tmp_path), []

    def bar(files, **options):
        shown.append(([Path(file).name for file in files], options["disable"]))
        return files
    monkeypatch.setattr(readers, "tqdm", bar)
    load("tiny-imagenet", tmp_path, "val", val_fraction=0.4)
    files = sorted(path.name for path in folder.glob("train/*/images/*"))
    assert shown == [([files[i] for i in split_of(15, 0.4)["val"]], None)]
