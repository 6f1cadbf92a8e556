"""Several processes that train one network; batches with perturbations apart."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import parallel_trainings
import small_trainings
import steppe
from steppe.errors import SettingError, UsageError
from steppe.losses import L2
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.training.build import build_model
from steppe_lab.training.launch import Launch, launch
from steppe_lab.training.loop import train
from steppe_lab.training.processes import ALONE, Processes, check_processes
from steppe_lab.training.readiness import _check_last_batch, check_settings
from steppe_lab.training.sharing import Sharing
from steppe_lab.training.state import TrainingState

PLAIN = "small_cnn:width=2"
# Batches of 16 of 37 samples leave a last one of 5, and parts of it of unlike lengths.
CASES = {
    "sgd": {"optimizer": "sgd", "model": PLAIN, "samples": 37},
    "sam": {"optimizer": "sam", "model": PLAIN, "samples": 37},
    "penalty": {"optimizer": "sam", "model": PLAIN, "samples": 37, "l2": 0.01},
    "smoothed": {
        "optimizer": "gsam",
        "model": PLAIN,
        "samples": 33,
        "label_smoothing": 0.1,
    },
    "clipped": {"optimizer": "sam", "model": PLAIN, "samples": 37, "clip_norm": 0.1},
    "stopped": {
        "optimizer": "sam",
        "model": PLAIN,
        "samples": 37,
        "stop_at_loss": 0.1,
        "stop_on": "running_perturbed_loss",
    },
    "augmented": {"optimizer": "sam", "model": PLAIN, "augment": "basic"},
    "apart": {
        "optimizer": "sam",
        "model": PLAIN,
        "samples": 37,
        "perturbations": 2,
    },
    "four apart": {
        "optimizer": "gsam",
        "model": PLAIN,
        "samples": 35,
        "perturbations": 4,
    },
}
OTHERS = {
    "batch norm": {"optimizer": "sam+ema", "samples": 37},
    "noise": {"optimizer": "lpf_sgd:micro_batches=2", "amp": "fp16", "samples": 33},
    "noise apart": {"optimizer": "rwp", "perturbations": 2},
    "memory apart": {"optimizer": "fsam", "perturbations": 2},
}


@pytest.fixture(scope="module")
def split():
    return small_trainings.split()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return parallel_trainings.run(parallel_trainings.trained, CASES | OTHERS, folder)


def identical(left, right) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case, outcome):
    settings = {**CASES[case]}
    split = small_trainings.split(settings.pop("samples", 40))
    one = train(small_trainings.recipe(**settings), split)
    first, second = (each[case] for each in outcome)
    assert identical(first["weights"], second["weights"])
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(first["weights"][name], value, atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(first["history"], one.history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert first["gradients"] == pytest.approx(one.gradients)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES | OTHERS)
def test_two_processes_go_on_bit_for_bit(case, outcome):
    first, second = (each[case] for each in outcome)
    assert first["history"] == second["history"]
    for each in (first, second):
        assert identical(each["weights"], each["resumed"])
        assert each["history"] == each["resumed_history"]


# ---- parts of a batch, in one process ----------------------------------------------


@pytest.mark.parametrize(("perturbations", "l2"), [(2, 0.0), (3, 0.01)])
def test_perturbations_apart_are_micro_batch_sharpness(perturbations, l2, split):
    """m-SAM as in docs/loops.md; a penalty counts once however many parts there are."""
    made = small_trainings.recipe("sam:rho=0.05", perturbations=perturbations, l2=l2)
    penalty = L2(l2)
    state = TrainingState.fresh(made, split, None)
    model = build_model(made, split.in_shape, split.outputs)
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    opt = steppe.SAM(base, rho=0.05, model=model)
    model.train()
    for epoch in range(made.epochs):
        first = state.epochs.first_step(epoch)
        for step, rows in enumerate(state.epochs.batches(epoch), first):
            base.param_groups[0]["lr"] = state.schedule(step)
            opt.zero_grad()
            for part in rows.tensor_split(perturbations):
                x, y = split.train.batch(part)
                for _ in opt.passes(accumulate=True):
                    loss = F.cross_entropy(model(x), y) + penalty(model.parameters())
                    (loss * len(part) / len(rows)).backward()
            opt.step()
    trained = train(made, split).model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=1e-5)
    jointly = train(small_trainings.recipe("sam:rho=0.05"), split).model.state_dict()
    assert (jointly["0.weight"] - trained["0.weight"]).abs().max() > 1e-5


@pytest.mark.parametrize("size", [1, 3, 8, 13])
@pytest.mark.parametrize(("count", "perturbations"), [(1, 1), (1, 4), (3, 1), (2, 4)])
def test_parts_hold_each_sample_once(size, count, perturbations):
    terms = torch.arange(size) + 1
    shares = [
        Sharing(Processes(rank, count), perturbations).parts(size)
        for rank in range(count)
    ]
    real = [part.rows[: part.real] for parts in shares for part in parts]
    assert torch.equal(torch.cat(real), torch.arange(size))
    counted = [part.counted(terms) for parts in shares for part in parts]
    assert torch.cat(counted).sum() == terms.sum()
    total = sum(part.weight for parts in shares for part in parts)
    assert total / count == pytest.approx(1)
    # All processes make the same passes, or they would wait for each other for ever.
    if count > 1:
        assert len({tuple(len(p.rows) for p in parts) for parts in shares}) == 1


# ---- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perturbations": 32}, "batch_size must be at least 32"),
        ({"processes": 20}, "batch_size must be at least 20"),
        ({"perturbations": 2, "optimizer": "sgd"}, "needs an optimizer that perturbs"),
        ({"perturbations": 3, "processes": 2}, "must be 1 or a multiple of the 2"),
        ({"perturbations": 2, "optimizer": "entropy_sgd"}, "be 1 for entropy_sgd"),
        (
            {"processes": 2, "device": "cpu:0"},
            "device must be cpu or cuda with several",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_any_work(settings, message):
    with pytest.raises(SettingError, match=message):
        check_settings(small_trainings.recipe(**settings))


def test_batch_norm_wants_two_samples_in_every_part(split):
    made = small_trainings.recipe(perturbations=4)
    model = build_model(made, split.in_shape, split.outputs)
    _check_last_batch(made, model, 40)
    with pytest.raises(SettingError, match="2 samples in every part of a batch"):
        _check_last_batch(made, model, 38)


def test_a_recipe_of_several_processes_is_trained_by_as_many(split, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    made = small_trainings.recipe(processes=2)
    check_processes(made)
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2"):
        train(made, split)


def test_records_of_one_process_do_not_mention_it():
    for record in (CompareSettings(), small_trainings.recipe()):
        text = record.model_dump_json()
        assert '"perturbations"' not in text
        assert '"processes"' not in text


# ---- the environment of torchrun -----------------------------------------------------


def test_a_launch_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launch() == Launch()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        UsageError, match="WORLD_SIZE is set, but not RANK, MASTER_ADDR"
    ):
        launch()
    names = {"RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(3, 4, 1)
    assert not launch().leads
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(UsageError, match="must be whole numbers"):
        launch()


def test_one_process_asks_nobody():
    assert ALONE.of_first(lambda: 3) == 3
    assert ALONE.gathered(4) == [4]
    assert ALONE.seed(5) == 5
    assert ALONE.all(True)
    assert Processes(1, 2).seed(5) != 5
