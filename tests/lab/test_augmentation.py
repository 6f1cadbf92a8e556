"""Augmentations against slow twins: Pillow image by image, or plain indexing."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from steppe.seeds import stream
from steppe_lab.augmentation import AUGMENTATIONS
from steppe_lab.augmentation.autoaugment import (
    NAMES,
    POLICIES,
    SIGNED,
    AutoAugment,
    Draws,
    magnitude,
)
from steppe_lab.augmentation.cutout import Cutout
from steppe_lab.augmentation.shifting import Shifts, shifted

# Chi-square that one in a hundred exceeds, by degrees of freedom.
CHI2_99 = {1: 6.63, 3: 11.34, 4: 13.28, 6: 16.81, 24: 42.98, 31: 52.19}


def photographs(count: int, channels: int = 3, rows: int = 32, columns: int = 32):
    """Bytes with large bright and dark parts, and some flat channels."""
    generator = stream(5)
    shape = (count, channels, rows, columns)
    noise = torch.randint(0, 60, shape, generator=generator)
    low = torch.randint(0, 130, (count, channels, 1, 1), generator=generator)
    ramp = torch.linspace(0, 65, columns).to(torch.int64)
    images = (noise + low + ramp).to(torch.uint8)
    images[0, 0] = 77
    images[1] = torch.randint(256, shape[1:], generator=generator)
    images[2, :, :2] = 255
    return images


# ---- operations against Pillow ---------------------------------------------------


def picture(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def pixels(made: Image.Image) -> torch.Tensor:
    array = np.array(made)
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array).permute(2, 0, 1)


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    fill = (128,) * len(image.getbands()) if image.mode != "L" else 128
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=fill)


PILLOW = {
    "shear_x": lambda i, m: affine(i, 1, m, 0, 0, 1, 0),
    "shear_y": lambda i, m: affine(i, 1, 0, 0, m, 1, 0),
    "translate_x": lambda i, m: affine(i, 1, 0, m * i.size[0], 0, 1, 0),
    "translate_y": lambda i, m: affine(i, 1, 0, 0, 0, 1, m * i.size[1]),
    "rotate": lambda i, m: i.rotate(m, fillcolor=128 if i.mode == "L" else (128,) * 3),
    "brightness": lambda i, m: ImageEnhance.Brightness(i).enhance(1 + m),
    "contrast": lambda i, m: ImageEnhance.Contrast(i).enhance(1 + m),
    "color": lambda i, m: ImageEnhance.Color(i).enhance(1 + m),
    "sharpness": lambda i, m: ImageEnhance.Sharpness(i).enhance(1 + m),
    "solarize": lambda i, m: ImageOps.solarize(i, m),
    "posterize": lambda i, m: ImageOps.posterize(i, int(m)),
    "auto_contrast": lambda i, m: ImageOps.autocontrast(i),
    "equalize": lambda i, m: ImageOps.equalize(i),
    "invert": lambda i, m: ImageOps.invert(i),
}
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 17, 40)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_that_of_pillow_to_the_grey_level(name, shape):
    signs = (1, -1) if name in SIGNED else (1,)
    sizes = [sign * magnitude(name, step) for step in range(10) for sign in signs]
    images = photographs(len(sizes), *shape)
    made = AutoAugment().applied(
        images,
        torch.full((len(sizes),), NAMES.index(name)),
        torch.tensor(sizes, dtype=torch.float64),
    )
    expected = torch.stack(
        [
            pixels(PILLOW[name](picture(image), size))
            for image, size in zip(images, sizes, strict=True)
        ]
    )
    # Where 255 (x - low) / (high - low) is whole, Pillow may fall short by rounding.
    short = made.int() - expected.int()
    assert short.min() == 0
    assert short.max() <= (name == "auto_contrast")
    assert (short > 0).float().mean() < 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_autoaugment_is_its_two_operations_in_order_image_by_image(channels):
    images = photographs(300, channels, 20, 24)
    made = AutoAugment()(images, stream(6))
    draws = Draws.drawn(len(images), stream(6))
    both = 0
    for index, image in enumerate(images):
        drawn = zip(
            draws.operation[index].tolist(),
            draws.magnitude[index].tolist(),
            strict=True,
        )
        chain = [(NAMES[place], size) for place, size in drawn if place >= 0]
        if "auto_contrast" in dict(chain):
            continue  # one level apart, which a second operation may widen
        slow = picture(image)
        for name, size in chain:
            slow = PILLOW[name](slow, size)
        assert torch.equal(made[index], pixels(slow)), chain
        both += len(chain) == 2
    assert both > 50


# ---- moves and squares against plain indexing ------------------------------------


def moved(image: torch.Tensor, down: int, right: int, mirrored: bool, border: str):
    """One image, pixel by pixel; border is "zero" or "nearest"."""
    _, rows, columns = image.shape
    result = torch.zeros_like(image)
    for y in range(rows):
        for x in range(columns):
            v, u = y - down, (columns - 1 - x if mirrored else x) - right
            inside = 0 <= v < rows and 0 <= u < columns
            if inside or border == "nearest":
                v, u = min(max(v, 0), rows - 1), min(max(u, 0), columns - 1)
                result[:, y, x] = image[:, v, u]
    return result


@pytest.mark.parametrize("border", ["zero", "nearest"])
def test_images_are_moved_and_mirrored_pixel_by_pixel(border):
    images = photographs(6, 2, 5, 7)
    shifts = Shifts(
        down=torch.tensor([0, 2, -3, 4, -4, 1]),
        right=torch.tensor([0, -2, 3, 6, -6, 0]),
        mirrored=torch.tensor([False, True, False, True, True, True]),
    )
    each = zip(images, *(vars(shifts)[n].tolist() for n in vars(shifts)), strict=True)
    expected = torch.stack([moved(*one, border) for one in each])
    assert torch.equal(shifted(images, shifts, border), expected)


def test_basic_is_a_crop_of_the_padded_image_or_its_mirror_image():
    images = photographs(500, 1, 6, 6)[3:]  # no flat ones, which are alike anywhere
    crops = AUGMENTATIONS.build("basic:padding=2")(images, stream(1))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    windows = padded.unfold(2, 6, 1).unfold(3, 6, 1)[:, 0]  # (N, 5, 5, 6, 6)
    both = torch.stack([windows, windows.flip(4)], dim=3)
    drawn = (both == crops[:, :, None, None]).all(5).all(4).sum(0)
    assert drawn.sum() == len(images)
    assert chi_square(drawn.sum((1, 2))) < CHI2_99[4]
    assert chi_square(drawn.sum((0, 2))) < CHI2_99[4]
    assert chi_square(drawn.sum((0, 1))) < CHI2_99[1]


def test_shift_flip_moves_by_at_most_an_eighth_and_repeats_the_border():
    ramp = torch.arange(28).expand(400, 1, 28, 28).to(torch.uint8)
    made = AUGMENTATIONS.build("shift_flip")(ramp, stream(2))[:, 0, 14].int()
    mirrored = made[:, 0] > made[:, -1]
    made = torch.where(mirrored[:, None], made.flip(1), made)
    right = 14 - made[:, 14]
    places = torch.arange(28) - right[:, None]
    assert torch.equal(made, places.clamp(0, 27).int())
    counts = torch.bincount(right + 3, minlength=7)  # 12.5 % of 28 is 3.5
    assert len(counts) == 7
    assert chi_square(counts) < CHI2_99[6]
    assert chi_square(torch.bincount(mirrored.int())) < CHI2_99[1]


@pytest.mark.parametrize("size", [16, 7])
def test_cutout_is_a_square_around_any_pixel_of_half_of_the_images(size):
    images = torch.ones(2000, 2, 32, 32)
    cut = 1 - Cutout(size=size)(images, stream(3))
    assert torch.equal(cut[:, 0], cut[:, 1])
    changed = cut.flatten(1).any(1)
    assert chi_square(torch.bincount(changed.int())) < CHI2_99[1]
    for other in (2, 1):  # rows of each square, then its columns
        lines = cut[changed, 0].amax(other)
        first = lines.argmax(1)
        length = lines.sum(1).int()
        # Near the first border the square is cut off before it, at the last behind.
        centre = torch.where(first > 0, first + size // 2, length - (size - size // 2))
        whole = torch.arange(32)
        start, stop = centre - size // 2, centre - size // 2 + size
        expected = (whole >= start[:, None]) & (whole < stop[:, None])
        assert torch.equal(lines.bool(), expected)
        assert chi_square(torch.bincount(centre, minlength=32)) < CHI2_99[31]


def test_cutout_of_no_image_and_of_every_image():
    images = torch.ones(50, 1, 8, 8)
    assert torch.equal(Cutout(p=0.0)(images, stream(0)), images)
    assert not Cutout(p=1.0, size=20)(images, stream(0)).any()


# ---- draws -----------------------------------------------------------------------


def chi_square(counts: torch.Tensor, shares: torch.Tensor | None = None) -> float:
    counts = counts.double()
    shares = torch.ones_like(counts) / len(counts) if shares is None else shares
    expected = counts.sum() * shares
    return float(((counts - expected) ** 2 / expected).sum())


# Operation, probability in tenths and magnitude, twice, as the paper's appendix has it.
PUBLISHED = """
Invert 1 7 Contrast 2 6
Rotate 7 2 TranslateX 3 9
Sharpness 8 1 Sharpness 9 3
ShearY 5 8 TranslateY 7 9
AutoContrast 5 8 Equalize 9 2
ShearY 2 7 Posterize 3 7
Color 4 3 Brightness 6 7
Sharpness 3 9 Brightness 7 9
Equalize 6 5 Equalize 5 1
Contrast 6 7 Sharpness 6 5
Color 7 7 TranslateX 5 8
Equalize 3 7 AutoContrast 4 8
TranslateY 4 3 Sharpness 2 6
Brightness 9 6 Color 2 8
Solarize 5 2 Invert 0 3
Equalize 2 0 AutoContrast 6 0
Equalize 2 8 Equalize 6 4
Color 9 9 Equalize 6 6
AutoContrast 8 4 Solarize 2 8
Brightness 1 3 Color 7 0
Solarize 4 5 AutoContrast 9 3
TranslateY 9 9 TranslateY 7 9
AutoContrast 9 2 Solarize 8 3
Equalize 8 8 Invert 1 3
TranslateY 7 9 AutoContrast 9 1
"""


def test_the_sub_policies_are_those_of_the_paper():
    lines = [line.split() for line in PUBLISHED.split("\n")[1:-1]]
    table = [
        [
            (re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), int(p) / 10, int(step))
            for name, p, step in (line[:3], line[3:])
        ]
        for line in lines
    ]
    assert table == [list(pair) for pair in POLICIES]


def test_sub_policies_operations_and_signs_are_drawn_as_published():
    draws = Draws.drawn(50_000, stream(7))
    assert chi_square(torch.bincount(draws.policy, minlength=25)) < CHI2_99[24]
    for number, pair in enumerate(POLICIES):
        mine = draws.policy == number
        for turn, (name, chance, step) in enumerate(pair):
            operation = draws.operation[mine, turn]
            applied = operation >= 0
            assert (operation[applied] == NAMES.index(name)).all()
            share, count = float(applied.double().mean()), len(applied)
            error = math.sqrt(chance * (1 - chance) / count)
            assert abs(share - chance) <= 4 * error
            size = draws.magnitude[mine, turn]
            assert set(size.abs().tolist()) == {magnitude(name, step)}
            if name in SIGNED and step > 0:
                assert chi_square(torch.bincount((size > 0).int())) < 4**2
            else:
                assert (size >= 0).all()


def test_both_operations_and_their_signs_are_drawn_independently():
    draws = Draws.drawn(50_000, stream(8))
    last = draws.policy == 21  # translate_y twice, with .9 and .7
    applied, up = draws.operation[last] >= 0, draws.magnitude[last] > 0
    for pair, chances in ((applied, (0.9, 0.7)), (up, (0.5, 0.5))):
        joint = torch.bincount(2 * pair[:, 0].int() + pair[:, 1].int(), minlength=4)
        first, second = chances
        shares = torch.tensor(
            [
                (1 - first) * (1 - second),
                (1 - first) * second,
                first * (1 - second),
                first * second,
            ]
        )
        assert chi_square(joint, shares) < CHI2_99[3]


def test_magnitudes_span_the_ranges_of_the_paper_in_ten_steps():
    ends = {"shear_x": 0.3, "rotate": 30.0, "translate_y": 150 / 331, "color": 0.9}
    for name, last in ends.items():
        assert magnitude(name, 0) == 0.0
        assert magnitude(name, 9) == pytest.approx(last, rel=1e-15)
        assert magnitude(name, 3) == pytest.approx(last / 3, rel=1e-15)
    assert (magnitude("solarize", 0), magnitude("solarize", 9)) == (256.0, 0.0)
    bits = [magnitude("posterize", step) for step in range(10)]
    assert bits == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]


# ---- what holds for all of them --------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_an_image_changes_its_own_output_alone_and_is_not_written_to(name):
    augmentation = AUGMENTATIONS.build(name)
    images = photographs(64)
    if augmentation.standardised:
        images = images.float()
    before = images.clone()
    made = augmentation(images, stream(4))
    assert torch.equal(images, before)
    assert made.dtype == images.dtype
    assert made.shape == images.shape
    assert not torch.equal(made, images)
    other = images.clone()
    other[10] = other[10].flip(1)
    changed = augmentation(other, stream(4)) != made
    assert changed[10].any()
    assert not changed[torch.arange(64) != 10].any()


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_no_global_random_number_is_drawn(name):
    augmentation = AUGMENTATIONS.build(name)
    images = photographs(8).float() if augmentation.standardised else photographs(8)
    before = torch.get_rng_state()
    first = augmentation(images, stream(4))
    torch.rand(3)
    assert torch.equal(augmentation(images, stream(4)), first)
    torch.set_rng_state(before)
    augmentation(images, stream(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_a_device_gives_the_same_bits_and_is_never_waited_for(name):
    augmentation = AUGMENTATIONS.build(name)
    images = photographs(64).float() if augmentation.standardised else photographs(64)
    there = images.cuda()
    augmentation(there, stream(4))
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = augmentation(there, stream(4))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(made.cpu(), augmentation(images, stream(4)))
