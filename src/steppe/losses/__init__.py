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
from steppe.losses.class_scores import scores_and_classes
from steppe.losses.label_smoothing import IGNORED, LabelSmoothing, SmoothingForm
from steppe.losses.likelihoods import Likelihood, answer_weights, likelihood
from steppe.losses.logit_normalised import LogitNormalised
from steppe.losses.penalties import L2
from steppe.losses.terms import SumOfTerms

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
    "SumOfTerms",
    "answer_weights",
    "class_dimension",
    "is_per_value",
    "likelihood",
    "mse",
    "named_loss",
    "scores_and_classes",
]
