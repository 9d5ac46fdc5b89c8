"""A marketplace with a whole fleet of nodes, simulated on the fakes: a day of it in minutes."""

from tests.fleet.day import Day, Plan
from tests.fleet.figures import Figures

__all__ = ["Day", "Figures", "Plan"]
