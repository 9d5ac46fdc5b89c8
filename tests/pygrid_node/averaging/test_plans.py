"""Averaging plans: the recorded one is the mean; one with other operations is refused."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pygrid_node.averaging.plans import IterativePlan, Mean, averaging_rule
from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_wire import encode_state
from pygrid_wire import syft_pb2 as pb

DATA = Path(__file__).parents[2] / "data" / "pygrid"


def reference(key):
    return pb.PlaceholderId(id=pb.Id(id_int=key))


def operand(value):
    if isinstance(value, pb.Arg):
        return value
    return pb.Arg(arg_placeholder_id=reference(value))


def plan(*actions, inputs, outputs, state=None):
    """A plan of `(command, result, target or None, *arguments)`; placeholders are whole numbers."""
    message = pb.Plan()
    role = message.role
    role.input_placeholder_ids.extend(pb.Id(id_int=key) for key in inputs)
    role.output_placeholder_ids.extend(pb.Id(id_int=key) for key in outputs)
    for command, result, target, *arguments in actions:
        action = role.actions.add(command=command, return_placeholder_ids=[reference(result)])
        if isinstance(target, pb.TorchTensor):
            action.target_tensor.CopyFrom(target)
        elif target is not None:
            action.target_placeholder_id.CopyFrom(reference(target))
        action.args.extend(map(operand, arguments))
    if state:
        role.state.ParseFromString(state)
    return message


def rule(message, shapes=((2,),), *, iterative=True, max_diffs=2):
    parameters = [ParameterSpec("float32", shape) for shape in shapes]
    return averaging_rule(message.SerializeToString(), parameters, None if iterative else max_diffs)


def averaged(rule, diffs):
    for diff in diffs:
        rule.add(diff)
    return rule.average()


def number(value):
    return pb.Arg(arg_float=value)


@pytest.mark.parametrize("process", ["linear", "mlp"])
def test_recorded_plan_is_the_mean(process):
    """artificienlib's `(avg * num + item) / (num + 1)`, over any number of diffs."""
    upload = json.loads((DATA / process / "upload.request.json").read_text())["data"]
    shapes = json.loads((DATA / process / "expected.json").read_text())["parameter_shapes"]
    parameters = [ParameterSpec("float32", tuple(shape)) for shape in shapes]
    body = bytes.fromhex(upload["averaging_plan"])
    diffs = [[np.random.default_rng(seed).normal(size=shape) for shape in shapes] for seed in range(7)]
    by_plan = averaging_rule(body, parameters, diffs_at_once=None)

    assert isinstance(by_plan, IterativePlan)
    for mine, mean in zip(averaged(by_plan, diffs), averaged(Mean(), diffs), strict=True):
        assert np.allclose(mine, mean, rtol=0, atol=1e-15)


