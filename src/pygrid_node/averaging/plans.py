"""How diffs are averaged: the built-in mean, or the averaging plan of the upload.

A plan is a program that any client may upload, so it is interpreted: element-wise arithmetic in float64, only
the operations listed here, no pickle and no TorchScript. All checks are made at the upload; a plan that
failed in the middle of a training would block its model.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_wire import Bytes, MalformedPlan, MalformedState, parse_plan
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.state import read_state
from pygrid_wire.tensor import MalformedTensor, read_tensor

Array = np.ndarray[Any, Any]
Arrays = list[Array]
_Key = int | str


class AveragingRule(Protocol):
    """Averages the diffs of one cycle, added one by one: arrays in the order and the dtypes of the model."""

    def add(self, diff: Arrays) -> None:
        """Add the next diff."""

    def average(self) -> Arrays:
        """Return the average: one float64 array per parameter, which the caller may change.

        Call it once, after at least one `add`.
        """


def averaging_rule(
    body: Bytes, parameters: Sequence[ParameterSpec], diffs_at_once: int | None
) -> AveragingRule:
    """Return the rule of an upload: `Mean` for an empty plan. `diffs_at_once` is None for an iterative one.

    Raises `InvalidRequest` if the plan cannot be parsed, needs more than element-wise arithmetic, or does not
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
        # Checked before a list of this length is made: the uploader chose the number.
        raise InvalidRequest(
            f"The averaging plan takes {len(plan.inputs)} tensors instead of {len(shapes) * diffs_at_once}."
        )
    inputs = [*shapes, *shapes, (1,)] if diffs_at_once is None else shapes * diffs_at_once
    if plan.output_shapes(inputs) != shapes:
        raise InvalidRequest("The averaging plan does not return the model's parameters.")
    return IterativePlan(plan) if diffs_at_once is None else WholePlan(plan)


def require_mean(rule: AveragingRule, parameters: int, count: int) -> None:
    """Raise `InvalidRequest` if a rule averages `count` random diffs in another way than `Mean`.

    Each of the parameters is one number: a plan calculates element by element, whatever the shapes are.
    """
    mean = Mean()
    for diff in np.random.default_rng().normal(size=(count, parameters, 1)):
        rule.add(list(diff))
        mean.add(list(diff))
    if not all(map(np.allclose, rule.average(), mean.average())):
        raise InvalidRequest(
            "The averaging plan is not the mean of all diffs: it could return the diff of a single device."
        )


class Mean:
    """The mean of each number. Holds one sum for any number of diffs."""

    def __init__(self) -> None:
        """Start without a diff."""
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
    """A plan that is called with the average so far, the next diff, and the number of diffs so far."""

    def __init__(self, plan: "ElementwisePlan") -> None:
        """Run `plan` for every diff after the first one."""
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
    """A plan that is called once, with all diffs in a row; they are all held in memory."""

    def __init__(self, plan: "ElementwisePlan") -> None:
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
    # A plan may return one value for two parameters, or one of its constants.
    return [np.array(values, np.float64) for values in outputs]


