"""The splits are the ones promised, the crops are real crops, and bad data is named."""

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from frlib import data
from frlib.data import Split, augment, batches, load
from frlib.run import config

SIZES = {"train": 1294, "val": 144, "test": 359}


def rows(images: Tensor):
    return [image.tobytes() for image in images.numpy()]


def toy(n, side=10):
    """n images, image i filled with the value i; label i."""
    values = torch.arange(n)
    images = values.to(torch.uint8)[:, None, None, None].repeat(1, 3, side, side)
    return Split(images, values, tuple(map(str, range(n))))


# --- splits


@pytest.mark.parametrize("split", data.SPLITS)
def test_digits_are_images_like_any_other(split):
    part = load("digits", "nowhere", split)
    assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
    assert part.images.shape == (SIZES[split], 3, 32, 32)
    assert len(part) == len(part.labels) == SIZES[split]
    assert part.labels.unique().tolist() == list(range(10))
    assert part.classes == tuple("0123456789")
    assert part.images.max() > 250 and part.images.min() == 0
    assert (part.images == part.images[:, :1]).all()
    assert part.x.dtype == torch.float32 and 0 <= part.x.min() and part.x.max() <= 1
    assert torch.equal((part.x * 255).round().byte(), part.images)


def test_the_split_is_the_permutation_of_numpys_seed():
    def everything(seed):
        """The training images in their own order, by undoing the permutation."""
        part = load("digits", "nowhere", "train", val_fraction=0, seed=seed)
        order = np.random.RandomState(seed).permutation(len(part))
        return part.images[torch.from_numpy(np.argsort(order))]
    whole = everything(7)
    assert torch.equal(whole, everything(42))
    order = np.random.RandomState(42).permutation(1438)
    assert torch.equal(load("digits", "", "train").images, whole[order[:1294]])
    assert torch.equal(load("digits", "", "val").images, whole[order[1294:]])
    other = np.random.RandomState(3).permutation(1438)[1438 - 719:]
    assert torch.equal(load("digits", "", "val", val_fraction=0.5, seed=3).images, whole[other])
    test = load("digits", "", "test")
    assert test.checksum == load("digits", "", "test", val_fraction=0.5, seed=1).checksum
    assert len(set(rows(torch.cat([whole, test.images])))) == 1797  # none twice, none lost


def test_the_checksum_sees_images_and_labels():
    part = toy(3)
    assert part.checksum == toy(3).checksum
    assert part.checksum != Split(part.images, part.labels.flip(0), part.classes).checksum
    assert part.checksum != Split(part.images + 1, part.labels, part.classes).checksum


def test_take_gives_the_first_and_no_more_than_there_are():
    part = toy(5)
    assert part.take(2).labels.tolist() == [0, 1] and len(part.take(2).images) == 2
    assert len(part.take(0)) == len(part.take(5)) == 5
    assert part.to("cpu").checksum == part.checksum
    with pytest.raises(ValueError, match="6 images asked for, the split has 5; set few to no more"):
        part.take(6, "few")
    for count in (6, -1):
        with pytest.raises(ValueError, match=f"{count} images asked for, the split has 5"):
            part.take(count)


# --- CIFAR-10


def test_cifar10_is_the_official_set_split_by_seed_42(cifar_root):
    official = torchvision.datasets.CIFAR10(str(cifar_root), train=True)
    order = np.random.RandomState(42).permutation(50_000)
    chosen, part = order[45_000:], load("cifar10", cifar_root, "val", download=False)
    assert part.images.shape == (5_000, 3, 32, 32) and part.images.is_contiguous()
    assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), official.data[chosen])
    assert part.labels.tolist() == [official.targets[i] for i in chosen]
    part = load("cifar10", cifar_root, "test", download=False)
    assert len(part) == 10_000
    assert [part.classes[i] for i in part.labels[:4]] == ["cat", "ship", "ship", "airplane"]


@pytest.mark.parametrize(("name", "split", "fraction", "message"), [
    ("mnist", "train", 0, "unknown dataset 'mnist': choose one of digits, cifar10, cifar100, "),
    ("digits", "valid", 0, "unknown split 'valid': choose one of train, val, test"),
    *(("digits", "train", f, rf"val_fraction = {f}: must be in \[0, 1\)")
      for f in (-0.1, 1, float("nan")))])
def test_what_cannot_be_loaded_is_told(name, split, fraction, message):
    with pytest.raises(ValueError, match=message):
        load(name, "", split, val_fraction=fraction)


