"""Photographs in folders: Tiny ImageNet and ImageNet, and files that are none."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from steppe.errors import DataError, SettingError
from steppe_lab.augmentation import AUGMENTATIONS
from steppe_lab.datasets import Selection, load
from steppe_lab.datasets.formats.images import MOST_PIXELS, Centre, decoded
from steppe_lab.training.augmenting import AugmentedBatches, read_augmentations

CLASSES = ("n01443537", "n01641577")
SMALL = "imagenet:size=12,resize=16"


def picture(seed, size=(64, 64), mode="RGB"):
    """A smooth picture, which JPEG keeps nearly as it is."""
    rng = np.random.default_rng(seed)
    shape = (4, 4) if mode == "L" else (4, 4, len(mode))
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels, mode).resize(size, Image.Resampling.BICUBIC)


def write(folder, train=3, test=2, *, sizes=((64, 64),), classes=CLASSES):
    """Images in a folder for each class, their sizes in turn."""
    for part, count in (("train", train), ("val", test)):
        for number, name in enumerate(classes):
            below = folder / part / name
            below.mkdir(parents=True)
            for place in range(count):
                image = picture(100 * number + place, sizes[place % len(sizes)])
                image.save(below / f"{name}_{place}.JPEG")
    return folder


def as_published(folder):
    """The same images in the layout of the official archive."""
    rows = []
    for name in CLASSES:
        below = folder / "train" / name / "images"
        files = sorted((folder / "train" / name).iterdir())
        below.mkdir()
        for file in files:
            file.rename(below / file.name)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("boxes\n")
    (folder / "val" / "images").mkdir()
    for name in CLASSES:
        for place, file in enumerate(sorted((folder / "val" / name).iterdir())):
            rows.append((place, f"val_{place}_{name}.JPEG", name))
            file.rename(folder / "val" / "images" / rows[-1][1])
        (folder / "val" / name).rmdir()
    text = "".join(f"{file}\t{name}\t0\t0\t62\t62\n" for _, file, name in sorted(rows))
    (folder / "val" / "val_annotations.txt").write_text(text)
    (folder / "test" / "images").mkdir(parents=True)
    return folder


def decode_all(text, folder):
    load(text, folder).train.batch(slice(None))


def refusal(text, folder):
    with warnings.catch_warnings(action="error"), pytest.raises(DataError) as caught:
        decode_all(text, folder)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 800
    return sentence


# ---- Tiny ImageNet ------------------------------------------------------------------


def test_both_layouts_hold_the_same_images(tmp_path):
    one = load("tiny_imagenet", write(tmp_path / "one" / "tiny-imagenet-200").parent)
    two = load("tiny-imagenet", as_published(write(tmp_path / "two")))
    assert one.train.stored.shape == (6, 3, 64, 64)
    assert one.train.targets.tolist() == two.train.targets.tolist() == [0] * 3 + [1] * 3
    assert torch.equal(one.train.stored, two.train.stored)
    order = [0, 2, 1, 3]  # by the names of the files
    assert two.test.targets.tolist() == [0, 1, 0, 1]
    assert torch.equal(one.test.stored[order], two.test.stored)
    assert one.notes == (
        "2 of 200 official classes",
        "6 training images, where the official set has 100,000",
        "4 validation images, where the official set has 10,000",
    )


def test_pixels_are_those_that_pillow_decodes(tmp_path):
    folder = write(tmp_path)
    picture(7, mode="L").save(folder / "train" / CLASSES[0] / f"{CLASSES[0]}_1.JPEG")
    stored = load("tiny_imagenet", folder).train.stored
    for place, file in enumerate(sorted(folder.glob("train/*/*.JPEG"))):
        expected = np.asarray(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(stored[place].permute(1, 2, 0), expected)


def test_classes_have_the_first_of_their_words_unless_two_share_it(tmp_path):
    folder = write(tmp_path, classes=("n1", "n2", "n3", "n4"))
    lines = ["n1\tgoldfish, Carassius", "n2\tcrane", "n3\tcrane, bird", "n9\tnone"]
    (folder / "words.txt").write_text("\n".join(lines))
    expected = ("goldfish", "crane (n2)", "crane (n3)", "n4")
    assert load("tiny_imagenet", folder).classes == expected


def test_words_that_a_terminal_would_obey_are_shown_without_that(tmp_path):
    folder = write(tmp_path)
    (folder / "words.txt").write_bytes(b"n01443537\t\x1b[2Jfish\xff\n")
    assert load("tiny_imagenet", folder).classes[0] == "[2Jfish\ufffd"


@pytest.mark.real_data
def test_the_real_images_are_those_of_their_folders(data_dir):
    folder = data_dir / "tiny-imagenet-subset"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    data = load("tiny_imagenet", folder)
    files = sorted(folder.glob("train/*/*.JPEG"))
    assert len(files) == len(data.train)
    for place in range(0, len(files), 50):
        image = np.asarray(Image.open(files[place]).convert("RGB"))
        np.testing.assert_array_equal(data.train.stored[place].permute(1, 2, 0), image)
    assert data.classes[:3] == ("goldfish", "bullfrog", "scorpion")
    inputs = load("imagenet:size=64,resize=64", folder).train.rows(slice(0, 5))[0]
    assert torch.equal(inputs, data.train.stored[:5])


# ---- ImageNet -----------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path):
    return write(tmp_path / "imagenet", sizes=((40, 30), (20, 50), (33, 33)))


def middle(image, resize, side):
    """Resize(resize) and CenterCrop(side) by the rules of torchvision."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(resize * long / short)
    size = (resize, other) if width <= height else (other, resize)
    image = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    top, left = round((size[1] - side) / 2.0), round((size[0] - side) / 2.0)
    return np.asarray(image)[top : top + side, left : left + side]