def test_memory_does_not_grow_with_the_number_of_diffs():
    """The mean and an iterative plan hold one sum; diffs are not kept."""
    size = 100_000

    def peak(rule, count):
        tracemalloc.start()
        averaged(rule, ([np.full(size, float(number))] for number in range(count)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    summed = plan(("add", 4, 1, 2), inputs=[1, 2, 3], outputs=[4])
    for make in (Mean, lambda: rule(summed, shapes=[(size,)])):
        assert peak(make(), 40) < 1.1 * peak(make(), 4)


def test_plan_that_takes_all_diffs_runs_once():
    """Its inputs are diff after diff, each parameter after parameter."""
    weighted = plan(("__mul__", 3, 1, number(0.25)), ("__mul__", 4, 2, number(0.75)), ("add", 5, None, 3, 4),
                    inputs=[1, 2], outputs=[5])  # fmt: skip
    diffs = [[np.array([0.0, 4.0])], [np.array([4.0, 0.0])]]
    [average] = averaged(rule(weighted, iterative=False), diffs)

    assert average.tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("command", "arguments", "result"),
    [
        ("__sub__", [2], [-1.0, 0.0]),
        ("__rsub__", [2], [1.0, 0.0]),
        ("torch.div", [2], [0.5, 1.0]),
        ("__pow__", [pb.Arg(arg_int=2)], [1.0, 4.0]),
        ("__neg__", [], [-1.0, -2.0]),
        ("torch.abs", [], [1.0, 2.0]),
        ("sqrt", [], [1.0, 2.0**0.5]),
    ],
)
def test_operations_are_those_of_arithmetic(command, arguments, result):
    """The first operand is the action's target, or its first argument."""
    one = plan((command, 4, 1, *arguments), inputs=[1, 2, 3], outputs=[4])
    [average] = averaged(rule(one), [[np.array([1.0, 2.0])], [np.array([2.0, 2.0])]])

    assert np.allclose(average, result, atol=1e-15)


def test_constants_come_from_the_state_and_from_tensors():
    """A plan's own state, a tensor as target, a tensor as argument."""
    state = pb.State.FromString(encode_state([np.array([10.0])]))
    state.placeholders[0].id.id_int = 9
    tensor = pb.State.FromString(encode_state([np.array([2.0])])).tensors[0].torch_tensor
    last = ("add", 6, None, 5, pb.Arg(arg_tensor=tensor))
    summed = plan(("__add__", 4, 1, 9), ("__mul__", 5, tensor, 4), last,
                  inputs=[1, 2, 3], outputs=[6], state=state.SerializeToString())  # fmt: skip
    [average] = averaged(rule(summed), [[np.array([1.0, 2.0])]] * 2)

    assert average.tolist() == [24.0, 26.0]


def with_kwargs():
    message = plan(("add", 4, 1, 2), inputs=[1, 2, 3], outputs=[4])
    message.role.actions[0].kwargs["alpha"].arg_float = 2
    return message


def with_string_id():
    message = plan(("add", 4, 1, 2), inputs=[1, 2], outputs=[4])
    message.role.input_placeholder_ids.add(id_str="n")
    message.role.actions[0].args[0].arg_placeholder_id.id.id_str = "unknown"
    return message


def with_pointer():
    message = plan(("add", 4, None, 2), inputs=[1, 2, 3], outputs=[4])
    message.role.actions[0].target_pointer.SetInParent()
    return message


BROKEN = pb.TorchTensor(contents_data=pb.TensorData(dtype="nope"))
NOT_RUN = {
    "matrix product": (plan(("__matmul__", 4, 1, 2), inputs=[1, 2, 3], outputs=[4]), "'__matmul__'"),
    "in place": (plan(("add_", 4, 1, 2), inputs=[1, 2, 3], outputs=[4]), "'add_'"),
    "no operand": (plan(("add", 4, 1), inputs=[1, 2, 3], outputs=[4]), "'add'"),
    "an operand that is text": (
        plan(("add", 4, 1, pb.Arg(arg_str="os")), inputs=[1, 2, 3], outputs=[4]), "'add'"),
    "keyword": (with_kwargs(), "'add'"),
    "unknown value": (with_string_id(), "before it is calculated"),
    "too few inputs": (plan(("add", 4, 1, 2), inputs=[1, 2], outputs=[4]), "takes 2 tensors instead of 3"),
    "another shape": (plan(("add", 4, 3, 3), inputs=[1, 2, 3], outputs=[4]), "does not return the model"),
    "a tensor that is none": (plan(("add", 4, BROKEN, 2), inputs=[1, 2, 3], outputs=[4]), "can't be read"),
    "a pointer as target": (with_pointer(), "'add'"),
    "a state that is none": (
        plan(("add", 4, 1, 2), inputs=[1, 2, 3], outputs=[4],
             state=pb.State(tensors=[pb.StateTensor()]).SerializeToString()), "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "complaint"), NOT_RUN.values(), ids=NOT_RUN.keys())
def test_plan_that_would_fail_is_refused_at_the_upload(message, complaint):
    """A sentence names the operation, so that no training fails later."""
    with pytest.raises(InvalidRequest, match=complaint):
        rule(message)


def test_shapes_that_do_not_fit_are_refused_at_the_upload():
    """The plan is not run for that."""
    with pytest.raises(InvalidRequest, match="shapes do not fit"):
        rule(plan(("add", 6, 1, 2), inputs=[1, 2, 3, 4, 5], outputs=[6]), shapes=[(2,), (3,)])


def test_row_and_a_column_do_not_make_a_matrix():
    """Two vectors of a small model would fill all memory; a scalar fits any shape."""
    with pytest.raises(InvalidRequest, match="would make"):
        rule(plan(("mul", 6, 1, 2), inputs=[1, 2, 3, 4, 5], outputs=[6, 2]), shapes=[(3, 1), (1, 4)])
    scaled = plan(("mul", 6, 1, 5), inputs=[1, 2, 3, 4, 5], outputs=[6, 2])
    diffs = [[np.ones((3, 1)), np.ones((1, 4))]] * 3

    assert averaged(rule(scaled, shapes=[(3, 1), (1, 4)]), diffs)[0].tolist() == [[2.0]] * 3
