"""Planes around and through checkpoints of somebody else, their files and pictures."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import steppe
from own_files import package, saved
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces import fitting
from steppe.landscapes.subspaces.plane import Plane
from steppe.seeds import seed_of
from steppe.surfaces import Surface
from steppe_lab.cli import main

NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
"""
DATA = """
import torch

def load():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
OWN = ("--model", "planes.nets:build", "--data", "planes.data:load")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "planes", nets=NETS, data=DATA) as folder:
        yield folder


@pytest.fixture
def objectives(theirs):
    """Three networks in files, and the objective of each."""
    from planes import data

    names = ("a.pt", "b.pt", "c.pt")
    models = [saved(n, seed=i, nets="planes.nets") for i, n in enumerate(names)]
    return [steppe.Objective(model, data.load()) for model in models]


def run(text, *more):
    return main([*shlex.split(text), *OWN, *more])


def printed(capsys, text):
    capsys.readouterr()
    assert run(text, "--json") == 0
    return json.loads(capsys.readouterr().out)


def same(record, surface):
    np.testing.assert_allclose(record["loss"], surface.loss.numpy(), rtol=1e-6)
    np.testing.assert_allclose(record["stderr"], surface.stderr.numpy(), rtol=1e-5)


def frames(path):
    with Image.open(path) as opened:
        return opened.n_frames


def test_one_checkpoint_gives_a_random_plane_of_the_library(objectives, capsys):
    text = "landscape a.pt --x -1:1:3 --y=-0.5,0 --seed 3 --norm layer"
    record = printed(capsys, text)
    plane = Plane.random(objectives[0].model, norm="layer", seed=3)
    same(record, steppe.landscape(objectives[0], plane, (-1, 1, 3), [-0.5, 0]))
    assert record["y"] == [-0.5, 0]


def test_three_checkpoints_give_the_plane_through_them(objectives, capsys):
    record = printed(capsys, "landscape a.pt b.pt c.pt --x 0:1:2 --y 0:1:2")
    losses = [objective.value().value for objective in objectives]
    (first, second), (third, _) = record["loss"]
    assert [first, second, third] == pytest.approx(losses, rel=1e-6)


@pytest.mark.slow
def test_files_have_the_surface_and_pictures_their_kinds(objectives, capsys):
    out = "--out o/s.h5 o/s.npz o/s.csv o/s.png --pictures contour heat surface"
    assert run(f"landscape a.pt --x -1:1:5 --y -1:1:3 {out}") == 0
    said = capsys.readouterr().out
    pictures = [Path(f"o/s-{kind}.png") for kind in ("contour", "heat", "surface")]
    for path in (*pictures, "o/s.h5", "o/s.npz", "o/s.csv"):
        assert str(path) in said
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    surface = Surface.load("o/s.h5")
    assert torch.equal(surface.loss, Surface.load("o/s.npz").loss)
    rows = list(csv.DictReader(Path("o/s.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == surface.loss.flatten().tolist()
    base = objectives[0].value()
    assert f"Loss {base.value:.2f}"[:8] in said
    assert "at a.pt (0, 0)." in said
    assert re.search(r"On the grid it is highest at \(\S+, \S+\), \d", said)
    assert "basin" in said


def test_passes_may_be_in_bfloat16(objectives, capsys):
    text = "landscape a.pt --x 0,1 --y 0,1 --dtype bfloat16"
    record = printed(capsys, text)
    expected = objectives[0].value().value
    assert record["loss"][0][0] == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_ranges_are_sought(objectives, capsys):
    record = printed(capsys, "landscape a.pt --x auto:9 --y auto:9 --exact")
    assert len(record["x"]) == 9
    assert record["x"][0] < -1
    assert "auto" in record["details"]


def test_some_points_are_interpolated_to_a_tolerance(objectives, capsys):
    text = "landscape a.pt --dims 1 --x -1:1:51 --out s.csv"
    assert run(text) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of 51 points were evaluated, and the others interpolated" in said
    rows = list(csv.DictReader(Path("s.csv").read_text().splitlines()))
    assert {row["computed"] for row in rows} == {"True", "False"}
    record = printed(capsys, f"{text} --exact --samples 30")
    line = steppe.Line.random(objectives[0].model)
    expected = steppe.landscape(objectives[0], line, samples=30, exact=True)
    same(record, expected)


@pytest.mark.slow
def test_the_second_axis_may_have_another_norm_or_another_kind(objectives, capsys):
    a, b, _ = objectives
    second = steppe.Line.random(a.model, "layer", "none", seed_of(3, 1))
    axes = "--x 0,1 --y 0,0.5 --seed 3 --y-norm layer --y-ignore none"
    record = printed(capsys, f"landscape a.pt {axes}")
    plane = Plane.of(steppe.Line.random(a.model, seed=3), second)
    same(record, steppe.landscape(a, plane, [0, 1], [0, 0.5]))
    record = printed(capsys, f"landscape a.pt b.pt {axes}")
    plane = Plane.of(steppe.Line.between(a.model, b.model), second)
    same(record, steppe.landscape(a, plane, [0, 1], [0, 0.5]))
    record = printed(capsys, "landscape a.pt --x 0,1 --y 0,1 --same-dir")
    assert record["loss"][0][1] == pytest.approx(record["loss"][1][0])


def test_directions_of_a_file_make_the_same_surface(objectives, capsys):
    assert run("landscape a.pt --x 0,1 --y 0,1 --seed 5 --out a.h5") == 0
    capsys.readouterr()
    record = printed(capsys, "landscape a.pt --dir-file a.h5 --x 0,1 --y 0,1")
    same(record, Surface.load("a.h5"))


def test_an_accuracy_stands_beside_the_loss(objectives, capsys):
    text = "landscape a.pt --x 0,1 --y 0,1 --quantities accuracy,gradient_norm"
    record = printed(capsys, text)
    x, y = objectives[0].batch(0)
    right = (objectives[0].model(x).argmax(1) == y).double().mean()
    found = record["quantities"]["accuracy"]["values"][0][0]
    assert found == pytest.approx(float(right))
    assert run(f"{text} --quantity accuracy --out p.png") == 0


@pytest.mark.slow
def test_lines_and_planes_follow_eigenvectors(objectives, capsys):
    record = printed(capsys, "landscape a.pt --dirs eigen --x -1,0,1 --y 0,1")
    plane = Plane.eigen(objectives[0])
    same(record, steppe.landscape(objectives[0], plane, [-1, 0, 1], [0, 1]))
    text = "landscape a.pt --dirs eigen --dims 1 --eigenvectors -1 --lr 0.1 --x 0,1"
    record = printed(capsys, text)
    line = steppe.Line.eigen(objectives[0], -1, unit="step", lr=0.1)
    same(record, steppe.landscape(objectives[0], line, [0, 1]))


def test_planes_follow_components_of_checkpoints(objectives, capsys):
    text = "landscape c.pt --dirs pca --x 0,1 --y 0,1 --checkpoints a.pt b.pt c.pt"
    record = printed(
        capsys, text.replace(" --checkpoints", " --ignore none --checkpoints")
    )
    models = [objective.model for objective in objectives]
    plane = Plane.pca(models)
    same(record, steppe.landscape(objectives[2], plane, [0, 1], [0, 1]))
    (path,) = record["paths"]
    assert path["labels"] == ["a", "b", "c"]
    assert path["residual"] == pytest.approx([0, 0, 0], abs=1e-5)
    losses = [objective.value().value for objective in objectives]
    assert path["loss"] == pytest.approx(losses, rel=1e-6)


@pytest.mark.slow
def test_surfaces_are_drawn_from_their_files_on_one_scale(objectives, capsys):
    for name in ("a", "b"):
        out = f"--x -1:1:3 --y -1:1:3 --out {name}.h5"
        assert run(f"landscape {name}.pt {out}") == 0
    capsys.readouterr()
    words = "landscape plot a.h5 b.h5 --pictures contourf surface --out both.png p.html"
    assert main(shlex.split(words)) == 0
    said = capsys.readouterr().out
    assert "a: On the grid it is highest at" in said
    assert "both-contourf.png" in said
    assert Path("both-surface.png").is_file()
    assert "<html" in Path("p.html").read_text()
    # The published program has flags of its own for one file.
    assert main(shlex.split("landscape plot --surf_file a.h5 --vlevel 0.2")) == 0


@pytest.mark.slow
def test_pictures_move_over_surfaces_or_along_a_path(objectives, capsys):
    assert run("landscape a.pt --x 0,1 --y 0,1 --out a.h5") == 0
    assert run("landscape b.pt --x 0,1 --y 0,1 --out b.h5") == 0
    assert main(shlex.split("landscape plot a.h5 b.h5 --out two.gif")) == 0
    assert frames("two.gif") == 2
    text = "landscape project a.pt a.h5 --checkpoints c.pt b.pt a.pt --out path.gif"
    assert run(text) == 0
    assert frames("path.gif") == 3


def test_a_surface_is_converted(objectives, capsys):
    assert run("landscape a.pt --x -1:1:3 --y -1:1:3 --out a.h5") == 0
    assert main(shlex.split("landscape convert a.h5 b.npz b.csv b.png b.vtp")) == 0
    assert torch.equal(Surface.load("a.h5").loss, Surface.load("b.npz").loss)
    assert Path("b.csv").is_file()
    assert Path("b.png").is_file()


@pytest.mark.slow
def test_a_path_is_projected_onto_a_surface_from_its_file(objectives, capsys):
    axes = "--ignore none --x -1:1:3 --y -1:1:3 --out c.h5"
    assert run(f"landscape c.pt --dirs pca --checkpoints a.pt b.pt {axes}") == 0
    assert len(Surface.load("c.h5").paths) == 1
    text = "landscape project c.pt c.h5 --checkpoints a.pt b.pt --out d.h5 d.png"
    record = printed(capsys, text)
    losses = [objective.value().value for objective in objectives[:2]]
    assert record["loss"] == pytest.approx(losses, rel=1e-6)
    assert record["residual"] == pytest.approx([0, 0], abs=1e-5)
    assert len(Surface.load("d.h5").paths) == 2
    assert run(text) == 0
    assert "off the subspace" in capsys.readouterr().out


@pytest.mark.slow
def test_a_curve_connects_two_networks(objectives, capsys):
    few = "--curve-steps 30 --points 5"
    assert run(f"landscape connect a.pt b.pt {few} --out e.png e.csv") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Along the curve the loss is at most" in said
    assert "times as long as the line" in said
    record = printed(capsys, f"landscape connect a.pt b.pt {few} --view curve")
    a, b, _ = objectives
    curve = steppe.Curve.bezier(a.model, b.model).fit(a, steps=30)
    same(record["surfaces"]["curve"], steppe.landscape(a, curve, (0, 1, 5)))
    maximum = record["statistics"]["curve"]["maximum"]
    assert maximum == max(record["surfaces"]["curve"]["loss"])
    text = f"landscape connect a.pt b.pt {few} --view plane --out e.h5 e.png"
    assert run(text) == 0
    assert [path.name for path in Surface.load("e.h5").paths] == ["bezier", "line"]


def test_a_stored_curve_is_drawn_without_a_fit(objectives, capsys, monkeypatch):
    few = "landscape connect a.pt b.pt --view curve --points 5"
    first = printed(capsys, f"{few} --curve-steps 9 --out curve.pt e.csv")
    assert first["files"] == ["curve.pt", "e.csv"]
    a, b, _ = objectives
    stored = steppe.Curve.from_file("curve.pt", a.model, b.model)
    assert stored.losses == steppe.Curve.bezier(a.model, b.model).fit(a, steps=9).losses
    with monkeypatch.context() as patch:
        patch.setattr(fitting._Path, "share_out", lambda *_: pytest.fail("a step"))
        again = printed(capsys, f"{few} --curve-steps 9 --out curve.pt e.csv")
        of_file = printed(capsys, f"{few} --curve-file curve.pt --out other.pt f.csv")
        more = printed(
            capsys, f"{few.replace('5', '9')} --curve-file curve.pt --out g.csv"
        )
    curves = [each["surfaces"]["curve"]["loss"] for each in (first, again, of_file)]
    assert curves[0] == curves[1] == curves[2]
    assert more["surfaces"]["curve"]["loss"][::2] == curves[0]
    for text, message in (
        ("--curve-file curve.pt --bends 2", "bends belong to the fit of a curve"),
        ("--curve-file none.pt", "there is no file none.pt"),
        ("--curve-file a.pt", "a.pt holds no curve of the format"),
        (
            "--curve-steps 8 --out curve.pt",
            "curve.pt exists and was not made of the same",
        ),
        ("--curve-steps 8 --out a.pt", "a.pt exists and was not made of the same"),
    ):
        words = [*shlex.split(f"{few} {text}"), *OWN]
        assert message in refused(capsys, monkeypatch, words)
    words = [*shlex.split("landscape connect b.pt a.pt --curve-file curve.pt"), *OWN]
    assert "swap the two" in refused(capsys, monkeypatch, words)


def test_a_bend_on_the_line_has_no_plane(objectives, capsys, monkeypatch):
    def plane(curve):
        raise steppe.errors.UsageError("no plane")

    monkeypatch.setattr(steppe.Curve, "plane", plane)
    text = "landscape connect a.pt b.pt --curve-steps 1 --points 3 --out e.png"
    assert run(text) == 0
    assert "no plane to draw" in capsys.readouterr().out
    assert run(f"{text} --view plane") == 2
    assert run("landscape connect a.pt a.pt") == 2
    assert "a.pt and a.pt have the same weights" in capsys.readouterr().err


def test_barriers_of_every_two_networks_are_a_table(objectives, capsys):
    text = "landscape barriers a.pt b.pt c.pt --points 5 --out barriers.png"
    assert run(text) == 0
    said = capsys.readouterr().out
    assert "a.pt - c.pt" in said
    assert Path("barriers.png").read_bytes().startswith(b"\x89PNG")
    record = printed(capsys, text)
    assert "finished before" in record["notes"][-1]


def test_a_command_that_was_stopped_goes_on(objectives, capsys, monkeypatch):
    text = "landscape a.pt --x -1:1:9 --y 0,1 --exact --out f.h5"
    given = Walk.go_to
    calls = iter(range(1, 10**6))

    def stopping(*args):
        if next(calls) == 12:
            raise KeyboardInterrupt
        return given(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Walk, "go_to", stopping)
        assert run(text) == 130
    assert "what is finished is kept" in capsys.readouterr().err
    assert run(text) == 0
    whole = steppe.landscape(
        objectives[0], Plane.random(objectives[0].model), (-1, 1, 9), [0, 1], exact=True
    )
    assert torch.equal(Surface.load("f.h5").loss, whole.loss)
    moves = []
    with monkeypatch.context() as patch:
        patch.setattr(Walk, "go_to", lambda *args: (moves.append(1), given(*args)))
        assert run(text) == 0
    assert len(moves) <= 2  # to the base alone


def test_a_file_of_the_name_of_a_subcommand_is_a_checkpoint(objectives, capsys):
    Path("plot").write_bytes(Path("a.pt").read_bytes())
    assert run("landscape plot --dims 1 --x 0,1 --out s.csv") == 0
    assert "at plot (0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landscape a.pt --dims 1 --y 0,1", "a line has no y"),
        ("landscape a.pt b.pt c.pt --dims 1", "needs 2 checkpoints, got 3"),
        ("landscape a.pt --dirs models", "needs 3 checkpoints, got 1"),
        ("landscape a.pt --dirs file", "dirs=file and dir_file go together"),
        ("landscape a.pt --quantities speed", "speed"),
        ("landscape a.pt b.pt --dirs random", "goes around one checkpoint, got 2"),
        ("landscape a.pt --dirs pca", "give --checkpoints"),
        ("landscape a.pt --lr 0.1", "eigenvectors and lr go with dirs=eigen"),
        ("landscape a.pt --dirs eigen --eigenvectors 0", "one for each of 2 axes"),
        ("landscape a.pt --dirs pca --checkpoints none.pt", "there is no file none.pt"),
        ("landscape a.pt --pictures heat heat", "name each of --pictures once"),
        ("landscape a.pt --out a.csv a.csv", "name every file to write once"),
        ("landscape a.pt --out a.pdf", "files to write must end in"),
        ("landscape a.pt --dims 1 --out a.html", "a page is of a plane"),
        ("landscape plto a.h5", "did you mean `steppe landscape plot`?"),
        ("landscape .", "name a file of weights"),
        ("landscape a.pt --out a.gif", "files to write must end in"),
    ],
)
def test_mistakes_are_one_sentence(objectives, capsys, text, message):
    assert run(text) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landscape a.pt b.pt --out a.vtp", "a VTP file is of a plane"),
        ("landscape a.pt --quantity accuracy", "--quantity accuracy is not evaluated"),
        ("landscape a.pt --vmin 3 --vmax 1", "vmin must be < vmax"),
        ("landscape a.pt --log --vmin 0", "logarithmic scale must be > 0"),
        ("landscape connect a.pt b.pt --quantity accuracy", "is not evaluated"),
        ("landscape connect a.pt b.pt --out a.vtp", "a VTP file is of a plane"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_any_work(
    objectives, capsys, monkeypatch, text, message
):
    monkeypatch.setattr("steppe_lab.analysis.single.read_network", None)
    monkeypatch.setattr("steppe_lab.analysis.landscapes.read_network", None)
    monkeypatch.setattr("steppe_lab.analysis.connecting.read_network", None)
    assert run(text) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landscape plot missing.h5", "there is no file missing.h5"),
        ("landscape plot a.pt", "a.pt is of torch.save"),
        ("landscape plot a.h5 a.h5", "name every file of a surface once"),
        ("landscape plot a.h5 line.h5", "as many axes, got 2 in a.h5 and 1"),
        ("landscape plot a.h5 --out a.csv", "files to write must end in .png"),
        ("landscape plot a.h5 --quantity accuracy", "quantity"),
        ("landscape convert a.h5 a.h5", "is the file that is read"),
        ("landscape convert a.h5 a.xyz", "files to write must end in"),
        (
            "landscape plot a.h5 --out a.gif",
            "needs several surfaces, or one with a path",
        ),
        ("landscape plot line.h5 --out a.gif", "a moving picture is of a plane"),
    ],
)
def test_mistakes_about_files_are_one_sentence(objectives, capsys, text, message):
    assert run("landscape a.pt --x 0,1 --y 0,1 --out a.h5") == 0
    assert run("landscape a.pt --dims 1 --x 0,1 --out line.h5") == 0
    capsys.readouterr()
    assert main(shlex.split(text)) == 2
    assert message in capsys.readouterr().err


def test_steps_that_decimals_meet_are_met(objectives, capsys):
    record = printed(capsys, "landscape a.pt b.pt --x=-0.2:1.2:15")
    assert {0.0, 1.0} <= set(record["x"])
    assert record["notes"] == []


def test_a_line_between_equal_networks_is_noted(objectives, capsys):
    (note,) = printed(capsys, "landscape a.pt a.pt --x 0,1 --out s.csv")["notes"]
    assert note == "a.pt and a.pt have the same weights, so nothing changes along x"


SMALL = "--x 0,1 --y 0,1"
OTHER_DATA = """
import torch

