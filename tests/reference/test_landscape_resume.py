"""Points that are kept: after interruptions, in several processes, of one recipe."""

import errno
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import problems
import shared_points
from probes import probe
from shared_points import GRID, digest, smooth
from steppe.errors import DataError, SettingError, SteppeError, StoreError
from steppe.files import leases, replace_file
from steppe.landscapes.evaluation import points as points_module
from steppe.landscapes.evaluation.evaluator import Evaluator
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.evaluation.recipe import recipe_of
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.losses import L2
from steppe.surfaces import Surface
from steppe.surfaces.files import points as files_module


def same(found, expected):
    for name in ("loss", "stderr", "rise_stderr", "subset_stderr"):
        left, right = getattr(found, name), getattr(expected, name)
        # NaN is one value: its sign and payload mean nothing.
        left, right = (
            t.nan_to_num(math.pi, math.inf, -math.inf) for t in (left, right)
        )
        assert torch.equal(left.view(torch.int64), right.view(torch.int64))
    assert (found.computed is None) == (expected.computed is None)
    assert found.computed is None or torch.equal(found.computed, expected.computed)
    assert found.details == expected.details


@pytest.fixture(scope="module")
def whole():
    return landscape(*probe(smooth), *GRID)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoppedError])
def test_a_surface_goes_on_where_it_was_interrupted_and_has_the_same_bits(
    tmp_path, whole, error
):
    evaluated = 0
    for _ in range(20):  # each time a few points further
        objective, plane = probe(smooth)
        start = []

        def stop(done, _total, start=start):
            start.append(done)
            if done == start[0] + 70:
                raise error

        try:
            found = landscape(objective, plane, *GRID, out=tmp_path, progress=stop)
        except error as stopped:
            notes = "".join(getattr(stopped, "__notes__", ()))
            assert error is not KeyboardInterrupt or str(tmp_path) in notes
            evaluated += len(objective.model.seen) - 1
            continue
        break
    same(found, whole)
    evaluated += len(objective.model.seen) - 1
    lost = points_module.BLOCK
    assert evaluated <= int(whole.computed.sum()) + 5 * lost
    objective, plane = probe(smooth)
    same(landscape(objective, plane, *GRID, out=tmp_path), whole)
    assert len(set(objective.model.seen)) == 1  # the base point alone


