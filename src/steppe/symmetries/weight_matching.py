"""Weight matching: hidden units of one network in the order of those of another.

Source: Ainsworth, Hayase and Srinivasa, 2023, arXiv:2209.04836, Algorithm 1: one group
of units after the other gets the order whose weights have the largest inner product
with those of the first network, until no group gains. Differences: the groups are read
off the graph of the network, heads of an attention among them, which move as blocks
(the order of the entries of a head, which only queries with keys and values with
outputs share, stays); batch norm is matched by its weight and bias, and its
statistics move along; an order is taken only where it makes the inner product of all
weights larger, so that the descent ends also where a layer reads the group it writes;
and as it ends at one of many orders, it begins several times, once as published from
the orders given and then from random ones, and the nearest end counts.

Shape letters: N units of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from steppe.errors import UsageError, check_count, check_integer
from steppe.linalg.assignment import largest_assignment
from steppe.measuring.evaluation import outputs_seen
from steppe.measuring.model_state import apart
from steppe.objective import Objective, check_objective
from steppe.parameters import load_, restored
from steppe.results import Cost
from steppe.seeds import stream
from steppe.state_dicts import check_shapes, tensors_of
from steppe.symmetries.unit_groups import (
    UnitGroup,
    in_blocks,
    permuted,
    reordered,
    unit_groups,
)
from steppe.torch_internals import tree_leaves

SWEEPS = 100  # over all groups, at most
GAIN = 1e-12  # of the inner product of the weights, as a share of their squared norms


def weight_matching(
    objective: Objective,
    other: nn.Module | Mapping[str, Tensor],
    *,
    starts: int = 3,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The second network with its hidden units in the order of those of the first.

    It computes the same function; its first batch is run to see it.

    Args:
        objective: of the first network, whose units stay where they are.
        other: second network of the same structure, or its state_dict.
        starts: number of searches, of which the nearest end counts.
        seed: of the orders that searches begin from, and of turns of the groups.

    Returns:
        A state_dict of the second network.

    Raises:
        SettingError: no second network, or one with other tensors.
        UsageError: no hidden unit can change places, or the outputs change with them,
            as where a layer reads a part of them alone.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> turned = {k: v.clone() for k, v in model.state_dict().items()}
        >>> for name, dim in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        ...     turned[name] = turned[name].flip(dim)
        >>> data = (torch.eye(2), torch.tensor([0, 1]))
        >>> matched = weight_matching(Objective(model, data), turned)
        >>> torch.equal(matched["0.weight"], model[0].weight)
        True
    """
    check_objective(objective, "weight_matching")
    check_count("starts", starts, 1)
    check_integer("seed", seed)
    model = objective.model
    own = model.state_dict()
    given = tensors_of("other", other, own)
    check_shapes("other", own, given)
    state = {name: given[name].detach() for name in own}
    with objective.measuring():
        groups = unit_groups(objective)
        if not groups:
            raise UsageError(
                "weight matching needs hidden units that can change places, but this "
                "network has none that the graph of its outputs shows; compare it "
                "without matching."
            )
        search = _Search(model, state, groups)
        ends = [search.run(seed, start) for start in range(starts)]
        orders = max(ends, key=search.similarity)
        moved = _with_aliases(model, permuted(state, groups, orders))
        _check_function(objective, state, groups, orders)
    # The groups take one pass over the first batch, the check two.
    objective.cost += Cost(forwards=3 / len(objective.batches))
    return moved


