"""Exact minimisation: from starts to certified local minima of a loss without sampling noise."""

from superpose.solve.basins import basins as basins
from superpose.solve.dense import minimize as minimize
from superpose.solve.large import minimize_large as minimize_large
from superpose.solve.rotations import without_rotations as without_rotations
from superpose.solve.solution import REASONS as REASONS
from superpose.solve.solution import Solution as Solution
from superpose.solve.toy import Minima as Minima
from superpose.solve.toy import Units as Units
from superpose.solve.toy import natural_units as natural_units
from superpose.solve.toy import toy_minima as toy_minima
