"""GIFs along training: frames, times, one scale, refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from steppe import plots
from steppe.errors import SettingError
from steppe.surfaces import Surface, Trajectory

X = tuple(np.linspace(-1, 1, 7))


def plane(factor=1.0, size=7):
    x = X[:size]
    along, across = np.meshgrid(x, X)
    loss = torch.from_numpy(factor * (0.1 + along**2 + across**2))
    return Surface(
        coordinates=(x, X), loss=loss, stderr=torch.zeros_like(loss), samples=9
    )


def trajectory(count, name="run"):
    return Trajectory(
        coordinates=torch.linspace(0.9, 0, count)[:, None].repeat(1, 2),
        residual=torch.zeros(count),
        relative_residual=torch.zeros(count),
        labels=tuple(f"epoch {i}" for i in range(count)),
        loss=torch.linspace(2, 0.1, count),
        name=name,
    )


def opened(path):
    frames = []
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            frames.append((image.info["duration"], np.array(image.convert("RGB"))))
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contourf", "contour", "heat", "surface3d"])
def test_every_surface_has_a_frame_of_one_size(kind, tmp_path):
    surfaces = {f"epoch {i}": plane(1.0 + i) for i in range(3)}
    path = plots.animate(surfaces, tmp_path / "a" / "b.gif", kind=kind, dpi=50)
    frames = opened(path)
    assert path.read_bytes().startswith(b"GIF89a")
    assert [duration for duration, _ in frames] == [250, 250, 1500]
    assert len({image.shape for _, image in frames}) == 1
    assert not np.array_equal(frames[0][1], frames[2][1])


def test_frames_share_the_scale_and_have_their_labels(tmp_path, monkeypatch):
    seen = []
    original = plots.animation._KINDS["heat"]

    def draw(surfaces, **settings):
        figure = original(surfaces, **settings)
        seen.append((figure.axes[0].get_title(), figure.axes[-1].get_ylim()))
        return figure

    monkeypatch.setitem(plots.animation._KINDS, "heat", draw)
    plots.animate(
        {"one": plane(), "two": plane(50)}, tmp_path / "a.gif", kind="heat", dpi=20
    )
    assert [title for title, _ in seen] == ["one", "two"]
    assert seen[0][1] == seen[1][1] == pytest.approx((0.1, 50 * 2.1))


@pytest.mark.slow
def test_a_trajectory_grows_to_its_end(tmp_path):
    surface = plane().with_path(trajectory(5)).with_path(trajectory(2, "short"))
    frames = opened(plots.animate(surface, tmp_path / "a.gif", dpi=40, seconds=0.1))
    assert [duration for duration, _ in frames] == [100] * 4 + [600]
    many = plane().with_path(trajectory(40))
    few = opened(plots.animate(many, tmp_path / "b.gif", dpi=30, frames=3))
    assert len(few) == 3


@pytest.mark.slow
def test_the_same_gif_each_time(tmp_path):
    surfaces = {"a": plane(), "b": plane(2)}
    first, second = (
        plots.animate(surfaces, tmp_path / name, dpi=30).read_bytes()
        for name in ("a.gif", "b.gif")
    )
    assert first == second


def test_wrong_calls_get_one_sentence(tmp_path):
    path = tmp_path / "a.gif"
    for settings, message in (
        ({"kind": "pie"}, "kind must be 'contourf', 'contour', .*'pie'"),
        ({"seconds": 0}, "seconds must be > 0, got 0"),
        ({"frames": 1}, "frames must be >= 2, got 1"),
        ({"dpi": 0.5}, "dpi must be a whole number >= 1, got 0.5"),
    ):
        with pytest.raises(SettingError, match=message):
            plots.animate({"a": plane()}, path, **settings)
    with pytest.raises(SettingError, match=r"or one with a trajectory; add one by"):
        plots.animate(plane(), path)
    with pytest.raises(SettingError, match=r"at least two points .*along x"):
        plots.animate({"a": plane(size=1)}, path)
    assert not path.exists()
