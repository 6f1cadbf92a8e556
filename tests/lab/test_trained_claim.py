"""Our numbers of a claim are those of its own cells, seeds and protocols.

Results are written by hand: the number of a network says its settings and its seed.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from steppe.errors import SettingError
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.published import Cell, Quantity, Scale
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.runs.scoring import Scoring
from steppe_lab.store.store import Store

SECOND = 0.5  # is added by the published protocol, which smooths labels


def number(store, run):
    """Hidden units by 10, the first digit of the rate by 1000, the seed, the epochs."""
    recipe = store.config(run)
    return (
        10 * int(recipe["model"]["settings"]["hidden"])
        + 1000 * round(10 * float(recipe["base"]["settings"]["lr"]))
        + recipe["seed"]
        + 100_000 * recipe["epochs"]
        + (SECOND if recipe.get("label_smoothing") else 0.0)
    )


def read(store, runs):
    assert store.config(runs["scoring"])["training"] == runs["training"]
    assert store.result(runs["scoring"])["of"] == runs["training"]
    return number(store, runs["training"])


def scored(trial):
    return {"scoring": Scoring(training=trial.run, checkpoint="best")}


# Cells share values of settings, so that their order in the zip is that of no setting.
NETWORKS = {"b/wide": (5, 0.1), "a/wide": (5, 0.3), "a/narrow": (2, 0.3), "c": (3, 0.2)}
CLAIM = TrainedClaim(
    experiment="toy",
    name="mapped",
    title="cells have their own numbers",
    source="Table 1",
    quantity=Quantity(name="number", title="number", factor=2.0),
    tolerance=1.0,
    reproduced="The number is the same.",
    base={"data": "digits", "batch_size": 20},
    sizes={
        "full": Scale(settings={"epochs": 4}, seeds=2),
        "smoke": Scale(settings={"epochs": 1}, cells=("c", "a")),
    },
    cells=tuple(
        Cell(
            name=name,
            settings={"model": f"mlp:hidden={hidden},depth=1", "base": f"sgd:lr={lr}"},
        )
        for name, (hidden, lr) in NETWORKS.items()
    ),
    further=scored,
    read=read,
)


def expected(name, seed, scale):
    hidden, lr = NETWORKS[name]
    epochs = {"full": 4, "smoke": 1}[scale]
    return 2 * (10 * hidden + 1000 * round(10 * lr) + seed + 100_000 * epochs)


def finish(store, study, runs=None):
    """Write a result for each run of a study, or for some trainings alone."""
    for run in study.plan if runs is None else runs:
        (follower,) = study.study.followers(run).values()
        config = study.plan.followers(run)["scoring"]
        assert store.add(study.plan[run].config) == run
        assert store.add(config) == follower
        store.finish(run, {"x": 0.0})
        store.finish(follower, {"of": run})


@pytest.mark.parametrize("protocol", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[2::9])
def test_numbers_of_cells_and_seeds_are_their_own(order, protocol, tmp_path):
    claim = replace(
        CLAIM,
        cells=tuple(CLAIM.cells[place] for place in order),
        protocol_settings=protocol,
    )
    store = Store(tmp_path)
    # Parts first, then more seeds, then the other scale, in one store.
    for scale, cells, seeds in (
        ("full", ("a/narrow",), 1),
        ("full", ("a", "c"), 3),
        ("full", (), None),
        ("smoke", ("c",), 2),
        ("smoke", (), None),
    ):
        request = Request(scale=scale, cells=cells, seeds=seeds)
        study = claim.study(request, store)
        finish(store, study)
        count = seeds or claim.sizes[scale].seeds
        chosen = [cell.name for cell in claim.chosen(request)]
        ours = claim.ours(request, study)
        assert set(ours) == set(chosen)
        of_seeds = claim.by_seed(request, study)
        for name in chosen:
            values = {seed: expected(name, seed, scale) for seed in range(count)}
            assert of_seeds[name] == values
            mean = sum(values.values()) / count
            assert ours[name].value.mean == pytest.approx(mean, abs=1e-9)
            assert ours[name].value.count == count
            if protocol:
                assert ours[name].protocol.count == count
                by_protocol = mean + 2 * SECOND
                assert ours[name].protocol.mean == pytest.approx(by_protocol, abs=1e-9)
            else:
                assert ours[name].protocol is None


def test_a_cell_whose_runs_are_not_all_finished_has_the_numbers_of_the_others(tmp_path):
    store, request = Store(tmp_path), Request()
    study = CLAIM.study(request, store)
    seed_of = {run: trial.recipe.seed for run, trial in study.plan.items()}
    finish(store, study, [run for run, seed in seed_of.items() if seed == 1])
    ours = CLAIM.ours(request, study)
    for name in NETWORKS:
        assert ours[name].value.mean == expected(name, 1, "full")
        assert ours[name].value.count == 1


def test_without_its_published_protocol_a_cell_has_no_number_to_compare(tmp_path):
    claim = replace(CLAIM, protocol_settings={"label_smoothing": 0.1})
    store, request = Store(tmp_path), Request()
    study = claim.study(request, store)
    plain = [run for run, t in study.plan.items() if not t.recipe.label_smoothing]
    finish(store, study, plain)
    for each in claim.ours(request, study).values():
        assert each.value is None
        assert "published protocol" in each.why_not


def test_cells_with_the_same_settings_are_refused(tmp_path):
    cells = (*CLAIM.cells, replace(CLAIM.cells[0], name="again"))
    with pytest.raises(SettingError, match="have the same settings"):
        replace(CLAIM, cells=cells).study(Request(), Store(tmp_path))
