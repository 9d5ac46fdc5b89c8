"""A small interpreter for averaging plans: element-wise arithmetic in float64, and nothing else.

A plan is a stranger's program. Only the operations named here are run; no pickle, no TorchScript.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pygrid_node.errors import InvalidRequest
from pygrid_wire import MalformedState
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.state import read_state
from pygrid_wire.tensor import MalformedTensor, read_tensor

Array = np.ndarray[Any, Any]
Key = int | str


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
OPERATIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
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
    """One operation; an operand is the key of a value or a constant."""

    function: Callable[..., Any]
    operands: tuple[Key | Array, ...]
    result: Key
    forgets: frozenset[Key]  # values that no later step needs


@dataclass(frozen=True, slots=True)
class ElementwisePlan:
    """A plan that has been checked and can be run."""

    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    constants: Mapping[Key, Array]
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, plan: pb.Plan) -> "ElementwisePlan":
        """Check the operations of a plan; raises `InvalidRequest` naming one that is not allowed."""
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
        """The outputs for these inputs; a division by zero gives what IEEE 754 says, not an error."""
        values = dict(self.constants) | dict(zip(self.inputs, inputs, strict=True))
        with np.errstate(all="ignore"):
            for step in self.steps:
                operands = [values[key] if isinstance(key, int | str) else key for key in step.operands]
                values[step.result] = step.function(*operands)
                for key in step.forgets:
                    del values[key]
        return [np.asarray(values[key], np.float64) for key in self.outputs]

    def output_shapes(self, inputs: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The shapes that `run` would return, found without calculating.

        Raises `InvalidRequest` where it would fail: other inputs, unknown values, shapes that don't fit.
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
    """The shape of a result: that of the largest operand, lest a row and a column make all of a matrix."""
    shape = np.broadcast_shapes(*operands)
    if math.prod(shape) > max(map(math.prod, operands)):
        raise ValueError(f"{' and '.join(map(str, operands))} would make {shape}")
    return shape


def _step(action: pb.ComputationAction, needed: set[Key]) -> _Step:
    """The step of an action; `needed` are the keys that later steps and the outputs use."""
    arity, function = OPERATIONS.get(action.command, (0, operator.pos))
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


def _target(action: pb.ComputationAction) -> Key | Array | None:
    match action.WhichOneof("target"):
        case "target_placeholder_id":
            return _key(action.target_placeholder_id.id)
        case "target_tensor":
            return _constant(action.target_tensor.contents_data)
        case _:
            return None


def _argument(arg: pb.Arg) -> Key | Array | None:
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


def _constants(state: pb.State) -> dict[Key, Array]:
    if not state.tensors:
        return {}
    try:
        values = [tensor.values.astype(np.float64) for tensor in read_state(state)]
    except MalformedState as error:
        raise InvalidRequest(f"The averaging plan's state can't be read: {error}") from error
    return dict(zip((_key(placeholder.id) for placeholder in state.placeholders), values, strict=False))


def _key(id_: pb.Id) -> Key:
    return id_.id_str if id_.WhichOneof("id") == "id_str" else id_.id_int
