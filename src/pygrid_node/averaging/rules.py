"""The rule by which a process averages: the built-in mean, or the plan that came with the upload."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from pygrid_node.averaging.elementwise import ElementwisePlan
from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_wire import MalformedPlan, parse_plan

Arrays = list[np.ndarray[Any, Any]]


class AveragingRule(Protocol):
    """Turns the diffs of a cycle into the one that is subtracted."""

    def average(self, diffs: Iterable[Arrays]) -> Arrays:
        """One float64 array a parameter, from at least one diff of float64 arrays."""


class Mean:
    """The mean of each number; holds one sum, however many diffs there are."""

    def average(self, diffs: Iterable[Arrays]) -> Arrays:
        """See `AveragingRule`."""
        rest = iter(diffs)
        sums = [np.array(values) for values in next(rest)]
        count = 1
        for diff in rest:
            for total, values in zip(sums, diff, strict=True):
                total += values
            count += 1
        return [total / count for total in sums]


class IterativePlan:
    """A plan that takes the average so far, the next diff, and how many diffs are in the average."""

    def __init__(self, plan: ElementwisePlan) -> None:
        """Run `plan` for every diff after the first."""
        self._plan = plan

    def average(self, diffs: Iterable[Arrays]) -> Arrays:
        """See `AveragingRule`."""
        rest = iter(diffs)
        average = next(rest)
        for count, diff in enumerate(rest, start=1):
            average = self._plan.run([*average, *diff, np.array([float(count)])])
        return average


class WholePlan:
    """A plan that takes all diffs at once, one after the other."""

    def __init__(self, plan: ElementwisePlan) -> None:
        """Run `plan` once."""
        self._plan = plan

    def average(self, diffs: Iterable[Arrays]) -> Arrays:
        """See `AveragingRule`."""
        return self._plan.run([values for diff in diffs for values in diff])


def averaging_rule(
    body: bytes, parameters: Sequence[ParameterSpec], *, iterative: bool, max_diffs: int
) -> AveragingRule:
    """The rule of an upload; an empty plan is the mean.

    Raises `InvalidRequest` for a plan that is none, needs anything but element-wise arithmetic, or does not
    map diffs of these parameters to one diff of these parameters.
    """
    if not body:
        return Mean()
    try:
        plan = ElementwisePlan.parse(parse_plan(body))
    except MalformedPlan as error:
        raise InvalidRequest(f"averaging_plan: {error}") from error
    shapes = [parameter.shape for parameter in parameters]
    inputs = [*shapes, *shapes, (1,)] if iterative else shapes * max_diffs
    if plan.output_shapes(inputs) != shapes:
        raise InvalidRequest("The averaging plan does not return the model's parameters.")
    return IterativePlan(plan) if iterative else WholePlan(plan)