def test_the_middle_of_each_image_is_seen(photographs):
    data = load(SMALL, photographs.parent)
    assert data.in_shape == (3, 12, 12)
    inputs, targets = data.train.batch(slice(None))
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for place, file in enumerate(sorted(photographs.glob("train/*/*.JPEG"))):
        expected = middle(Image.open(file), 16, 12)
        pixels = torch.from_numpy(expected.copy()).permute(2, 0, 1)
        torch.testing.assert_close(inputs[place], (pixels / 255 - mean) / std)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_grey_printed_and_mislabelled_images_become_colour(mode, photographs):
    file = photographs / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG"
    kind = "PNG" if mode == "RGBA" else "JPEG"
    picture(0, (40, 30), mode).save(file, kind)
    pixels = load(SMALL, photographs).train.rows(slice(0, 1))[0]
    expected = middle(Image.open(file), 16, 12)
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0), expected)


def test_samples_are_chosen_and_cut_without_reading_images(photographs, monkeypatch):
    train = load(SMALL, photographs).train
    positions = torch.tensor([4, 0, 5])
    chosen = train.chosen(positions).with_targets(torch.tensor([1, 1, 0]))
    inputs, targets = chosen.batch(slice(0, 3))
    assert torch.equal(inputs, train.batch(positions)[0])
    assert targets.tolist() == [1, 1, 0]
    part = chosen.micro_batch((inputs, targets), torch.tensor([1, 2]))
    assert torch.equal(part[0], inputs[1:])
    assert train.sizes(slice(0, 3)).tolist() == [[30, 40], [50, 20], [33, 33]]


def test_the_fingerprint_follows_names_sizes_and_settings(photographs):
    def fingerprint(text=SMALL):
        return Selection().apply(load(text, photographs)).fingerprint

    before = fingerprint()
    assert fingerprint() == before
    assert fingerprint("imagenet:size=12,resize=17") != before
    assert fingerprint(f"{SMALL},standardise=unit") != before
    file = photographs / "val" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG"
    file.write_bytes(file.read_bytes() + b"0")
    assert fingerprint() != before


def test_a_middle_larger_than_the_image_is_refused(photographs):
    with pytest.raises(SettingError, match="size must be at most resize = 16, got 20"):
        load("imagenet:size=20,resize=16", photographs)