def started(folder, seconds, processes=1):
    """A process that shares the points of a folder, of several that begin together."""
    paths = [str(Path(shared_points.__file__).parent), *sys.path]
    return subprocess.Popen(
        [
            sys.executable,
            shared_points.__file__,
            str(folder),
            str(seconds),
            str(processes),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def wait_for(condition, process):
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_share_the_points_and_both_have_the_surface_of_one(
    tmp_path, whole
):
    folder = tmp_path / "points"
    processes = [started(folder, 0.01, 2) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [digest for _, digest in said] == [digest(whole)] * 2
    counts = [int(count) for count, _ in said]
    assert min(counts) > 1
    # Each evaluates the base point for itself, and no point is evaluated by both.
    assert sum(counts) <= int(whole.computed.sum()) + 3
    assert not list(folder.glob("*.lease"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_another_process_takes_over_the_work_of_one_that_was_killed(tmp_path, whole):
    folder = tmp_path / "points"
    killed = started(folder, 0.02)
    wait_for(lambda: list(folder.glob("block-*.json")), killed)
    wait_for(lambda: list(folder.glob("*.lease")), killed)
    killed.kill()
    killed.communicate()
    assert list(folder.glob("*.lease"))
    objective, plane = probe(smooth)
    same(landscape(objective, plane, *GRID, out=folder), whole)
    assert len(objective.model.seen) < int(whole.computed.sum())


def test_a_block_in_the_work_of_another_process_is_waited_for(tmp_path):
    objective, line = probe(lambda x: x * x, axes=1)
    begun = threading.Event()
    held = []

    def release():
        begun.wait(30)
        time.sleep(0.3)
        held[0].release()

    create = leases.create

    def create_later(path):  # as if somebody had been faster, once
        if not held:
            held.append(create(path))
            begun.set()
            return None
        return create(path)

    thread = threading.Thread(target=release)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "create", create_later)
        found = landscape(objective, line, [-1, 0, 1], out=tmp_path)
    thread.join()
    assert found.loss.tolist() == [1, 0, 1]


def test_points_serve_other_grids_of_the_same_subspace(tmp_path):
    objective, line = probe(math.exp, axes=1)
    landscape(objective, line, (-1, 1, 5), out=tmp_path)
    objective, line = probe(math.exp, axes=1)
    seen = []
    found = landscape(
        objective,
        line,
        (-1, 1, 9),
        out=tmp_path,
        progress=lambda *now: seen.append(now),
    )
    seen_there = sorted({x for (x,) in objective.model.seen})
    assert seen_there == [-0.75, -0.25, 0.0, 0.25, 0.75]  # and the base point
    assert found.loss.tolist() == [math.exp(x) for x in found.x]
    assert seen[0] == (5, 9)
    assert seen[-1] == (9, 9)


def test_values_that_are_not_finite_or_negative_come_back(tmp_path):
    values = {-2: math.nan, -1: math.inf, 0: -0.5, 1: -math.inf, 2: 0.1 + 0.2}
    first = landscape(*probe(values.get, axes=1), list(values), out=tmp_path)
    objective, line = probe(values.get, axes=1)
    again = landscape(objective, line, list(values), out=tmp_path)
    assert first.loss.tolist()[1:] == [math.inf, -0.5, -math.inf, 0.1 + 0.2]
    same(again, first)
    assert len(set(objective.model.seen)) == 1


# ---- recipes


def network(seed=0, **settings):
    model = problems.mlp(seed=seed)
    return model, problems.objective(model, problems.vectors(), **settings)


def other_data():
    model = problems.mlp()
    return model, problems.objective(model, problems.vectors(seed=7))


def frozen_otherwise():
    model = problems.mlp()
    with torch.no_grad():
        model[0].bias.add_(1)
    model[0].bias.requires_grad_(False)
    return model, problems.objective(model, problems.vectors())


OTHERS = {
    "weights": lambda: (*network(seed=1), {}),
    "data": lambda: (*other_data(), {}),
    "directions": lambda: (*network(), {"norm": "none"}),
    "penalty": lambda: (*network(penalty=L2(0.1)), {}),
    "frozen_parameters": lambda: (*frozen_otherwise(), {}),
    "mode": lambda: (*network(mode="train"), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_points_of_another_recipe_are_refused_and_never_mixed_in(tmp_path, name):
    model, objective = network()
    landscape(objective, Line.random(model), [0, 1], out=tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    model, objective, direction = OTHERS[name]()
    line = Line.random(model, **direction)
    words = name.replace("_", " ")
    with pytest.raises(DataError, match=rf"another recipe: .*{words}.*resume=False"):
        landscape(objective, line, [0, 1], out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    expected = landscape(objective, line, [0, 1])
    same(landscape(objective, line, [0, 1], out=tmp_path, resume=False), expected)


def test_the_same_network_in_another_process_has_the_same_recipe(tmp_path):
    for _ in range(2):
        model, objective = network()
        found = landscape(objective, Plane.random(model), [0, 1], [0], out=tmp_path)
    assert objective.cost.forwards < 2 + 1
    assert Surface.load(tmp_path).loss.tolist() == found.loss.tolist()


def test_other_code_of_the_same_name_is_seen_at_the_base_point(tmp_path):
    landscape(*probe(lambda x: x + 1, axes=1), [0, 1], out=tmp_path)
    with pytest.raises(DataError, match="means at the base point differ"):
        landscape(*probe(lambda x: x + 2, axes=1), [0, 1], out=tmp_path)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_other_things_is_refused_and_left_as_it_is(tmp_path, resume):
    (tmp_path / "run-1").mkdir()
    objective, line = probe(math.exp, axes=1)
    with pytest.raises(SettingError, match="such as run-1; name a folder of its own"):
        landscape(objective, line, [0, 1], out=tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["run-1"]
    landscape(objective, line, [0, 1], out=tmp_path / "landscape", resume=resume)


def test_a_block_that_is_damaged_is_evaluated_again_and_one_of_others_refused(tmp_path):
    objective, line = probe(math.exp, axes=1)
    expected = landscape(objective, line, (-1, 1, 9), out=tmp_path / "a")
    (block,) = (tmp_path / "a").glob("block-*.json")
    block.write_bytes(block.read_bytes().replace(b"0.75", b"0.76", 1))
    objective, line = probe(math.exp, axes=1)
    same(landscape(objective, line, (-1, 1, 9), out=tmp_path / "a"), expected)
    assert len(set(objective.model.seen)) == 9
    other, there = probe(lambda x: x * x, axes=1)
    landscape(other, there, (-1, 1, 9), out=tmp_path / "b")
    (foreign,) = (tmp_path / "b").glob("block-*.json")
    block.write_bytes(foreign.read_bytes())
    with pytest.raises(DataError, match="block of another recipe"):
        landscape(objective, line, (-1, 1, 9), out=tmp_path / "a")
    (tmp_path / "b" / "recipe.json").unlink()
    with pytest.raises(DataError, match=r"points but no recipe\.json"):
        landscape(other, there, (-1, 1, 9), out=tmp_path / "b")


# ---- the disk, files, and a surface that is not whole


def test_a_full_disk_keeps_the_points_that_are_finished(tmp_path, monkeypatch, whole):
    written = []

    def full(path, content):
        if path.name.startswith("block-"):
            written.append(path)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "replace_file", full)
        with pytest.raises(StoreError, match=r"no space left .* same call again"):
            landscape(*probe(smooth), *GRID, out=tmp_path)
    assert not list(tmp_path.glob("*.lease"))
    objective, plane = probe(smooth)
    same(landscape(objective, plane, *GRID, out=tmp_path), whole)
    assert len(objective.model.seen) == int(whole.computed.sum()) - 41 + 1


def test_a_surface_that_is_not_whole_shows_the_basin_first(tmp_path, whole):
    def stop(done, _total):
        if done == 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(*probe(smooth), *GRID, out=tmp_path, exact=True, progress=stop)
    partial = Surface.load(tmp_path)
    assert int(partial.computed.sum()) == 64
    assert bool(partial.loss[~partial.computed].isnan().all())
    assert max(map(abs, partial.x)) < 0.7
    for x, y in ((0.0, 0.0), (0.25, -0.25)):
        column, row = partial.x.index(x), partial.y.index(y)
        assert float(partial.loss[row, column]) == pytest.approx(smooth(x, y))
    assert partial.samples == whole.samples
    assert partial.axes == whole.axes


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_a_file_is_written_when_the_surface_is_whole(tmp_path, ending):
    if ending == ".h5":
        pytest.importorskip("h5py")
    out = tmp_path / f"surface{ending}"
    model, objective = network()
    settings = {"quantities": ["accuracy"], "also": {"test": objective}}
    plane = Plane.random(model)
    found = landscape(objective, plane, [0, 1], [0], out=out, **settings)
    same(Surface.load(out), found)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        out.name,
        f"{out.name}.points",
    ]
    again = landscape(objective, plane, [0, 1], [0], out=out, **settings)
    same(again, found)
    for name, quantity in found.quantities.items():
        assert torch.equal(again.quantities[name].values, quantity.values)
    partial = Surface.load(f"{out}.points")
    accuracy = partial.quantities["accuracy"].values
    assert torch.equal(accuracy, found.quantities["accuracy"].values)


def test_places_that_cannot_be_are_refused_before_any_work(tmp_path):
    objective, line = probe(lambda x: x, axes=1)
    (tmp_path / "file").touch()
    (tmp_path / "mine.npz").touch()
    refusals = {
        tmp_path / "surface.png": r"must end in .*\.npz",
        tmp_path / "file": "is no folder",
        tmp_path / "mine.npz": "has no points beside it .* resume=False",
        3: "out must be the path",
    }
    for out, rule in refusals.items():
        with pytest.raises(SettingError, match=rule):
            landscape(objective, line, [0, 1], out=out)
    with pytest.raises(SettingError, match="resume must be True or False"):
        landscape(objective, line, [0, 1], out=tmp_path, resume="no")
    assert not objective.model.seen
    landscape(objective, line, [0, 1], out=tmp_path / "mine.npz", resume=False)
    assert Surface.load(tmp_path / "mine.npz").loss.tolist() == [0, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteppeError):
        Surface.load(tmp_path / "empty")


def test_compiled_points_are_another_recipe(tmp_path):
    model, objective = network()
    line = Line.random(model)
    evaluators = [Evaluator(objective, line, compile=each) for each in (False, True)]
    plain, compiled = map(recipe_of, evaluators)
    assert [name for name in compiled if compiled[name] != plain.get(name)] == [
        "compile"
    ]