def _swapped(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: function(right, left)


_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "pow": operator.pow,
}
# syft records an operator under its method's name (`__add__`, `__radd__`) and a call under the function's.
_OPERATIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    **{f"__{name}__": (2, function) for name, function in _BINARY.items()},
    **{f"__r{name}__": (2, _swapped(function)) for name, function in _BINARY.items()},
    **{f"{prefix}{name}": (2, function) for name, function in _BINARY.items() for prefix in ("", "torch.")},
    **dict.fromkeys(("div", "torch.div", "true_divide", "torch.true_divide"), (2, operator.truediv)),
    **dict.fromkeys(("__neg__", "neg", "torch.neg"), (1, operator.neg)),
    **dict.fromkeys(("sqrt", "torch.sqrt"), (1, np.sqrt)),
    **dict.fromkeys(("__abs__", "abs", "torch.abs"), (1, np.abs)),
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation; an operand is the key of a value, or a constant."""

    function: Callable[..., Any]
    operands: tuple[_Key | Array, ...]
    result: _Key
    last_uses: frozenset[_Key]  # values that no later step needs


@dataclass(frozen=True, slots=True)
class ElementwisePlan:
    """A plan of element-wise operations."""

    inputs: tuple[_Key, ...]
    outputs: tuple[_Key, ...]
    constants: Mapping[_Key, Array]
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, plan: pb.Plan) -> "ElementwisePlan":
        """Check the operations of a plan. Raises `InvalidRequest`, naming one that is not allowed."""
        role = plan.role
        steps: list[_Step] = []
        outputs = tuple(_key(id_) for id_ in role.output_placeholder_ids)
        needed = set(outputs)
        for action in reversed(role.actions):
            step = _step(action, needed)
            needed.update(key for key in step.operands if isinstance(key, int | str))
            steps.append(step)
        inputs = tuple(_key(id_) for id_ in role.input_placeholder_ids)
        return cls(inputs, outputs, _constants(role.state), tuple(reversed(steps)))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs for these inputs; a division by zero follows IEEE 754 and is no error."""
        values = dict(self.constants) | dict(zip(self.inputs, inputs, strict=True))
        with np.errstate(all="ignore"):
            for step in self.steps:
                operands = [values[key] if isinstance(key, int | str) else key for key in step.operands]
                values[step.result] = step.function(*operands)
                for key in step.last_uses:
                    del values[key]
        return [np.asarray(values[key], np.float64) for key in self.outputs]

    def output_shapes(self, inputs: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return the shapes of the outputs of `run`, without running it.

        Raises `InvalidRequest` if `run` would fail: wrong inputs, undefined values, shapes that do not fit.
        """
        if len(inputs) != len(self.inputs):
            raise InvalidRequest(
                f"The averaging plan takes {len(self.inputs)} tensors instead of {len(inputs)}."
            )
        shapes = {key: value.shape for key, value in self.constants.items()}
        shapes |= dict(zip(self.inputs, inputs, strict=True))
        try:
            for step in self.steps:
                operands = [shapes[key] if isinstance(key, int | str) else key.shape for key in step.operands]
                shapes[step.result] = _common_shape(operands)
            return [shapes[key] for key in self.outputs]
        except KeyError as error:
            raise InvalidRequest("The averaging plan uses a value before it is calculated.") from error
        except ValueError as error:
            raise InvalidRequest(f"The averaging plan's shapes do not fit: {error}") from error


def _common_shape(operands: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a result. A row and a column must not make a matrix that fills all memory."""
    shape = np.broadcast_shapes(*operands)
    if math.prod(shape) > max(map(math.prod, operands)):
        raise ValueError(f"{' and '.join(map(str, operands))} would make {shape}")
    return shape


def _step(action: pb.ComputationAction, needed: set[_Key]) -> _Step:
    """Convert an action to a step; `needed` are the keys that later steps and the outputs use."""
    arity, function = _OPERATIONS.get(action.command, (0, operator.pos))
    arguments = ([_target(action)] if action.WhichOneof("target") else []) + [*map(_argument, action.args)]
    if arity != len(arguments) or action.kwargs or len(action.return_placeholder_ids) != 1:
        raise _refused(action)
    operands = tuple(operand for operand in arguments if operand is not None)
    if len(operands) != arity:
        raise _refused(action)
    used = {operand for operand in operands if isinstance(operand, int | str)}
    result = _key(action.return_placeholder_ids[0].id)
    return _Step(function, operands, result, frozenset(used - needed - {result}))


def _refused(action: pb.ComputationAction) -> InvalidRequest:
    return InvalidRequest(f"The averaging plan uses {action.command!r} in a way that this node does not run.")


def _target(action: pb.ComputationAction) -> _Key | Array | None:
    match action.WhichOneof("target"):
        case "target_placeholder_id":
            return _key(action.target_placeholder_id.id)
        case "target_tensor":
            return _constant(action.target_tensor.contents_data)
        case _:
            return None


def _argument(arg: pb.Arg) -> _Key | Array | None:
    match arg.WhichOneof("arg"):
        case "arg_placeholder_id":
            return _key(arg.arg_placeholder_id.id)
        case "arg_int":
            return np.asarray(float(arg.arg_int))
        case "arg_float":
            return np.asarray(arg.arg_float)
        case "arg_tensor":
            return _constant(arg.arg_tensor.contents_data)
        case _:
            return None


def _constant(data: pb.TensorData) -> Array:
    try:
        return read_tensor(data).values.astype(np.float64)
    except MalformedTensor as error:
        raise InvalidRequest(f"The averaging plan holds a tensor that can't be read: {error}") from error


def _constants(state: pb.State) -> dict[_Key, Array]:
    if not state.tensors:
        return {}
    try:
        values = [tensor.values.astype(np.float64) for tensor in read_state(state)]
    except MalformedState as error:
        raise InvalidRequest(f"The averaging plan's state can't be read: {error}") from error
    return dict(zip((_key(placeholder.id) for placeholder in state.placeholders), values, strict=False))


def _key(id_: pb.Id) -> _Key:
    return id_.id_str if id_.WhichOneof("id") == "id_str" else id_.id_int
