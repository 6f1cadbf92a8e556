"""Training with augmentation: draws by seed and step, clean scores, ids, refusals."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

import comparisons
from steppe.errors import CheckpointError, SettingError
from steppe.seeds import stream
from steppe_lab.augmentation import AbstractAugmentation
from steppe_lab.datasets import Split, Standardisation, TensorSamples
from steppe_lab.reports.comparison.rows import rows
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id
from steppe_lab.training import checkpoints
from steppe_lab.training.augmenting import AugmentedBatches, read_augmentations
from steppe_lab.training.build import build_model
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState

ALL = "basic:padding=2+autoaugment+cutout:size=4"


def recipe(augment: object = ALL, optimizer: str = "sam+ema", **more: object):
    settings = {
        "data": "cifar10",
        "model": "small_cnn:width=2,batch_norm=true",
        "epochs": 3,
        "batch_size": 16,
        "augment": augment,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    """Small pictures with a bright edge whose side is their class."""
    shape = (60, 3, 12, 12)
    pixels = torch.randint(200, shape, generator=stream(0)).to(torch.uint8)
    targets = torch.arange(60) % 2
    pixels[targets == 1, :, :3] = 250
    standardisation = Standardisation(mean=(0.4,) * 3, std=(0.2,) * 3, scale=255)
    samples = TensorSamples(pixels, targets, standardisation)
    return Split(
        train=samples.chosen(torch.arange(40)),
        test=samples.chosen(torch.arange(40, 60)),
        clean=samples.chosen(torch.arange(40)),
        positions=torch.arange(40),
        noisy=torch.zeros(40, dtype=torch.bool),
        classes=("no", "yes"),
        task="classification",
    )


def weights(trained) -> list[torch.Tensor]:
    return list(trained.model.state_dict().values())


def same(left, right) -> bool:
    pairs = zip(weights(left), weights(right), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ---- draws -----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sam+ema", "lpf_sgd:micro_batches=2"])
def test_resuming_after_any_epoch_equals_never_stopping(optimizer, split):
    kept: list[bytes] = []
    made = recipe(optimizer=optimizer)
    whole = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) == 2
    for state in kept:
        resumed = train(made, split, resume=state)
        assert same(resumed, whole)
        assert resumed.history == whole.history
    clean = train(recipe((), optimizer), split)
    assert not same(clean, whole)


def batches(split, text=ALL, seed=0, step=5):
    made = AugmentedBatches(
        read_augmentations(text), split.train, seed=seed, device="cpu"
    )
    return made.fetch(torch.arange(20), step)[0]


def test_draws_follow_from_the_seed_and_the_step_alone(split):
    torch.manual_seed(1)
    first = batches(split)
    torch.manual_seed(2)
    assert torch.equal(batches(split), first)
    assert not torch.equal(batches(split, seed=1), first)
    assert not torch.equal(batches(split, step=6), first)


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "lpf_sgd:micro_batches=2"])
def test_all_optimizers_see_the_same_images_and_no_step_those_of_another(
    optimizer, split, monkeypatch
):
    seen: list[tuple[torch.Tensor, int]] = []
    fetch = AugmentedBatches.fetch

    def watched(self, rows, step):
        batch = fetch(self, rows, step)
        seen.append((batch[0], step))
        return batch

    made = recipe("basic:padding=2+cutout:size=4", optimizer)
    state = TrainingState.fresh(made, split, None)
    monkeypatch.setattr(AugmentedBatches, "fetch", watched)
    train(made, split)
    images, steps = zip(*seen[1:], strict=True)  # the first is a trial
    assert steps == tuple(range(9))
    monkeypatch.undo()
    for step, batch in enumerate(images):
        order = torch.randperm(40, generator=stream(made.seed, step // 3))
        rows = torch.split(order, 16)[step % 3]
        assert torch.equal(state.augmented.fetch(rows, step)[0], batch)


def test_the_crops_of_a_seed_are_the_same_whatever_follows_them(split):
    alone, followed = batches(split, "basic"), batches(split, "basic+cutout:size=3")
    cut = followed == 0
    assert 0 < cut.float().mean() < 0.2
    assert torch.equal(alone.where(~cut, 0), followed)


def test_cutout_comes_after_standardising_and_crops_before(split):
    black = torch.tensor(-2.0)  # (0 - 0.4) / 0.2
    assert (batches(split, "basic:padding=11")[:, :, 0] == black).float().mean() > 0.4
    assert not batches(split, "cutout:size=30,p=1").any()


def test_scores_are_those_of_clean_samples(split):
    trained = train(recipe(optimizer="sgd"), split)
    model = trained.model.eval()
    for part, samples in (("train", split.train), ("test", split.test)):
        loss = cross_entropy(model(samples.inputs), samples.targets).item()
        assert trained.history[-1][f"{part}_loss"] == pytest.approx(loss, rel=1e-6)


# ---- records ---------------------------------------------------------------------


def test_a_recipe_without_augmentation_does_not_mention_it():
    plain = recipe(())
    assert "augment" not in plain.model_dump_json()
    assert recipe("") == plain
    settings = CompareSettings()
    assert "augment" not in settings.model_dump_json()
    assert settings.name != CompareSettings(augment="basic").name


def test_augmentations_are_part_of_the_id_and_of_the_record():
    texts = ("", "basic", "basic+cutout", "basic+cutout:size=8", "shift-flip")
    made = [recipe(text) for text in texts]
    assert len({run_id(config_of(each)) for each in made}) == len(texts)
    for each in made:
        record = json.loads(each.model_dump_json())
        assert Recipe.model_validate(record) == each
    assert record["augment"] == [{"name": "shift_flip", "settings": {"shift": 0.125}}]


def test_rows_of_comparisons_name_augmentations():
    plain = comparisons.row()
    record = [{"name": "cutout", "settings": {"size": 8, "p": 0.5}}]
    augmented = plain.model_copy(
        update={"settings": {**plain.settings, "augment": record}}
    )
    assert "augment" not in rows(comparisons.comparison(plain))[0]
    found = comparisons.comparison(augmented)
    assert rows(found)[0]["augment"] == "cutout:size=8,p=0.5"


def test_the_option_reaches_the_recipe():
    made = recipe_of(CompareSettings(augment="basic+cutout:p=1"), "sgd", 0)
    assert [str(choice) for choice in made.augment] == [
        "basic:padding=4",
        "cutout:size=16,p=1.0",
    ]


def test_a_checkpoint_says_its_augmentations(tmp_path, split):
    made = recipe("basic+cutout:size=8")
    path = tmp_path / "model.safetensors"
    model = build_model(made, split.in_shape, split.outputs)
    path.write_bytes(checkpoints.to_bytes(model, made, split.in_shape, 2, "0"))
    assert checkpoints.load(path).recipe == made


@pytest.mark.parametrize("wrong", ["basic", [{"name": "basic"}], [3], {"a": 1}])
def test_a_checkpoint_with_broken_augmentations_is_damaged(wrong, tmp_path, split):
    made = recipe("basic")
    model = build_model(made, split.in_shape, split.outputs)
    broken = made.model_copy()
    record = {**made.model_dump(mode="json"), "augment": wrong}
    object.__setattr__(broken, "model_dump", lambda **_: record)
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoints.to_bytes(model, broken, split.in_shape, 2, "0"))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)


# ---- refusals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bsic", "did you mean 'basic'"),
        ("basic+basic", "names basic twice"),
        ("basic:pad=3", "unknown setting of basic 'pad'"),
        ("cutout:size=big", "size must be a whole number"),
        (7, "write it as basic[+]cutout"),
    ],
)
def test_a_recipe_refuses_what_names_no_augmentations(text, message):
    with pytest.raises((ValidationError, SettingError), match=message):
        recipe(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cutout+basic", "must name cutout last"),
        ("cutout:p=1.5", "p must be between 0 and 1, got 1.5"),
        ("autoaugment:fill=256", "fill must be between 0 and 255"),
        ("shift_flip:shift=1", "shift must be"),
    ],
)
def test_bad_settings_show_before_any_data_is_read(text, message):
    with pytest.raises(SettingError, match=message):
        check_settings(recipe(text))


GREY = Standardisation(mean=(0.5,), std=(0.2,), scale=16)


@pytest.mark.parametrize(
    ("shape", "dtype", "standardisation", "text", "message"),
    [
        ((4, 12), torch.float32, None, "basic", "needs images of shape"),
        ((4, 1, 8, 8), torch.uint8, GREY, "autoaugment", "uint8 up to 16"),
        ((4, 3, 8, 8), torch.float32, None, "autoaugment", "got torch.float32"),
        ((4, 2, 8, 8), torch.uint8, None, "autoaugment", "1 or 3 channels, got 2"),
        ((4, 1, 8, 9), torch.uint8, GREY, "basic:padding=8", "below the 8 pixels"),
    ],
)
def test_samples_that_cannot_be_changed_are_refused(
    shape, dtype, standardisation, text, message
):
    stored = torch.zeros(shape, dtype=dtype)
    samples = TensorSamples(stored, torch.zeros(4, dtype=torch.int64), standardisation)
    with pytest.raises(SettingError, match=message):
        AugmentedBatches(read_augmentations(text), samples, seed=0, device="cpu")


# ---- code of the user ------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Darker(AbstractAugmentation):
    """Fewer levels in each image, by a random factor."""

    most: int = 2

    def __call__(self, images, generator):
        factor = torch.randint(1, self.most + 1, (len(images),), generator=generator)
        return images // factor[:, None, None, None].to(images.dtype)


class Smaller(Darker):
    def __call__(self, images, generator):
        return images[:, :, ::2]


class Failing(Darker):
    def __call__(self, images, generator):
        raise KeyError("no such colour")


@pytest.fixture
def mine(monkeypatch):
    module = types.ModuleType("mine")
    module.Darker, module.Smaller, module.Failing = Darker, Smaller, Failing
    monkeypatch.setitem(sys.modules, "mine", module)


@pytest.mark.usefixtures("mine")
def test_code_of_the_user_is_an_augmentation(split):
    made = recipe("mine:Darker:most=3+cutout")
    assert "mine:Darker" in made.code
    darker = batches(split, "mine:Darker:most=3")
    clean = split.train.batch(slice(0, 20))[0]
    assert (darker <= clean).all()
    assert 0.2 < (darker < clean).flatten(1).any(1).float().mean() < 0.9


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:Smaller", "must give inputs of torch.float32 and shape"),
        ("mine:Failing", "failed [(]KeyError"),
        ("os:getcwd", "must be an AbstractAugmentation, got str"),
    ],
)
def test_code_of_the_user_that_is_none_is_refused(name, message, split):
    with pytest.raises(SettingError, match=message):
        batches(split, name)
