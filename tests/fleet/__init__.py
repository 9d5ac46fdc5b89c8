"""A simulated day of many nodes: the real service on the fakes of AWS, with one simulated clock."""

from tests.fleet.day import Day, Plan
from tests.fleet.figures import Figures

__all__ = ["Day", "Figures", "Plan"]
