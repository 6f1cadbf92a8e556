"""Losses of a batch, the likelihoods they stand for, and penalties of the weights."""

from steppe.losses.batch_losses import (
    FAILURES,
    LOSSES,
    BatchLoss,
    class_dimension,
    is_per_value,
    mse,
    named_loss,
)
from steppe.losses.label_smoothing import IGNORED, LabelSmoothing, SmoothingForm
from steppe.losses.likelihoods import Likelihood, answer_weights, likelihood
from steppe.losses.logit_normalised import LogitNormalised
from steppe.losses.penalties import L2

__all__ = [
    "FAILURES",
    "IGNORED",
    "L2",
    "LOSSES",
    "BatchLoss",
    "LabelSmoothing",
    "Likelihood",
    "LogitNormalised",
    "SmoothingForm",
    "answer_weights",
    "class_dimension",
    "is_per_value",
    "likelihood",
    "mse",
    "named_loss",
]
