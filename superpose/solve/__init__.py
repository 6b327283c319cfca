"""Exact minimisation: from starts to certified local minima of a loss without sampling noise."""

from superpose.solve.basins import basins as basins
from superpose.solve.dense import minimize as minimize
from superpose.solve.solution import REASONS as REASONS
from superpose.solve.solution import Solution as Solution
