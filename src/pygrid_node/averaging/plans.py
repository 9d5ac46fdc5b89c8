"""How diffs are averaged: the built-in mean, or the averaging plan of the upload.

A plan is a program that any client may upload, so it is interpreted: element-wise arithmetic in float64, only
the operations listed here, no pickle and no TorchScript. All checks are made at the upload, those of memory
and work as well; a plan that failed in the middle of a training would block its model.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
_Shape = tuple[int, ...]
# The id of a placeholder, or the positions of an action and of its constant operand.
_Key = int | str | tuple[int, int]

_NUMBER = 8  # bytes of a float64
_MOST_ACTIONS = 1000
_MOST_CALCULATED = 2**28  # numbers for one diff: some seconds


class AveragingRule(Protocol):
    """Averages the diffs of one cycle, added one by one: arrays in the order and the dtypes of the model."""

    def memory(self, parameters: Sequence[ParameterSpec]) -> int:
        """Return how many bytes of arrays the rule holds at most, besides a diff that is being added.

        Raises `InvalidRequest` if the rule does not map diffs of these parameters to one diff of them.
        """

    def add(self, diff: Arrays) -> None:
        """Add the next diff."""

    def average(self) -> Arrays:
        """Return the average: one float64 array per parameter, which the caller may change.

        Call it once, after at least one `add`.
        """


def averaging_rule(
    body: Bytes,
    parameters: Sequence[ParameterSpec],
    diffs_at_once: int | None,
    most_memory: int | None = None,
) -> AveragingRule:
    """Return the rule of an upload: `Mean` for an empty plan. `diffs_at_once` is None for an iterative one.

    Raises `InvalidRequest` if the plan cannot be parsed, needs more than element-wise arithmetic, or does not
    map diffs of these parameters to one diff of these parameters; also if it calculates too much, or if the
    rule holds more than `most_memory` bytes of arrays.
    """
    rule = _rule(body, parameters, diffs_at_once)
    if (memory := rule.memory(parameters)) > (memory if most_memory is None else most_memory):
        raise InvalidRequest(
            f"Averaging this model takes {memory} bytes of memory; this node has {most_memory}"
            " (its setting MAX_AVERAGING_BYTES)."
        )
    return rule


def _rule(body: Bytes, parameters: Sequence[ParameterSpec], diffs_at_once: int | None) -> AveragingRule:
    if not body:
        return Mean()
    try:
        plan = ElementwisePlan.parse(parse_plan(body))
    except MalformedPlan as error:
        raise InvalidRequest(f"averaging_plan: {error}") from error
    if diffs_at_once is None:
        return IterativePlan(plan)
    # Checked before a list of this length is made: the uploader chose the number.
    plan.require_inputs(len(parameters) * diffs_at_once)
    return WholePlan(plan, diffs_at_once)


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

    def memory(self, parameters: Sequence[ParameterSpec]) -> int:
        """See `AveragingRule`."""
        return sum(map(_size, _shapes(parameters)))

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

    def memory(self, parameters: Sequence[ParameterSpec]) -> int:
        """See `AveragingRule`."""
        shapes = _shapes(parameters)
        averages = list(map(_size, shapes))
        sizes = [*averages, *[0] * len(shapes), 0]  # the diff is not the rule's
        needs = self._plan.needs([*shapes, *shapes, (1,)], sizes, own=len(shapes))
        needs.check(shapes)
        return needs.memory

    def add(self, diff: Arrays) -> None:
        """See `AveragingRule`."""
        if self._count:
            inputs = [*self._average, *diff, np.array([float(self._count)])]
            own, self._average = len(self._average), []
            self._average = self._plan.run(inputs, own)
        else:
            self._average = [np.array(values, np.float64) for values in diff]
        self._count += 1

    def average(self) -> Arrays:
        """See `AveragingRule`."""
        average, self._average = self._average, []
        return average


class WholePlan:
    """A plan that is called once, with all diffs in a row; they are all held in memory."""

    def __init__(self, plan: "ElementwisePlan", diffs: int) -> None:
        """Run `plan` once, for `diffs` diffs."""
        self._plan = plan
        self._diffs = diffs
        self._inputs: Arrays = []

    def memory(self, parameters: Sequence[ParameterSpec]) -> int:
        """See `AveragingRule`."""
        shapes = _shapes(parameters)
        sizes = [parameter.nbytes for parameter in parameters]
        needs = self._plan.needs(shapes * self._diffs, sizes * self._diffs)
        needs.check(shapes)
        return needs.memory

    def add(self, diff: Arrays) -> None:
        """See `AveragingRule`."""
        self._inputs += [np.array(values) for values in diff]

    def average(self) -> Arrays:
        """See `AveragingRule`."""
        return self._plan.run(self._inputs)


def _shapes(parameters: Sequence[ParameterSpec]) -> list[_Shape]:
    return [parameter.shape for parameter in parameters]


def _size(shape: _Shape) -> int:
    """Return the bytes of a float64 array."""
    return math.prod(shape) * _NUMBER


def _swapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda left, right, **options: function(right, left, **options)


_BINARY: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "pow": np.power,
}
# syft records an operator under its method's name (`__add__`, `__radd__`) and a call under the function's.
_OPERATIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    **{f"__{name}__": (2, function) for name, function in _BINARY.items()},
    **{f"__r{name}__": (2, _swapped(function)) for name, function in _BINARY.items()},
    **{f"{prefix}{name}": (2, function) for name, function in _BINARY.items() for prefix in ("", "torch.")},
    **dict.fromkeys(("div", "torch.div", "true_divide", "torch.true_divide"), (2, np.true_divide)),
    **dict.fromkeys(("__neg__", "neg", "torch.neg"), (1, np.negative)),
    **dict.fromkeys(("sqrt", "torch.sqrt"), (1, np.sqrt)),
    **dict.fromkeys(("__abs__", "abs", "torch.abs"), (1, np.abs)),
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on the values of the operands."""

    function: Callable[..., Any]
    operands: tuple[_Key, ...]
    result: _Key
    last_uses: frozenset[_Key]  # values that no later step needs

    def replaced(self, shape: _Shape, shapes: Mapping[_Key, _Shape], own: Collection[_Key]) -> _Key | None:
        """Return an operand whose array may become that of the result, which has this shape."""
        # NumPy makes a number, and no array, of two arrays without dimensions.
        usable = self.last_uses.intersection(own) if shape else ()
        return next((key for key in self.operands if key in usable and shapes[key] == shape), None)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run of a plan makes and takes."""

    result: list[_Shape]
    memory: int  # bytes of arrays held at once
    calculated: int  # numbers

    def check(self, shapes: Sequence[_Shape]) -> None:
        """Raise `InvalidRequest` for another result, or for too much work."""
        if self.result != shapes:
            raise InvalidRequest("The averaging plan does not return the model's parameters.")
        if self.calculated > _MOST_CALCULATED:
            raise InvalidRequest(
                f"The averaging plan calculates {self.calculated} numbers, more than {_MOST_CALCULATED}."
            )


@dataclass(frozen=True, slots=True)
class ElementwisePlan:
    """A plan of element-wise operations, without those whose results nothing needs."""

    inputs: tuple[_Key, ...]
    outputs: tuple[_Key, ...]
    constants: Mapping[_Key, Array]
    steps: tuple[_Step, ...]
    unused: frozenset[_Key]  # inputs

    @classmethod
    def parse(cls, plan: pb.Plan) -> "ElementwisePlan":
        """Check the operations of a plan. Raises `InvalidRequest`, naming one that is not allowed."""
        role = plan.role
        if len(role.actions) > _MOST_ACTIONS:
            raise InvalidRequest(
                f"The averaging plan has {len(role.actions)} actions, more than {_MOST_ACTIONS}."
            )
        inputs = tuple(_key(id_) for id_ in role.input_placeholder_ids)
        outputs = tuple(_key(id_) for id_ in role.output_placeholder_ids)
        constants = _constants(role.state)
        calls = [_call(position, action, constants) for position, action in enumerate(role.actions)]
        values = [*inputs, *constants, *(call.result for call in calls)]
        if len(set(values)) < len(values):
            raise InvalidRequest("The averaging plan calculates a value twice.")
        steps: list[_Step] = []
        needed: set[_Key] = set(outputs)
        for call in reversed(calls):
            if call.result in needed:
                last_uses = frozenset(call.operands) - needed
                needed |= last_uses
                steps.append(_Step(call.function, call.operands, call.result, last_uses))
        return cls(inputs, outputs, constants, tuple(reversed(steps)), frozenset(inputs) - needed)

    def require_inputs(self, count: int) -> None:
        """Raise `InvalidRequest` if the plan takes another number of inputs."""
        if len(self.inputs) != count:
            raise InvalidRequest(f"The averaging plan takes {len(self.inputs)} tensors instead of {count}.")

    def run(self, inputs: Arrays, own: int = 0) -> Arrays:
        """Return the outputs for these inputs, as float64 arrays that the caller may change.

        Empties `inputs`, to free each array after its last use; the first `own` inputs are float64 arrays
        that may be overwritten. A division by zero follows IEEE 754 and is no error.
        """
        values: dict[_Key, Any] = dict(self.constants) | dict(zip(self.inputs, inputs, strict=True))
        inputs.clear()
        mine = set(self.inputs[:own])
        for key in self.unused:
            del values[key]
        with np.errstate(all="ignore"):
            for step in self.steps:
                shapes = {key: values[key].shape for key in step.operands}
                replaced = step.replaced(np.broadcast_shapes(*shapes.values()), shapes, mine)
                values[step.result] = step.function(
                    *(values[key] for key in step.operands),
                    out=None if replaced is None else values[replaced],
                    dtype=np.float64,
                )
                mine.add(step.result)
                for key in step.last_uses:
                    del values[key]
        return [
            np.asarray(values[key]) if is_own else np.array(values[key], np.float64)
            for key, is_own in self._outputs(mine)
        ]

    def needs(self, inputs: Sequence[_Shape], sizes: Sequence[int], own: int = 0) -> Needs:
        """Return what `run` makes and takes, without running it.

        `inputs` are the shapes and `sizes` the bytes of the inputs, 0 for an array that is also held
        elsewhere. Raises `InvalidRequest` if `run` would fail: wrong inputs, undefined values, shapes that do
        not fit.
        """
        self.require_inputs(len(inputs))
        shapes = {key: value.shape for key, value in self.constants.items()}
        shapes |= dict(zip(self.inputs, inputs, strict=True))
        held = dict(zip(self.inputs, sizes, strict=True))
        kept = sum(value.nbytes for value in self.constants.values())
        peak = now = kept + sum(sizes)
        mine = set(self.inputs[:own])
        calculated = 0
        now -= sum(held.pop(key) for key in self.unused)
        try:
            for step in self.steps:
                shape = _common_shape([shapes[key] for key in step.operands])
                calculated += math.prod(shape)
                if (replaced := step.replaced(shape, shapes, mine)) is None:
                    held[step.result] = _size(shape)
                    now += _size(shape)
                    peak = max(peak, now)
                else:
                    held[step.result] = held.pop(replaced)
                shapes[step.result] = shape
                mine.add(step.result)
                now -= sum(held.pop(key, 0) for key in step.last_uses)
            copied = sum(_size(shapes[key]) for key, is_own in self._outputs(mine) if not is_own)
            return Needs([shapes[key] for key in self.outputs], max(peak, now + copied), calculated)
        except KeyError as error:
            raise InvalidRequest("The averaging plan uses a value before it is calculated.") from error
        except ValueError as error:
            raise InvalidRequest(f"The averaging plan's shapes do not fit: {error}") from error

    def _outputs(self, mine: Collection[_Key]) -> Iterator[tuple[_Key, bool]]:
        """Yield the outputs, and whether an array is one of the plan's own and its first use as an output."""
        used: set[_Key] = set()
        for key in self.outputs:
            yield key, key in mine and key not in used
            used.add(key)


