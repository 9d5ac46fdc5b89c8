"""The rule by which a process averages: the built-in mean, or the plan that came with the upload."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pygrid_node.averaging.plans import ElementwisePlan
from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_wire import Bytes, MalformedPlan, parse_plan

Arrays = list[np.ndarray[Any, Any]]


class AveragingRule(Protocol):
    """An average in the making: takes a cycle's diffs one by one, arrays in the model's order and dtypes."""

    def add(self, diff: Arrays) -> None:
        """Take the next diff."""

    def average(self) -> Arrays:
        """What is subtracted from the model: one float64 array a parameter, the caller's to change.

        There has to be a diff, and it is asked for once.
        """


class Mean:
    """The mean of each number; holds one sum, however many diffs there are."""

    def __init__(self) -> None:
        """Begin with no diff."""
        self._sums: Arrays = []
        self._count = 0

    def add(self, diff: Arrays) -> None:
        """See `AveragingRule`."""
        self._count += 1
        if not self._sums:
            self._sums = [np.array(values, np.float64) for values in diff]
            return
        for total, values in zip(self._sums, diff, strict=True):
            total += values

    def average(self) -> Arrays:
        """See `AveragingRule`."""
        sums, self._sums = self._sums, []
        for total in sums:
            total /= self._count
        return sums


class IterativePlan:
    """A plan that takes the average so far, the next diff, and how many diffs are in the average."""

    def __init__(self, plan: ElementwisePlan) -> None:
        """Run `plan` for every diff after the first."""
        self._plan = plan
        self._average: Arrays = []
        self._count = 0

    def add(self, diff: Arrays) -> None:
        """See `AveragingRule`."""
        diff = [np.array(values, np.float64) for values in diff]
        if self._count:
            diff = self._plan.run([*self._average, *diff, np.array([float(self._count)])])
        self._average = diff
        self._count += 1

    def average(self) -> Arrays:
        """See `AveragingRule`."""
        return _copies(self._average)


class WholePlan:
    """A plan that takes all diffs at once, one after the other; it holds them all."""

    def __init__(self, plan: ElementwisePlan) -> None:
        """Run `plan` once."""
        self._plan = plan
        self._inputs: Arrays = []

    def add(self, diff: Arrays) -> None:
        """See `AveragingRule`."""
        self._inputs += [np.array(values, np.float64) for values in diff]

    def average(self) -> Arrays:
        """See `AveragingRule`."""
        return _copies(self._plan.run(self._inputs))


def _copies(outputs: Arrays) -> Arrays:
    # A plan may return one value for two parameters, or a constant of its own.
    return [np.array(values, np.float64) for values in outputs]


def averaging_rule(
    body: Bytes, parameters: Sequence[ParameterSpec], diffs_at_once: int | None
) -> AveragingRule:
    """The rule of an upload; an empty plan is the mean. A plan that is not iterative takes `diffs_at_once`.

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
    if diffs_at_once is not None and len(plan.inputs) != len(shapes) * diffs_at_once:
        # Before a list is made of so many: the number is the uploader's.
        raise InvalidRequest(
            f"The averaging plan takes {len(plan.inputs)} tensors instead of {len(shapes) * diffs_at_once}."
        )
    inputs = [*shapes, *shapes, (1,)] if diffs_at_once is None else shapes * diffs_at_once
    if plan.output_shapes(inputs) != shapes:
        raise InvalidRequest("The averaging plan does not return the model's parameters.")
    return IterativePlan(plan) if diffs_at_once is None else WholePlan(plan)
