"""Public names of the statistics, each written once: the package reads them here."""

from steppe_lab.statistics.correlation import Correlation as Correlation
from steppe_lab.statistics.correlation import kendall as kendall
from steppe_lab.statistics.differences import TauDifference as TauDifference
from steppe_lab.statistics.differences import paired_bootstrap as paired_bootstrap
from steppe_lab.statistics.groups import Groups as Groups
from steppe_lab.statistics.groups import within_groups as within_groups
from steppe_lab.statistics.predictors import Baselines as Baselines
from steppe_lab.statistics.predictors import Predictor as Predictor
from steppe_lab.statistics.predictors import baselines as baselines