def _common_shape(operands: Sequence[_Shape]) -> _Shape:
    """Return the shape of a result. A row and a column must not make a matrix that fills all memory."""
    shape = np.broadcast_shapes(*operands)
    if math.prod(shape) > max(map(math.prod, operands)):
        raise ValueError(f"{' and '.join(map(str, operands))} would make {shape}")
    return shape


@dataclass(frozen=True, slots=True)
class _Call:
    """An action of a plan."""

    function: Callable[..., Any]
    operands: tuple[_Key, ...]
    result: _Key


def _call(position: int, action: pb.ComputationAction, constants: dict[_Key, Array]) -> _Call:
    """Check an action, and add the constants among its operands."""
    arity, function = _OPERATIONS.get(action.command, (0, np.positive))
    arguments = ([_target(action)] if action.WhichOneof("target") else []) + [*map(_argument, action.args)]
    if arity != len(arguments) or action.kwargs or len(action.return_placeholder_ids) != 1:
        raise _refused(action)
    operands: list[_Key] = []
    for number, argument in enumerate(arguments):
        if argument is None:
            raise _refused(action)
        if isinstance(argument, np.ndarray):
            constants[position, number] = argument
            argument = (position, number)
        operands.append(argument)
    return _Call(function, tuple(operands), _key(action.return_placeholder_ids[0].id))


def _refused(action: pb.ComputationAction) -> InvalidRequest:
    return InvalidRequest(
        f"The averaging plan uses {action.command[:40]!r} in a way that this node does not run."
    )


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
