"""Files of curves: fits that were killed, other networks, other fits, damage."""

import dataclasses
import functools
import itertools

import pytest
import torch
from torch import nn

import problems
from steppe import Curve, landscape
from steppe.errors import DataError, SettingError, StoreError
from steppe.landscapes.subspaces import curve_file, kept_fit

STEPS = 7


def networks():
    """Two networks whose training changes buffers that its losses depend on."""
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        first = nn.utils.parametrizations.spectral_norm(nn.Linear(problems.INPUTS, 6))
        model = nn.Sequential(first, nn.Dropout(0.3), nn.Linear(6, problems.CLASSES))
        models.append(model.double())
    return models


def adam(bends):
    return torch.optim.Adam(bends, lr=0.02)


def directions_of(curve):
    return list(itertools.chain(*curve.directions))


def assert_same(left, right):
    pairs = zip(directions_of(left), directions_of(right), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    assert left.losses == right.losses
    assert left.details == right.details


class KilledError(Exception):
    pass


def killed_after(steps):
    def progress(done, _):
        if done == steps:
            raise KilledError

    return progress


@pytest.mark.parametrize("make", [Curve.bezier, Curve.polychain])
@pytest.mark.parametrize("optimizer", [None, adam])
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, make, optimizer
):
    monkeypatch.setattr(kept_fit, "EVERY", 0.0)
    a, b = networks()
    curve = make(a, b, 2)
    settings = {"steps": STEPS, "seed": 3, "optimizer": optimizer}

    def fit(**more):
        objective = problems.objective(a, problems.vectors(), batch_size=7)
        return curve.fit(objective, **settings, **more), objective.cost.gradients

    whole, cost = fit()
    out, seen = tmp_path / "c.pt", []
    with pytest.raises(KilledError):
        fit(out=out, progress=killed_after(4))
    with pytest.raises(DataError, match="stopped after 4 steps"):
        Curve.from_file(out, a, b)
    resumed, rest = fit(out=out, progress=lambda done, _: seen.append(done))
    assert seen == [5, 6, 7]
    assert rest == pytest.approx(cost * 3 / STEPS)
    assert_same(resumed, whole)
    known, nothing = fit(out=out, progress=killed_after(0))
    assert nothing == 0
    assert_same(known, whole)
    assert_same(Curve.from_file(out, a, b.state_dict()), whole)


def loaders():
    """Ways to give batches, each made anew for a call, as a new process has them."""
    data = problems.vectors()
    rows = torch.utils.data.TensorDataset(*data)
    shuffled = functools.partial(
        torch.utils.data.DataLoader, rows, batch_size=5, shuffle=True
    )

    def own_draws():
        return shuffled(generator=problems.generator(5))

    def endless():
        source = problems.generator(5)
        while True:
            places = torch.randperm(len(data[0]), generator=source)[:5]
            yield tuple(t[places] for t in data)

    return [shuffled, own_draws, endless]


@pytest.mark.parametrize("batches", loaders())
def test_batches_of_a_loader_go_on_where_they_were(tmp_path, monkeypatch, batches):
    monkeypatch.setattr(kept_fit, "EVERY", 0.0)
    a, b = problems.mlp(), problems.mlp(seed=1)
    objective = problems.objective(a, problems.vectors())
    curve, out, steps = Curve.bezier(a, b), tmp_path / "c.pt", 9

    def fit(**more):
        return curve.fit(objective, steps=steps, batches=batches(), **more)

    whole = fit()
    with pytest.raises(KilledError):
        fit(out=out, progress=killed_after(steps - 2))
    assert_same(fit(out=out), whole)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_curve_comes_back_bit_for_bit_and_its_bends_are_plain_tensors(
    tmp_path, dtype
):
    a, b = (problems.mlp(seed=s).to(dtype) for s in (0, 1))
    source = problems.generator(4)
    for factor in (1e-6, 1.0, 1e6):  # sums of these are rounded
        straight = Curve.bezier(a, b, 2)
        bends = tuple(
            tuple(factor * torch.randn(d.shape, generator=source).to(dtype) for d in e)
            for e in straight.directions[:-1]
        )
        curve = dataclasses.replace(
            straight, directions=(*bends, straight.directions[-1]), losses=(0.5, 0.25)
        )
        out = tmp_path / f"{factor}.pt"
        curve.save(out)
        assert_same(Curve.from_file(out, a, b), curve)
        content = torch.load(out, weights_only=True)
        for bend, direction in zip(content["bends"], curve.directions, strict=False):
            for name, p, d in zip(curve.names, curve.base, direction, strict=True):
                assert torch.equal(bend[name], p + d)


