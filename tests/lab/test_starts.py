"""Trainings that start from weights of a file, with the state of its optimizer."""

from __future__ import annotations

import hashlib
import io
import json
import shlex

import pytest
import torch
from torch.nn import functional as F

import in_process
from steppe.bases import BASES
from steppe.errors import CheckpointError, StoreError
from steppe_lab.analysis.starts import with_start
from steppe_lab.cli import main
from steppe_lab.datasets.loading import load_split
from steppe_lab.reports.comparison.publishing import command_of, publish
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings, TrainSettings
from steppe_lab.runs.training import recipe_of, train_network
from steppe_lab.store.json_files import write_atomically
from steppe_lab.store.store import Store, run_id
from steppe_lab.studies import comparison
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model, build_optimizer
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.loop import train
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.settings import SHA256
from steppe_lab.training.starts import name_of, path_in, read_start, stored_start
from steppe_lab.training.state import opened, sealed

SMALL = {"model": "small_cnn:width=2", "train_samples": 64, "lr_schedule": "constant"}


def settings(**more: object) -> TrainSettings:
    return TrainSettings(**{**SMALL, "optimizer": "sgd", "epochs": 2, **more})


def recipe(store: Store, **more: object):
    named = with_start(settings(**more), store)
    return recipe_of(named, named.optimizer, named.seed)


def trained(store: Store, **more: object):
    """The folder of a run that is trained in this process."""
    made = recipe(store, **more)
    folder = store.folder(store.add(config_of(made)))
    store.finish(folder.name, train_network(made, folder, lambda progress: None))
    return folder