# ---- parts of images in files -------------------------------------------------------


def augmented(samples, text, seed=0):
    return AugmentedBatches(read_augmentations(text), samples, seed=seed, device="cpu")


def test_parts_of_images_in_files_are_cut_from_the_whole_image(photographs):
    samples = load(f"{SMALL},standardise=unit", photographs).train
    whole = augmented(samples, "resized_crop:min_area=1,max_ratio=1")
    inputs, _ = whole.fetch(torch.tensor([2]), 0)
    file = photographs / "train" / CLASSES[0] / f"{CLASSES[0]}_2.JPEG"
    image = Image.open(file).resize((12, 12), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    mirrored = [torch.equal(inputs[0], each) for each in (expected, expected.flip(2))]
    assert sum(mirrored) == 1


def test_draws_follow_from_seed_and_step(photographs):
    samples = load(SMALL, photographs).train
    rows = torch.arange(6)
    one, two = (augmented(samples, "resized_crop", seed) for seed in (0, 1))
    assert torch.equal(one.fetch(rows, 3)[0], one.fetch(rows, 3)[0])
    assert not torch.equal(one.fetch(rows, 3)[0], one.fetch(rows, 4)[0])
    assert not torch.equal(one.fetch(rows, 3)[0], two.fetch(rows, 3)[0])


def test_parts_of_images_in_files_come_before_other_changes(photographs):
    samples = load(SMALL, photographs).train
    assert augmented(samples, "resized_crop+cutout:size=4").fetch(torch.arange(2), 0)
    with pytest.raises(SettingError, match="must name resized_crop first"):
        augmented(samples, "shift_flip+resized_crop")


def drawn_one_by_one(rng, rows, columns):
    """Top, left, height and width, try after try as torchvision draws them."""
    for _ in range(10):
        area = rows * columns * rng.uniform(0.08, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < width <= columns and 0 < height <= rows:
            top = rng.integers(0, rows - height + 1)
            return top, rng.integers(0, columns - width + 1), height, width
    height, width = min(rows, round(columns * 4 / 3)), min(columns, round(rows * 4 / 3))
    return (rows - height) // 2, (columns - width) // 2, height, width


@pytest.mark.parametrize("size", [(300, 400), (90, 40)])
def test_parts_are_distributed_as_those_drawn_one_by_one(size):
    crop, draws = AUGMENTATIONS.build("resized_crop"), 4000
    sizes = torch.tensor([size]).expand(draws, 2)
    boxes = crop._boxes(sizes, torch.Generator().manual_seed(0)).double().numpy()
    rng = np.random.default_rng(0)
    expected = np.array([drawn_one_by_one(rng, *size) for _ in range(draws)], float)
    assert (boxes >= [0, 0, 1, 1]).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= size).all()
    for function in (np.copy, np.square, lambda b: b[:, 2:].prod(1, keepdims=True)):
        mine, theirs = function(boxes), function(expected)
        error = np.hypot(mine.std(0), theirs.std(0)) / draws**0.5
        assert (np.abs(mine.mean(0) - theirs.mean(0)) < 4 * error).all()


def test_an_image_that_no_part_fits_gives_its_middle():
    crop = AUGMENTATIONS.build("resized_crop:min_area=1")
    boxes = crop._boxes(torch.tensor([[10, 100]]), torch.Generator().manual_seed(0))
    assert boxes.tolist() == [[0, 43, 10, 13]]


def test_parts_of_images_in_memory_are_those_of_pillow():
    crop = AUGMENTATIONS.build("resized_crop")
    image = torch.from_numpy(np.asarray(picture(3)).copy()).permute(2, 0, 1)
    images = image.expand(8, 3, 64, 64)
    (generator, again) = (torch.Generator().manual_seed(5) for _ in range(2))
    changed = crop(images, generator)
    boxes = crop._boxes(torch.tensor([[64, 64]]).expand(8, 2), again)
    flips = torch.randint(2, (8,), generator=again)
    assert set(flips.tolist()) == {0, 1}
    for place, (top, left, height, width) in enumerate(boxes.tolist()):
        part = picture(3).crop((left, top, left + width, top + height))
        resized = np.asarray(part.resize((64, 64), Image.Resampling.BILINEAR))
        expected = torch.from_numpy(resized.copy()).permute(2, 0, 1)
        expected = expected.flip(2) if flips[place] else expected
        difference = (changed[place].int() - expected.int()).abs().max()
        assert difference <= 1


# ---- files that are none ------------------------------------------------------------


def bomb(width=60_000, height=60_000):
    """A PNG whose header promises billions of pixels."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10**6)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def truncated(path):
    return path.read_bytes()[:-300]


BAD = {
    "truncated": (truncated, "image file is truncated"),
    "another format": (lambda path: b"GIF89a" + b"\0" * 99, "cannot identify image"),
    "a page": (lambda path: b"<html>not found</html>", "cannot identify image"),
    "nothing": (lambda path: b"", "cannot identify image"),
    "a bomb": (lambda path: bomb(), "(3600000000 pixels)"),
    "a smaller bomb": (
        lambda path: bomb(9000, 9000),
        f"at most {MOST_PIXELS:,} pixels, got 9,000",
    ),
}


@pytest.mark.parametrize("name", ["tiny_imagenet", SMALL])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_image_is_refused_in_one_sentence(case, name, tmp_path):
    make, expected = BAD[case]
    file = write(tmp_path) / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    file.write_bytes(make(file))
    tracemalloc.start()
    try:
        sentence = refusal(name, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert str(file) in sentence
    assert expected in sentence


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_thin_image_that_would_become_huge_is_refused_before_it_does(size, tmp_path):
    # 15 GB at 256 pixels on its shorter side, from a file of 200 bytes.
    file = tmp_path / "thin.png"
    Image.new("L", size).save(file)
    with pytest.raises(DataError, match=r"thin\.png .* at most 67,108,864 pixels"):
        decoded([file], [Centre(256, 224)])
    assert decoded([file], [Centre(16, 8)]).shape == (1, 3, 8, 8)


def test_images_of_mixed_sizes_are_refused_where_one_size_is_due(tmp_path):
    file = write(tmp_path) / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    picture(0, (64, 63)).save(file)
    assert "64 x 64 pixels, got 64 x 63" in refusal("tiny_imagenet", tmp_path)


@pytest.mark.parametrize("name", ["tiny_imagenet", SMALL])
def test_folders_of_another_form_are_refused(name, tmp_path):
    folder = write(tmp_path)
    assert "needs the folder train" in refusal(name, tmp_path / "train")
    empty = folder / "train" / "n09999999"
    empty.mkdir()
    (empty / "notes.txt").write_text("none")
    assert f"{empty} must hold images" in refusal(name, folder)
    picture(0).save(empty / "a.JPEG")
    assert "of the same classes, got n09999999" in refusal(name, folder)


@pytest.mark.parametrize("name", ["tiny_imagenet", SMALL])
def test_a_part_without_classes_is_refused(name, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert "must have a folder of images for each class" in refusal(name, tmp_path)
    for part in ("train", "val"):
        picture(0).save(tmp_path / part / "ILSVRC2012_val_00000001.JPEG")
    assert "got images beside each other (1); move each" in refusal(name, tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[1:], "it lacks val_0_n01443537.JPEG"),
        (lambda rows: [*rows, "x.JPEG\tn01443537"], "images lacks x.JPEG"),
        (lambda rows: [*rows, "../../x\tn01443537"], "images lacks ../../x"),
        (lambda rows: [row.replace("n01443537\t", "n1\t") for row in rows], "got n"),
        (lambda rows: ["\0\1\2"], "it lacks"),
    ],
)
def test_annotations_that_do_not_fit_the_images_are_refused(change, expected, tmp_path):
    path = as_published(write(tmp_path)) / "val" / "val_annotations.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    assert expected in refusal("tiny_imagenet", tmp_path)