def test_surfaces_of_a_stored_curve_are_those_of_the_fitted_one(tmp_path):
    a, b = problems.mlp(), problems.mlp(seed=1)
    objective = problems.objective(a, problems.vectors())
    curve = Curve.polychain(a, b).fit(objective, steps=3)
    curve.save(tmp_path / "c.pt")
    curve.save(tmp_path / "c.pt")  # the same one
    stored = Curve.from_file(tmp_path / "c.pt", a, b)
    left, right = (landscape(objective, c, (0, 1, 5)).loss for c in (curve, stored))
    assert torch.equal(left, right)
    assert stored.recipe["steps"] == 3


def test_other_networks_and_other_fits_are_refused(tmp_path):
    a, b, c = (problems.mlp(seed=s) for s in (0, 1, 2))
    objective = problems.objective(a, problems.vectors())
    out = tmp_path / "c.pt"
    curve = Curve.bezier(a, b)
    curve.fit(objective, steps=2, out=out)
    with pytest.raises(DataError, match="between other networks; swap the two"):
        Curve.from_file(out, b, a)
    with pytest.raises(DataError, match="other networks; give those"):
        Curve.from_file(out, a, c)
    for more, differing in (
        ({"steps": 3}, "steps"),
        ({"steps": 2, "seed": 1}, "seed"),
        ({"steps": 2, "optimizer": adam}, "optimizer"),
        ({"steps": 2, "batches": [problems.vectors()]}, "batches"),
    ):
        with pytest.raises(DataError, match=f"another fit: {differing} differ"):
            curve.fit(objective, out=out, **more)
    other = problems.objective(a, problems.vectors(), batch_size=7)
    with pytest.raises(DataError, match="another fit: data differ"):
        curve.fit(other, steps=2, out=out)
    with pytest.raises(DataError, match="holds another curve"):
        Curve.bezier(a, c).save(out)
    curve.fit(objective, steps=3, out=out, resume=False)
    assert Curve.from_file(out, a, b).details["fit_steps"] == 3


def test_code_that_was_changed_is_refused(tmp_path):
    a, b = problems.mlp(), problems.mlp(seed=1)
    factor = 1.0

    def loss(model, batch):
        return factor * model(batch[0]).square().sum(1)

    objective = problems.objective(a, problems.vectors(), loss=loss)
    curve, out = Curve.bezier(a, b), tmp_path / "c.pt"
    curve.fit(objective, steps=2, out=out)
    curve.fit(objective, steps=2, out=out)
    factor = 2.0
    with pytest.raises(DataError, match="code of the network, the loss or the batches"):
        curve.fit(objective, steps=2, out=out)


def test_what_is_no_curve_is_one_sentence(tmp_path):
    a, b = problems.mlp(), problems.mlp(seed=1)
    curve, out = Curve.bezier(a, b), tmp_path / "c.pt"
    objective = problems.objective(a, problems.vectors())
    for name in ("c.h5", "c"):
        with pytest.raises(SettingError, match=r"must end in \.pt"):
            curve.save(tmp_path / name)
    with pytest.raises(DataError, match="there is no file"):
        Curve.from_file(out, a, b)
    with pytest.raises(SettingError, match="resume must be True or False"):
        curve.fit(objective, steps=1, resume="no")
    for content in (b"", b"something", b"PK\x03\x04 of a zip"):
        out.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a curve"):
            curve.fit(objective, steps=1, out=out)
    torch.save(a, out)  # a pickle of code
    with pytest.raises(DataError, match="cannot be read as a curve"):
        Curve.from_file(out, a, b)
    torch.save(a.state_dict(), out)
    with pytest.raises(DataError, match="holds no curve of the format"):
        Curve.from_file(out, a, b)
    curve.save(out, overwrite=True)
    content = torch.load(out)
    name = curve.names[0]
    wrong = {
        "bends": [{name: torch.zeros(1)}],
        "kind": "spline",
        "ends": ["", ""],
        "recipe": "{",
        "losses": "none",
    }
    for entry, value in wrong.items():
        torch.save({**content, entry: value}, out)
        with pytest.raises(DataError, match=r"another curve than was|damaged curve"):
            Curve.from_file(out, a, b)
    own = {part: content[part] for part in curve_file.PARTS}
    formed = {
        "bends": (["text"], [dict.fromkeys(curve.names, "text")], []),
        "directions": (content["bends"] * 2,),
        "losses": (torch.zeros(2, 2), torch.zeros(())),
        "recipe": ("3",),
        "fit": ("text",),
    }
    for entry, value in ((e, value) for e, each in formed.items() for value in each):
        # A digest protects from damage, not from whoever writes one.
        parts = {**own, entry: value}
        digest = curve_file._digest(parts)
        torch.save({"format": curve_file.FORMAT, **parts, "digest": digest}, out)
        with pytest.raises(DataError, match="damaged curve"):
            Curve.from_file(out, a, b)
    (tmp_path / "folder").write_text("a file where a folder must be")
    with pytest.raises(StoreError, match="cannot write"):
        curve.save(tmp_path / "folder" / "c.pt")
