"""Rows of an objective's data in other batches."""

import pytest
import torch

import problems
from steppe.errors import DataError, UsageError
from steppe.objective import Objective
from steppe.samples import is_row_by_row, regrouped, row_count, rows_of


def test_rows_of_all_batches_are_dealt_to_new_ones_in_the_order_asked():
    x, y = problems.vectors(11)
    objective = problems.objective(problems.linear(), (x, y), batch_size=4)
    groups = [torch.tensor(rows) for rows in ([10, 0, 5, 4], [3], [9, 9, 2])]
    found = regrouped(objective, groups)
    assert row_count(objective) == 11
    for (inputs, targets), rows in zip(found.batches, groups, strict=True):
        assert torch.equal(inputs, x[rows])
        assert torch.equal(targets, y[rows])
    each = problems.objective(problems.linear(), (x, y)).losses()
    torch.testing.assert_close(found.losses(), each[torch.cat(groups)])


def test_settings_of_the_objective_stay():
    objective = problems.objective(
        problems.linear(), problems.vectors(), mode="train", seed=3
    )
    found = regrouped(objective, [torch.tensor([0, 6])])
    assert (found.mode, found.seed, found.loss) == ("train", 3, objective.loss)


def test_batches_without_rows_are_refused():
    def loss(model, batch):
        return model(batch["x"]).sum(1)

    data = [{"x": torch.ones(2, 4).double(), "name": "a"}]
    objective = Objective(problems.linear(), data, loss=loss)
    assert rows_of(data[0]) is None
    with pytest.raises(UsageError, match="batch 0 has none; give batches"):
        regrouped(objective, [torch.tensor([0])])


def test_rows_of_different_shapes_cannot_be_joined():
    def loss(model, batch):
        return model(batch).sum((1, 2))

    data = [torch.ones(2, length, 4).double() for length in (3, 5)]
    objective = Objective(problems.linear(), data, loss=loss)
    with pytest.raises(DataError, match="pad them to one length"):
        regrouped(objective, [torch.tensor([0, 3])])


def test_batch_statistics_are_not_row_by_row():
    for mode, expected in (("eval", True), ("train", False)):
        model, data = problems.networks()["batch_norm"]
        assert is_row_by_row(problems.objective(model, data, mode=mode)) == expected