def weights(path) -> list[torch.Tensor]:
    return list(checkpoints.load(path).model.state_dict().values())


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run in a store, with checkpoints and states beside them."""
    store = Store(tmp_path_factory.mktemp("kept") / "steppe-runs")
    return trained(store, checkpoint_every=1, checkpoint_optimizer=True)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "steppe-runs")


def by_hand(made, model, optimizer, epochs):
    """The loop of the recipe, written out."""
    split = load_split(made)
    plan = Epochs.of(made, len(split.train))
    model.train()
    for epoch in range(epochs):
        for rows in plan.batches(epoch):
            optimizer.zero_grad()
            inputs, targets = split.train.batch(rows)
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return list(model.state_dict().values())


def their_file(path, made, *, base="sgd", steps=3):
    """A network and an optimizer of another program, after some steps."""
    split = load_split(made)
    model = build_model(made, split.in_shape, split.outputs)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    more = {"momentum": 0.5} if base == "sgd" else {}
    optimizer = kinds[base](model.parameters(), lr=0.3, **more)
    inputs, targets = split.train.batch(slice(0, 64))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    content = {"state_dict": torch.nn.DataParallel(model).state_dict(), "acc": 0.5}
    torch.save({**content, "optimizer": optimizer.state_dict()}, path)
    return model, optimizer


def close(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in pairs)


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_weights_of_another_program_are_where_a_training_begins(
    with_optimizer, store, tmp_path
):
    path = tmp_path / "theirs.pt"
    bare = recipe(store)
    model, theirs = their_file(path, bare)
    folder = trained(
        store,
        start_from=str(path),
        with_optimizer=with_optimizer,
        checkpoint_every=0,
    )
    initial = weights(folder / "checkpoints" / "initial.safetensors")
    assert all(map(torch.equal, initial, model.state_dict().values()))
    # Momentum is theirs where it is asked for; learning rate and decay are ours.
    ours = build_optimizer(bare, model, 64)
    if with_optimizer:
        state = {**ours.state_dict(), "state": theirs.state_dict()["state"]}
        ours.load_state_dict(state)
    expected = by_hand(bare, model, ours, 2)
    assert close(weights(folder / "model.safetensors"), expected)


@pytest.mark.parametrize("name", ["@1", "@last", "/checkpoints/epoch-0001.training.pt"])
def test_a_checkpoint_of_ours_goes_on_with_its_momentum(name, kept, store):
    start = f"{kept}{name}"
    folder = trained(store, start_from=start, with_optimizer=True, epochs=1)
    stem = "last" if name == "@last" else "epoch-0001"
    saved = read_start(kept / "checkpoints" / f"{stem}.training.pt")
    bare = recipe(store, epochs=1)
    split = load_split(bare)
    model = build_model(bare, split.in_shape, split.outputs)
    model.load_state_dict(saved.states[""])
    ours = build_optimizer(bare, model, 64)
    ours.load_state_dict({**ours.state_dict(), "state": saved.optimizer["state"]})
    assert close(weights(folder / "model.safetensors"), by_hand(bare, model, ours, 1))


def test_the_id_follows_from_the_contents_alone(kept, store, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((kept / "checkpoints" / "epoch-0001.safetensors").read_bytes())
    ids = {
        run_id(config_of(recipe(store, start_from=text)))
        for text in (str(copy), f"{kept}@1", f"{kept}@epoch-1")
    }
    assert len(ids) == 1
    again = recipe(store, start_from=str(copy)).start_from
    copy.unlink()
    assert run_id(config_of(recipe(store, start_from=again))) in ids
    others = {run_id(config_of(recipe(store, start_from=t))) for t in (f"{kept}@2", "")}
    assert len(ids | others) == 3


def changed(contents: bytes, change) -> bytes:
    """The state of a training after a change, saved anew."""
    state = torch.load(io.BytesIO(opened(contents)), weights_only=True)
    change(state)
    file = io.BytesIO()
    torch.save(state, file)
    return sealed(file.getvalue())


def test_the_id_after_a_state_follows_from_all_that_is_gone_on_from(kept):
    contents = (kept / "checkpoints" / "epoch-0001.training.pt").read_bytes()
    name = name_of(contents)

    def later(state):
        state["seconds"] += 100
        state["model"] = dict(reversed(list(state["model"].items())))

    again = changed(contents, later)
    assert again != contents
    assert name_of(again) == name

    def moved(state):
        next(iter(state["optimizer"]["state"].values()))["momentum_buffer"][0] += 1e-3

    def weighed(state):
        next(iter(state["model"].values()))[0] += 1e-3

    def of_adam(state):
        recipe = json.loads(state["recipe"])
        recipe["base"]["name"] = "adam"
        state["recipe"] = json.dumps(recipe)

    others = {name_of(changed(contents, each)) for each in (moved, weighed, of_adam)}
    assert len(others | {name}) == 4


@pytest.mark.parametrize("optimizer", ["sgd", "vasso"])
def test_the_id_after_a_resumed_training_is_that_after_a_straight_one(
    optimizer, store, tmp_path
):
    keeping = {"checkpoint_every": 0, "checkpoint_optimizer": True}
    made = recipe(store, optimizer=optimizer, **keeping)
    split, kept = load_split(made), []
    names = []
    for resume in (None, 0):
        folder = tmp_path / str(resume)
        state = None if resume is None else kept[resume]
        train(made, split, folder=folder, keep=kept.append, keep_every=0, resume=state)
        start = str(folder / "checkpoints" / "last.training.pt")
        again = recipe(store, optimizer=optimizer, start_from=start)
        names.append(again.start_from)
    assert names[0] == names[1]


def test_a_stored_state_that_is_named_by_its_bytes_is_gone_on_with(kept, store):
    contents = (kept / "checkpoints" / "last.training.pt").read_bytes()
    name = SHA256 + hashlib.sha256(contents).hexdigest()
    write_atomically(path_in(store.root, name), contents)
    made = recipe(store, start_from=name, with_optimizer=True)
    assert stored_start(made, store.root).optimizer["state"]


def test_a_file_that_changed_in_the_store_is_refused(kept, store):
    made = recipe(store, start_from=f"{kept}@1")
    (path,) = (store.root / "starts").iterdir()
    other = (kept / "checkpoints" / "epoch-0002.training.pt").read_bytes()
    for contents in (path.read_bytes() + b" ", other, other[:-1]):
        path.write_bytes(contents)
        with pytest.raises(StoreError, match="is not the file that it was; delete it"):
            stored_start(made, store.root)
    path.unlink()
    with pytest.raises(StoreError, match=r"sha256:\w{8} to start from are not in"):
        stored_start(made, store.root)


def test_a_stopped_training_goes_on_to_the_same_weights(kept, store, monkeypatch):
    made = recipe(
        store, start_from=f"{kept}@1", with_optimizer=True, optimizer="sgd+ema"
    )
    start, states = stored_start(made, store.root), []
    split = load_split(made)
    straight = train(made, split, start=start, keep=states.append, keep_every=0)
    resumed = train(made, split, start=start, resume=states[0])
    assert straight.history == resumed.history


@pytest.mark.parametrize("optimizer", ["sam", "vasso"])
def test_a_method_takes_over_the_state_of_the_base(optimizer, kept, store):
    from steppe_lab.training.state import TrainingState

    made = recipe(
        store, start_from=f"{kept}@2", with_optimizer=True, optimizer=optimizer
    )
    start = stored_start(made, store.root)
    state = TrainingState.fresh(made, load_split(made), None, start)
    mine, saved = state.optimizer.state_dict(), start.optimizer
    pairs = zip(mine["state"].values(), saved["state"].values(), strict=True)
    for one, other in pairs:
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    assert mine["steppe"]["steps"] == 0


def test_what_a_method_remembers_goes_along_with_the_method(store):
    from steppe_lab.training.state import TrainingState

    more = {"checkpoint_every": 0, "checkpoint_optimizer": True, "optimizer": "vasso"}
    folder = trained(store, **more)
    made = recipe(
        store, start_from=f"{folder}@last", with_optimizer=True, optimizer="vasso"
    )
    start = stored_start(made, store.root)
    state = TrainingState.fresh(made, load_split(made), None, start)
    assert state.optimizer.state_dict()["steppe"]["steps"] == 2


QUICK = {"sgd", "adashift"}
ALL = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in sorted(BASES.names())
]


@pytest.mark.parametrize("base", ALL)
def test_the_state_of_every_base_can_be_gone_on_with(base, store):
    from steppe_lab.training.state import TrainingState

    more = {"optimizer": base, "epochs": 1, "model": "mlp:hidden=8,depth=3"}
    keeping = {"checkpoint_every": 0, "checkpoint_optimizer": True}
    folder = trained(store, **more, **keeping)
    made = recipe(store, start_from=f"{folder}@last", with_optimizer=True, **more)
    start = stored_start(made, store.root)
    state = TrainingState.fresh(made, load_split(made), None, start)
    assert (
        state.optimizer.state_dict()["state"].keys() == start.optimizer["state"].keys()
    )


@pytest.mark.parametrize(
    ("file", "more", "said"),
    [
        ("@1", ["--optimizer", "adam"], "of sgd, and this training steps with adam;"),
        ("theirs.pt", [], "does not fit sgd"),
        ("@initial", [], "holds no state of an optimizer; leave out --with-optimizer"),
        ("@1", ["--model", "small_cnn:width=3"], "are not those of this model"),
    ],
)
def test_states_that_do_not_fit_are_refused_before_any_work(
    file, more, said, kept, store, tmp_path, capsys
):
    start = f"{kept}{file}" if file.startswith("@") else str(tmp_path / file)
    their_file(tmp_path / "theirs.pt", recipe(store), base="adam")
    options = {"--model": "small_cnn:width=2", "--optimizer": "sgd", "--from": start}
    options |= {"--train-samples": "64", "--out": str(store.root)}
    options |= dict(zip(more[::2], more[1::2], strict=True))
    words = [word for pair in options.items() for word in pair]
    assert main(["train", *words, "--with-optimizer"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(store.root.glob("runs/*"))


@pytest.mark.parametrize("verb", [["train"], ["compare", "sgd", "sam", "--seeds", "1"]])
def test_a_refusal_names_the_file_as_it_was_written(verb, store, tmp_path, capsys):
    path = tmp_path / "theirs.pt"
    torch.save(torch.nn.Linear(3, 2).state_dict(), path)
    more = ["--from", str(path), "--train-samples", "64", "--out", str(store.root)]
    assert main([*verb, *more]) == 2
    assert f"the weights in {path} are not those of this model" in (
        capsys.readouterr().err
    )


def test_files_that_are_no_weights_are_refused(store, tmp_path):
    (tmp_path / "notes.txt").write_text("no weights\n")
    damaged = tmp_path / "cut.training.pt"
    damaged.write_bytes(b"steppe training state 5\n" + b"0" * 100)
    for name, said in (
        ("gone.pt", "there is no file"),
        ("notes.txt", "not a readable checkpoint but a text"),
        ("cut.training.pt", "is no whole state of a training"),
    ):
        with pytest.raises(CheckpointError, match=said):
            recipe(store, start_from=str(tmp_path / name))


def test_weights_that_are_not_finite_are_nothing_to_start_from(store, tmp_path):
    path, bare = tmp_path / "theirs.pt", recipe(store)
    model, _ = their_file(path, bare)
    with torch.no_grad():
        next(model.parameters())[0] = torch.nan
    torch.save(model.state_dict(), path)
    made = recipe(store, start_from=str(path))
    with pytest.raises(CheckpointError, match=r"weights must be finite, got .* NaN or"):
        check_ready(made, stored_start(made, store.root))


def test_a_checkpoint_without_a_state_beside_it_says_how_to_keep_one(store):
    folder = trained(store, epochs=1)
    with pytest.raises(CheckpointError, match="--checkpoint-optimizer, or leave out"):
        recipe(store, start_from=str(folder), with_optimizer=True)


@pytest.mark.parametrize("more", [{"with_optimizer": True}, {"weights": "ema"}])
def test_options_about_the_file_need_one(more):
    with pytest.raises(ValueError, match="give --from FILE too"):
        settings(**more)


def test_a_recipe_names_a_file_by_its_contents_alone():
    with pytest.raises(ValueError, match="as sha256: and 64 digits"):
        recipe_of(settings(start_from="file.pt"), "sgd", 0)


@pytest.mark.slow
def test_a_comparison_starts_all_from_the_same_weights(kept, store, monkeypatch):
    monkeypatch.setattr(comparison, "run_local", in_process.run_local)
    chosen = CompareSettings(
        **SMALL,
        optimizers=("sgd", "sam"),
        start_from=f"{kept}@2",
        epochs=1,
        seeds=1,
        checkpoint_every=0,
        measures=("loss",),
        line_points=3,
    )
    study = comparison.ComparisonStudy(chosen, store)
    done = study.run()
    assert len(done.rows) == 2
    page = publish(done, store.root / "reports").read_text()
    assert f"The networks were trained with steppe {done.origins[0].steppe}" in page
    expected = weights(kept / "checkpoints" / "epoch-0002.safetensors")
    paths = list(store.root.glob("runs/*/checkpoints/initial.safetensors"))
    assert len(paths) == 2
    for path in paths:
        assert all(map(torch.equal, weights(path), expected))
    # The command of the page makes the same runs in the same store.
    words = shlex.split(command_of(study.settings))
    start = words[words.index("--from") + 1]
    again = comparison.ComparisonStudy(
        chosen.model_copy(update={"start_from": start}), store
    )
    assert again.left == 0
