"""SmoothOut and AdaSmoothOut: step with the gradient at uniformly blurred weights.

Source: Wen, Wang, Yan, Xu, Wu, Chen, Li, 2018, arXiv:1805.07898: uniform noise, and its
adaptive form, whose noise has a length in proportion to that of each filter.

Differences from the authors' code: a vector (a bias, a normalisation weight) is one
filter; nothing is added to the norm of the draw; every row of a batch weighs alike;
weights come back bit for bit.

The published comparisons of LPF-SGD (arXiv:2201.08025) name this ASO; their scripts
compute the norm of the weights but drop it, which is `scale="none"` with a = 0.009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack, get_args

from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import check_choice
from steppe.noise import Noise, UniformScale, uniform_noise
from steppe.optimizers.families.noise import AbstractSmoothing
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import RandomOptions


@OPTIMIZERS.add(
    "smoothout",
    source="Wen et al., 2018, arXiv:1805.07898",
    grad_evals=1,
    limits=(
        Limit(settings={"a": 0.0}),
        Limit(settings={"a": 0.0, "micro_batches": 4}),
        Limit(settings={"a": 0.0, "scale": "none"}),
    ),
    example={"a": 0.01},
    later=("antithetic",),
)
class SmoothOut(AbstractSmoothing):
    """Step with the gradient of the loss averaged over uniform noise on the weights.

    Each of M micro-batches is evaluated at w + n with noise n of its own, so a step
    costs one gradient whatever M is, provided each pass runs on its share of the batch,
    see `take`. With U uniform in [-1, 1] in every entry:

    - scale="none": n = a U, SmoothOut.
    - scale="abs": n = a |w| U.
    - scale="tensor": n = a ||w|| U / ||U||, the norms over each tensor.
    - scale="filter": n = a ||w|| U / ||U||, the norms over each row of a matrix or
      kernel and over a vector as a whole: AdaSmoothOut.

    Args:
        base: the optimizer that takes the step; Adam makes this ASO-Adam.
        a: size of the noise, >= 0, or a schedule of it: in the units of the parameters
            with "none", as a share of the weights otherwise. 0 gives back the base.
        scale: which noise.
        micro_batches: M, the number of noise draws and of shares per batch, >= 1.
        antithetic: draw n, -n, n', -n' and so on, which halves the numbers to be drawn
            and takes noise out of the mean gradient: what is linear in n cancels as far
            as the two shares of the batch agree. Each draw has its distribution still,
            but the two of a pair depend on each other. It needs two micro-batches or
            more; False, as the authors do it.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`; running statistics are those
            of all passes unless set otherwise. The authors leave normalisation layers
            unblurred by choice: here, put them into a group with `perturb=False`.
    """

    bounds: ClassVar = {"a": (0.0, math.inf), **AbstractSmoothing.bounds}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        a: float | Schedule = 0.01,
        scale: UniformScale = "filter",
        micro_batches: int = 1,
        antithetic: bool = False,
        **options: Unpack[RandomOptions],
    ) -> None:
        check_choice("scale", scale, get_args(UniformScale))
        super().__init__(
            base,
            settings={"a": a},
            micro_batches=micro_batches,
            antithetic=antithetic,
            **options,
        )
        self.scale: UniformScale = scale

    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """Uniform noise in the chosen units."""
        a = step.setting("a", params)
        return uniform_noise(params, a, self.scale, self.generator)
