"""Four methods in every surrounding of plain torch: the weights of a loop by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrize

import process_jobs
import steppe
from steppe.errors import SteppeError
from surroundings import (
    METHODS,
    Plain,
    Row,
    assert_by_hand,
    bfloat16,
    by_hand,
    cells,
    of_two_processes,
    parametrized,
)

TWO_CALLS = {  # cannot be driven by two calls
    "two_calls/lpf_sgd": "takes its first gradient at perturbed weights",
    "two_calls/entropy_sgd": "takes its first gradient at perturbed weights",
}
EVERY_FORM = ("loop", "closure", "two_calls", "set_closure")
# bfloat16 keeps 8 bits: where a rounding in float32 crosses one of its borders, an
# activation moves by 2**-8 of itself, which few do.
MIXED = {"expected": {"around": bfloat16}, "refused": TWO_CALLS, "atol": 1e-4}
CACHED = {"expected": {"net": parametrized}, "forms": EVERY_FORM, "refused": TWO_CALLS}


def scaled(net: Any, called: Any) -> dict[str, Any]:
    return {"scaler": SCALER}


def compiled(net: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(net, backend="aot_eager")


def averaged(net: Any, opt: Any) -> None:
    """Keep two averages of the weights beside the training."""
    steppe.EMA(net, decay=0.5).attach(opt)
    steppe.SWA(net, start=1).attach(opt)


SCALER = torch.amp.GradScaler("cpu", init_scale=2.0**10)
ROWS = [
    Row(name="plain", run=Plain().run, forms=EVERY_FORM, refused=TWO_CALLS),
    Row(
        name="autocast around the pass",
        run=Plain(around_pass=bfloat16).run,
        forms=("loop", "closure", "two_calls"),
        **MIXED,
    ),
    Row(
        name="autocast around the step",
        run=Plain(around_step=bfloat16).run,
        forms=EVERY_FORM,
        **MIXED,
    ),
    Row(
        name="autocast around the loop",
        run=Plain(around_loop=bfloat16).run,
        forms=EVERY_FORM,
        **MIXED,
    ),
    Row(
        name="a scaler inside of autocast around the step",
        run=Plain(around_step=bfloat16, scaler=SCALER, options=scaled).run,
        forms=("loop", "two_calls"),
        **MIXED,
    ),
    Row(
        name="a scaler",
        run=Plain(scaler=SCALER, options=scaled).run,
        forms=("loop", "two_calls"),
        refused=TWO_CALLS,
    ),
    Row(
        name="a scaler and clipping",
        run=Plain(scaler=SCALER, options=scaled, clip=0.05).run,
        forms=("loop", "two_calls"),
        refused=TWO_CALLS,
        expected={"clip": 0.05},
    ),
    Row(
        name="clipping",
        run=Plain(clip=0.05).run,
        forms=("loop", "two_calls"),
        refused=TWO_CALLS,
        expected={"clip": 0.05},
    ),
    Row(
        name="micro-batches in each pass",
        run=Plain(micro_batches=2).run,
        forms=("loop", "closure", "two_calls"),
        refused=TWO_CALLS,
    ),
    Row(
        name="passes(accumulate=True)",
        run=Plain(accumulate=2).run,
        expected={"perturbations": 2},
        refused={"loop/entropy_sgd": "takes one passes"},
    ),
    Row(
        name="cached() around the pass",
        run=Plain(net=parametrized, around_pass=parametrize.cached).run,
        **CACHED,
    ),
    Row(
        name="cached() around the step",
        run=Plain(net=parametrized, around_step=parametrize.cached).run,
        **CACHED,
    ),
    Row(
        name="cached() around the loop",
        run=Plain(net=parametrized, around_loop=parametrize.cached).run,
        **CACHED,
    ),
    Row(
        name="torch.compile",
        run=Plain(wrap=compiled).run,
        forms=EVERY_FORM,
        refused=TWO_CALLS,
        slow=True,
    ),
    Row(name="averages", run=Plain(attach=averaged).run, forms=("loop", "closure")),
]


@pytest.mark.parametrize(("row", "form", "method"), cells(ROWS, refused=False))
def test_the_weights_are_those_of_a_loop_by_hand(row, form, method):
    assert_by_hand(row, list(row.run(method, form).parameters()), method)


@pytest.mark.parametrize(("row", "form", "method"), cells(ROWS, refused=True))
def test_what_cannot_be_is_refused_in_a_sentence(row, form, method):
    with pytest.raises(SteppeError, match=row.refused[f"{form}/{method.name}"]):
        row.run(method, form)


def descent(at: Any, w: Any, x: Any, y: Any, _: Any) -> Any:
    """No method at all."""
    return at(w, x, y)


def test_methods_are_much_further_apart_than_the_tolerances():
    ends = [by_hand(m.direction) for m in METHODS.values()] + [by_hand(descent)]
    for one, other in itertools.combinations(ends, 2):
        pairs = zip(one, other, strict=True)
        assert max((a - b).abs().max() for a, b in pairs) > 3e-3


# Processes that perturb by themselves draw noise of their own.
PROCESSES = {
    "local": {"perturbations": 2, "seeds": (0, 1_000_003)},
    "global": {"joint": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("sync", PROCESSES)
def test_two_processes_give_the_weights_of_a_loop_by_hand(sync, tmp_path):
    row = Row(name=sync, run=Plain().run, forms=EVERY_FORM, expected=PROCESSES[sync])
    row = replace(row, refused=TWO_CALLS)
    wanted = [cell.values for cell in cells([row], refused=False)]
    wanted = [(f, m) for _, f, m in wanted if (sync, f) != ("global", "set_closure")]
    names = [f"{sync}/{form}/{method.name}" for form, method in wanted]
    for results in process_jobs.run(of_two_processes, names, tmp_path):
        for name, (_, method) in zip(names, wanted, strict=True):
            assert_by_hand(row, results[name], method)