# --- augmentation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [1, 2])
def test_every_output_is_a_crop_of_its_own_image_and_every_crop_occurs(padding, flip):
    image = torch.arange(1.0, 2 * 2 * 3 + 1).view(2, 2, 3)  # all values differ
    n = 1500
    x = image + 100 * torch.arange(n).view(-1, 1, 1, 1)
    out = augment(x, generator(), padding=padding, flip=flip)
    assert out.shape == x.shape
    padded = torch.nn.functional.pad(x, [padding] * 4)
    crops = [padded[:, :, i:i + 2, j:j + 3]
             for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
    if flip:
        crops += [crop.flip(3) for crop in crops]
    matches = torch.stack([(out == crop).all(3).all(2).all(1) for crop in crops])
    assert matches.any(0).all(), "an output is no crop of its image"
    # a crop that holds a part of the image matches once; each must occur about equally often
    shown = [k for k, crop in enumerate(crops) if (crop[0] != 0).any()]
    share = matches[shown].double().mean(1) * len(crops)
    assert share.min() > 0.5 and share.max() < 1.7


def test_augmentation_repeats_with_its_generator_and_leaves_the_input_alone():
    x = torch.rand(8, 3, 8, 8)
    kept = x.clone()
    assert torch.equal(augment(x, generator(1)), augment(x, generator(1)))
    assert not torch.equal(augment(x, generator(1)), augment(x, generator(2)))
    assert torch.equal(x, kept)


# --- batches


def labels_of(part, size, gen):
    return torch.cat([y for _, y in batches(part, size, gen)]).tolist()


@pytest.mark.parametrize(("n", "sizes"), [(11, [4, 4, 3]), (8, [4, 4]), (9, [4, 4]), (2, [2])])
def test_an_epoch_shows_each_image_once_but_for_a_single_left_over(n, sizes):
    got = list(batches(toy(n), 4, generator()))
    assert [len(y) for _, y in got] == sizes
    labels = torch.cat([y for _, y in got])
    assert len(labels.unique()) == len(labels) == sum(sizes)
    for x, y in got:
        assert x.shape == (len(y), 3, 10, 10) and x.dtype == torch.float32
        # the middle is inside every crop
        assert torch.equal(x[:, 0, 5, 5].mul(255).round().long(), y)


def test_the_order_is_shuffled_and_follows_the_generators_state():
    part, gen = toy(64), generator()
    first, second = labels_of(part, 8, gen), labels_of(part, 8, gen)
    assert first != second and first != sorted(first)
    gen = generator()
    assert labels_of(part, 8, gen) == first
    state = gen.get_state()
    once = [x for x, _ in batches(part, 8, gen)]
    gen.set_state(state)
    assert all(torch.equal(a, b) for a, b in zip(once, [x for x, _ in batches(part, 8, gen)],
                                                 strict=True))


def test_batches_flip_only_when_asked_to():
    ramp = torch.arange(1, 5, dtype=torch.uint8).repeat(40, 3, 3, 1) * 20  # rises to the right
    part = Split(ramp, torch.zeros(40, dtype=torch.int64), ("a",))

    def falls(flip):
        x = torch.cat([x for x, _ in batches(part, 40, generator(), flip=flip)])
        inside = (x[..., 1:] > 0) & (x[..., :-1] > 0)
        return ((x.diff(dim=3) < 0) & inside).any((1, 2, 3)).sum().item()
    assert falls(False) == 0 and 3 < falls(True) < 37


# --- a data set of one's own


def test_a_registered_data_set_is_one_like_any_other(registries, tmp_path):
    part = toy(10)
    with pytest.raises(ValueError, match="unknown dataset 'mine'"):
        load("mine", tmp_path, "train")
    with pytest.raises(ValueError, match="dataset = 'mine': choose one of"):
        config.load(dataset="mine")
    data.register("mine", lambda root, train, download: (part.images, part.labels, part.classes))
    assert len(load("mine", tmp_path, "train")) == 9 and len(load("mine", tmp_path, "test")) == 10
    assert config.load(dataset="mine").dataset == "mine"
    listed = data.listing("mine", tmp_path)
    part.labels[0] = 1
    assert data.listing("mine", tmp_path) != listed
    part.labels[0] = 10
    with pytest.raises(ValueError, match="dataset 'mine': its reader must give uint8 images"):
        load("mine", tmp_path, "test")
    with pytest.raises(ValueError, match="dataset 'mine' is registered already"):
        data.register("mine", None)
