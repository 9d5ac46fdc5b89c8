"""Executes the training plan that a data scientist sent, in NumPy, as syft.js does in a phone's browser.

The plan is a list of operations on placeholders, in TensorFlow.js's words; the ones here are those that
artificienlib's tracing of a linear regression gives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pygrid_wire import syft_pb2 as pb

Value = Any
Operation = Callable[..., Value]


class UnknownOperationError(Exception):
    """The plan asks for something that this phone can't compute."""


OPERATIONS: dict[str, Operation] = {
    "clone": np.copy,
    "tf.add": np.add,
    "tf.argMax": lambda x, axis: np.argmax(x, axis=axis),
    "tf.cast": lambda x, dtype: np.asarray(x, dtype=dtype),
    "tf.div": np.divide,
    "tf.equal": np.equal,
    "tf.layers.reshape": np.reshape,
    "tf.matMul": np.matmul,
    "tf.mul": np.multiply,
    "tf.sub": np.subtract,
    "tf.sum": lambda x, axis=None: np.sum(x, axis=None if axis is None else tuple(axis)),
    "tf.transpose": np.transpose,
}


def run(plan: bytes, *inputs: Value) -> list[Value]:
    """Return the plan's outputs: loss, accuracy, then the updated parameters.

    `plan` is a `Plan` in its tfjs form; `inputs` are X, y, batch size, learning rate and the parameters.
    Raises UnknownOperationError.
    """
    role = pb.Plan.FromString(plan).role
    places = {_id(place): value for place, value in zip(role.input_placeholder_ids, inputs, strict=True)}
    for action in role.actions:
        if action.command not in OPERATIONS:
            raise UnknownOperationError(f"The plan asks for {action.command}.")
        result = OPERATIONS[action.command](*_arguments(action.args, places))
        places[_id(action.return_placeholder_ids[0].id)] = result
    return [places[_id(place)] for place in role.output_placeholder_ids]


def _arguments(arguments: Sequence[pb.Arg], places: dict[int, Value]) -> list[Value]:
    return [_argument(argument, places) for argument in arguments]


def _argument(argument: pb.Arg, places: dict[int, Value]) -> Value:
    kind = argument.WhichOneof("arg")
    match kind:
        case "arg_placeholder_id":
            return places[_id(argument.arg_placeholder_id.id)]
        case "arg_list":
            return _arguments(argument.arg_list.args, places)
        case "arg_bool" | "arg_int" | "arg_float" | "arg_str":
            return getattr(argument, kind)
        case _:
            raise UnknownOperationError(f"The plan has an argument of the kind {kind}.")


def _id(of: pb.Id) -> int:
    return of.id_int