class _Search:
    """The search for orders of the units of a second network."""

    def __init__(
        self, model: nn.Module, state: Mapping[str, Tensor], groups: list[UnitGroup]
    ) -> None:
        self.groups = groups
        self.places: dict[str, list[tuple[int, int]]] = {}
        for turn, group in enumerate(groups):
            for name, dim in group.places:
                self.places.setdefault(name, []).append((turn, dim))
        # Statistics of batch norm are no weights: they move along unseen.
        params = {n: p for n, p in model.named_parameters() if n in self.places}
        self.first = {name: _wide(p) for name, p in params.items()}
        self.second = {name: _wide(state[name]) for name in params}
        weights = (*self.first.values(), *self.second.values())
        self.least = GAIN * float(sum(t.square().sum() for t in weights))

    def run(self, seed: int, start: int) -> list[Tensor]:
        """For each group the old place of each unit, at the end of one search.

        Args:
            seed: of all random orders.
            start: number of the search; the first one begins at the orders given.
        """
        source = stream(seed, start)
        sizes = [group.size for group in self.groups]
        orders = [
            torch.randperm(size, generator=source, device="cpu")
            if start
            else torch.arange(size, device="cpu")
            for size in sizes
        ]
        for _ in range(SWEEPS):
            turns = torch.randperm(len(sizes), generator=source, device="cpu").tolist()
            if True not in [self._improve(orders, turn) for turn in turns]:
                break
        return orders

    def similarity(self, orders: list[Tensor], turn: int | None = None) -> float:
        """Inner product of the weights: of all, or of those with units of a group."""
        chosen = [
            name
            for name in self.first
            if turn is None or turn in (each for each, _ in self.places[name])
        ]
        parts = [self.first[n] * self._moved(n, orders) for n in chosen]
        return float(sum(part.sum() for part in parts))

    def _improve(self, orders: list[Tensor], turn: int) -> bool:
        """Give one group its best order while the others stay; whether that gains."""
        group, before = self.groups[turn], orders[turn]
        values = torch.zeros(group.size, group.size, dtype=torch.float64, device="cpu")
        for name, dim in group.places:
            if name in self.first:
                moved = self._moved(name, orders, without=(turn, dim))
                rows = _rows(self.first[name], dim, group)
                values += rows @ _rows(moved, dim, group).T
        so_far = self.similarity(orders, turn)
        orders[turn] = torch.from_numpy(largest_assignment(values.numpy()))
        if self.similarity(orders, turn) > so_far + self.least:
            return True
        orders[turn] = before
        return False

    def _moved(
        self,
        name: str,
        orders: list[Tensor],
        without: tuple[int, int] | None = None,
    ) -> Tensor:
        """A tensor in the present orders, but for one group and dimension."""
        tensor = self.second[name]
        for turn, dim in self.places[name]:
            if (turn, dim) != without:
                block = self.groups[turn].block
                tensor = reordered(tensor, dim, orders[turn], block)
        return tensor


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _rows(tensor: Tensor, dim: int, group: UnitGroup) -> Tensor:
    """A row for each unit, shape (N, ...)."""
    blocks = in_blocks(tensor, dim, group.size, group.block)
    return blocks.movedim(dim + 1, 0).reshape(group.size, -1)


def _with_aliases(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with all names of a shared parameter standing for one tensor."""
    first: dict[Tensor, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        state[name] = state[first.setdefault(parameter, name)]
    return state


def _check_function(
    objective: Objective,
    state: Mapping[str, Tensor],
    groups: Sequence[UnitGroup],
    orders: Sequence[Tensor],
) -> None:
    """Refuse orders that change the outputs of the second network."""
    model = objective.model

    def outputs(groups: Sequence[UnitGroup], orders: Sequence[Tensor]) -> list[Tensor]:
        load_(model, _with_aliases(model, permuted(state, groups, orders)))
        losses, calls = outputs_seen(model, lambda: objective.batch_values(0))
        return [losses, *(t for t in tree_leaves(calls) if isinstance(t, Tensor))]

    def changed(groups: Sequence[UnitGroup], orders: Sequence[Tensor]) -> bool:
        pairs = zip(before, outputs(groups, orders), strict=True)
        return any(apart(*pair, objective.dtype) for pair in pairs)

    with restored(list(model.parameters())), torch.no_grad():
        model.eval()
        before = outputs([], [])
        if changed(groups, orders):
            pairs = zip(groups, orders, strict=True)
            guilty = (g for g, order in pairs if changed([g], [order]))
            name = next(guilty, groups[0]).places[0][0]
            raise UsageError(
                "weight matching needs hidden units that can change places, but those "
                f"of {name} change the outputs, as where a layer reads a part of them; "
                "compare the networks without matching."
            )
