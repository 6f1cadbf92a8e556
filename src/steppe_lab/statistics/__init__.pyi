"""Public names of the statistics, each written once: the package reads them here."""

from steppe_lab.statistics.ceiling import NoiseCeiling as NoiseCeiling
from steppe_lab.statistics.ceiling import noise_ceiling as noise_ceiling
from steppe_lab.statistics.correlation import Correlation as Correlation
from steppe_lab.statistics.correlation import kendall as kendall
from steppe_lab.statistics.differences import TauDifference as TauDifference
from steppe_lab.statistics.differences import paired_bootstrap as paired_bootstrap
from steppe_lab.statistics.differences import paired_bootstraps as paired_bootstraps
from steppe_lab.statistics.environments import SignError as SignError
from steppe_lab.statistics.environments import SignErrors as SignErrors
from steppe_lab.statistics.environments import sign_error as sign_error
from steppe_lab.statistics.environments import worst_environment as worst_environment
from steppe_lab.statistics.granulation import FactorTau as FactorTau
from steppe_lab.statistics.granulation import Granulated as Granulated
from steppe_lab.statistics.granulation import granulated as granulated
from steppe_lab.statistics.groups import Groups as Groups
from steppe_lab.statistics.groups import within_groups as within_groups
from steppe_lab.statistics.holm import holm_adjusted as holm_adjusted
from steppe_lab.statistics.information import Information as Information
from steppe_lab.statistics.information import (
    conditional_information as conditional_information,
)
from steppe_lab.statistics.optima import Optimum as Optimum
from steppe_lab.statistics.optima import optimum as optimum
from steppe_lab.statistics.predictors import Baselines as Baselines
from steppe_lab.statistics.predictors import Predictor as Predictor
from steppe_lab.statistics.predictors import baselines as baselines
from steppe_lab.statistics.residuals import ResidualKendall as ResidualKendall
from steppe_lab.statistics.residuals import residual_kendall as residual_kendall
from steppe_lab.statistics.two_samples import TwoSamples as TwoSamples
from steppe_lab.statistics.two_samples import two_sample_ks as two_sample_ks
