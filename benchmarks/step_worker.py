"""Steps of one version of steppe, on request: the other process of `against`.

Reads one JSON object per line and answers with one. It takes what both versions have:
public names of the library and the networks of the benchmarks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import steppe
from benchmarks.problems import Problem, problem, sgd

Step = Callable[[], None]


def steps_of(method: str, settings: dict[str, Any], of: Problem) -> dict[str, Step]:
    """A step with its gradients, and one whose gradients are copied, not computed."""
    opt = getattr(steppe, method)(sgd(of), **settings)
    params = of.params()
    of.gradient()
    grads = [p.grad.clone() for p in params if p.grad is not None]
    buffers = [torch.empty_like(g) for g in grads]

    def whole() -> None:
        for _ in opt.passes():
            x, y = opt.take(of.x, of.y)
            of.loss(x, y).backward()
        opt.step()

    def alone() -> None:
        for index in opt.passes():
            if index == 0 or params[0].grad is None:
                torch._foreach_copy_(buffers, grads)
                for p, buffer in zip(params, buffers, strict=True):
                    p.grad = buffer
            else:  # a share that is added to the sum
                torch._foreach_add_([p.grad for p in params], grads)
        opt.step()

    return {"whole": whole, "alone": alone}


def main() -> None:
    torch.set_num_threads(1)
    steps: dict[str, Step] = {}
    answer: dict[str, Any]
    for line in sys.stdin:
        order = json.loads(line)
        if "method" in order:
            of = problem(order["network"], order["rows"])
            steps = steps_of(order["method"], order["settings"], of)
            answer = {**of.facts(), "from": steppe.__file__}
        else:
            start = time.process_time()
            for _ in range(order["steps"]):
                steps[order["kind"]]()
            answer = {"seconds": (time.process_time() - start) / order["steps"]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
