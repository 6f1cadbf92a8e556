"""The optimizers of the comparisons, with the settings that were published.

The published program perturbs every parameter, updates the running statistics of batch
norm in both passes of SAM, and calls uniform noise of one size ASO.
"""

from __future__ import annotations

from functools import partial

from steppe_lab.reproduction.published import PERCENT, Quantity
from steppe_lab.reproduction.trained import TrainedClaim

LAST_ERROR = Quantity(
    name="test_error",
    title="test error after the last epoch",
    units="%",
    factor=100.0,
    between=PERCENT,
)
SAM = "sam:rho=0.05,batch_norm=all"
ASO = "smoothout:a=0.009,scale=none"
# Five steps of a walk on a batch each: as many epochs are five times as many passes
# over the data as the program counts.
E_SGD = (
    "entropy_sgd:inner_steps=5,inner_lr=0.1,inner_weight_decay=0.0001,"
    "gamma=scoping(0.5,0.0001,2.38),fresh_batches=true"
)
PASSES = 5  # over the data in an epoch of E-SGD's program
BEST_EPOCH = (
    "Published numbers are those of the epoch with the smallest test error, as ours by "
    "the published protocol are: that epoch, the radii and all other settings were "
    "chosen on the test set, for there is no validation set. After the last epoch the "
    "published errors are 0.1 to 0.6 higher."
)
INTERVALS = (
    "Published intervals are 1.96 standard deviations, with the number of runs below "
    "the root, over the root of the runs; with 5 runs they cover the true mean less "
    "often than 95 times in 100."
)
INITIAL_WEIGHTS = (
    "Networks begin at the initial weights of steppe's own definitions, which have the "
    "published numbers of parameters but need not be drawn as in the program."
)
OF_TABLES = (BEST_EPOCH, INTERVALS, INITIAL_WEIGHTS)
last_errors = partial(
    TrainedClaim,
    experiment="bisla2022_lpf_sgd",
    quantity=LAST_ERROR,
    protocol="best_test_error",
    base={},
)


def lpf_sgd(gamma: float) -> str:
    """LPF-SGD with one draw for the whole batch and a fixed radius."""
    return f"lpf_sgd:gamma={gamma:g}"


def lpf_sgd_growing(gamma: float, factor: float) -> str:
    """LPF-SGD with 8 micro-batches and a radius that grows along half a cosine."""
    return f"lpf_sgd:micro_batches=8,gamma=cosine_increase({gamma:g},{factor:g})"