def load():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    return x, (x.sum(1) > 0).long()
"""


def refused(capsys, monkeypatch, words):
    """The sentence that refuses a command, which evaluates no point."""
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Walk, "go_to", lambda *_: pytest.fail("a point was evaluated"))
        assert main(words) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("ending", ["h5", "nc", "npz"])
def test_a_surface_of_another_recipe_is_not_replaced(
    objectives, theirs, capsys, monkeypatch, ending
):
    (theirs / "planes" / "more.py").write_text(OTHER_DATA)
    out = f"s.{ending}"
    text = f"landscape a.pt {SMALL} --out {out} s.csv"
    assert run(text) == 0
    content = Path(out).read_bytes()
    assert run(text) == 0  # goes on
    assert Path(out).read_bytes() == content
    others = (
        [*shlex.split(text), *OWN[:2], "--data", "planes.more:load"],
        [*shlex.split(text), *OWN, "--seed", "1"],
        [*shlex.split(text.replace("a.pt", "b.pt")), *OWN],
        [*shlex.split(text.replace("--x 0,1", "--x 0,0.5")), *OWN],
    )
    for words in others:
        said = refused(capsys, monkeypatch, words)
        assert f"{out} exists and was not made of the same networks" in said
    assert Path(out).read_bytes() == content
    assert main([*others[0], "--overwrite"]) == 0
    assert Path(out).read_bytes() != content


def test_a_file_that_is_no_surface_is_not_replaced(objectives, capsys, monkeypatch):
    Path("s.npz").write_bytes(b"something of mine")
    for text in (
        f"landscape a.pt {SMALL} --out s.npz",
        "landscape connect a.pt b.pt --curve-steps 2 --points 3 --out s.npz",
    ):
        words = [*shlex.split(text), *OWN]
        assert "s.npz exists" in refused(capsys, monkeypatch, words)
    assert run(f"landscape a.pt {SMALL} --out a.npz") == 0
    words = shlex.split("landscape convert a.npz s.npz")
    assert "s.npz exists" in refused(capsys, monkeypatch, words)
    text = "landscape project a.pt a.npz --checkpoints b.pt --out s.npz"
    words = [*shlex.split(text), *OWN]
    assert "s.npz exists" in refused(capsys, monkeypatch, words)
    assert Path("s.npz").read_bytes() == b"something of mine"
    assert main([*words, "--overwrite"]) == 0
    assert main(words) == 0


def test_a_path_is_of_the_data_of_its_surface(objectives, theirs, capsys, monkeypatch):
    (theirs / "planes" / "more.py").write_text(OTHER_DATA)
    assert run(f"landscape a.pt {SMALL} --out a.npz") == 0
    text = "landscape project a.pt a.npz --checkpoints b.pt --out p.png"
    words = [*shlex.split(text), *OWN[:2], "--data", "planes.more:load"]
    assert "a.npz has data" in refused(capsys, monkeypatch, words)
    words = [*shlex.split(text), *OWN, "--data-samples", "10"]
    assert "a.npz has data" in refused(capsys, monkeypatch, words)


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ("--x=-1:1:5 --y=-1:1:4", "along y is 0, but with --y=-1:1:5 one is"),
        ("--x=-1:1:4 --y=-1:1:5", "along x is 0, but with --x=-1:1:5 one is"),
        ("--dims 1 --x 0.5:1:3", "x goes from 0.5 to 1, without 0"),
        ("--dims 1 --x=-0.7:1:4", "along x is 0; choose a range or a list"),
    ],
)
def test_a_grid_that_misses_the_checkpoint_says_why(objectives, capsys, axes, why):
    assert run(f"landscape a.pt {axes} --out s.csv") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert why in said
    assert said.count("no coordinate along") + said.count("goes from") == 1
    loss = objectives[0].value()
    assert said.startswith(f"Loss {loss.value:.2g}")


def test_finished_points_that_cannot_be_kept_stop_at_once(
    objectives, capsys, monkeypatch
):
    Path("taken").write_text("")
    words = [*shlex.split(f"landscape a.pt {SMALL} --keep taken"), *OWN]
    assert "cannot write taken" in refused(capsys, monkeypatch, words)
    words = [*shlex.split("landscape a.pt --dims 1 --pictures surface"), *OWN]
    assert "a line has one kind of picture" in refused(capsys, monkeypatch, words)
