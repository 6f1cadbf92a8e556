"""Names that scripts and study files rely on: none may be lost."""

import pytest

from steppe.measures import MEASURES, build

MEASURE_NAMES = [
    "epsilon_sharpness",
    "pac_bayes",
    "lpf",
    "local_entropy",
    "local_entropy_gradient",
    "shannon_entropy",
    "fisher_rao",
    "top_eigenvalue",
    "trace",
    "frobenius_norm",
    "effective_dimension",
    "ritz_sum",
    "minimum_sharpness",
    "normalized_sharpness",
    "relative_flatness",
    "keskar_sharpness",
    "sam_sharpness",
    "surrogate_gap",
    "average_sharpness",
    "worst_sharpness",
    "fisher_trace",
    "gradient_norm",
    "gradient_noise",
    "batch_sharpness",
    "critical_sharpness",
    "llc",
    "inverse_margin",
    "spectral_norms",
    "frobenius_norms",
    "path_norm",
    "distance_from_start",
    "heavy_tails",
    "rounding",
    "pruning",
    "barrier",
    "robust_flatness",
]


def test_every_public_name_of_a_measure_is_registered():
    assert len(MEASURE_NAMES) == 36
    assert set(MEASURE_NAMES) <= set(MEASURES.names())


@pytest.mark.parametrize("name", MEASURE_NAMES)
def test_the_class_of_a_measure_has_its_name(name):
    built = type(build(name)).__name__
    assert built.lower() == name.replace("_", "")
