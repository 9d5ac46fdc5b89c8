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


SIZE = 200_000
DTYPES = ["float32", "float64", "int16"]


def any_plan(random, count):
    """A plan of random operations on arrays and numbers, some of them unused; and the average of diffs."""
    arrays, numbers = ([1, 2], [3]) if count is None else (list(range(1, count + 1)), [])
    inputs = [*arrays, *numbers]
    state = encode_state([np.ones(SIZE), np.ones(1)])
    arrays.append(9)
    numbers.append(10)
    steps = []
    for result in range(100, 100 + int(random.integers(1, 30))):
        left, right = (random.choice(numbers if random.random() < 0.2 else arrays) for _ in range(2))
        operands = [int(left), pb.Arg(arg_int=2) if random.random() < 0.2 else int(right)]
        steps.append((str(random.choice(["add", "__rsub__", "mul"])), result, *operands))
        is_array = left in arrays or (not isinstance(operands[1], pb.Arg) and right in arrays)
        (arrays if is_array else numbers).append(result)
    output = int(random.choice(arrays))
    message = plan(*steps, inputs=inputs, outputs=[output], state=state)
    message.role.state.placeholders[0].id.id_int = 9
    message.role.state.placeholders[1].id.id_int = 10
    return message, lambda diffs: calculated(steps, output, diffs, iterative=count is None)


def calculated(steps, output, diffs, *, iterative):
    """Calculate the average as the plan says, with a new array for each result."""
    diffs = [diff.astype(np.float64) for diff in diffs]
    functions = {"add": np.add, "mul": np.multiply, "__rsub__": lambda left, right: right - left}
    average = diffs[0]
    rounds = [(diff, number) for number, diff in enumerate(diffs)][1:] if iterative else [(None, 0)]
    for diff, number in rounds:
        inputs = (
            {1: average, 2: diff, 3: np.array([float(number)])} if iterative else dict(enumerate(diffs, 1))
        )
        values = {9: np.ones(SIZE), 10: np.ones(1)} | inputs
        with np.errstate(all="ignore"):
            for command, result, left, right in steps:
                right = 2.0 if isinstance(right, pb.Arg) else values[right]
                values[result] = functions[command](values[left], right)
        average = values[output]
    return average


@pytest.mark.parametrize("seed", range(40))
def test_memory_that_is_calculated_at_the_upload_is_the_memory_that_averaging_takes(seed):
    """Random plans, called for each diff or once for all; measured by what NumPy allocates."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 5)) if seed % 2 else None
    spec = ParameterSpec(str(random.choice(DTYPES)), (SIZE,))
    message, average_of = any_plan(random, count)
    averaging = averaging_rule(message.SerializeToString(), [spec], count)
    diffs = [[np.arange(SIZE).astype(spec.dtype)] for _ in range(count or 4)]
    constants = (SIZE + 1) * 8
    tracemalloc.start()
    [average] = averaged(averaging, diffs)
    peak = tracemalloc.get_traced_memory()[1] + constants  # they were read before
    tracemalloc.stop()

    assert average.dtype == np.float64
    assert np.array_equal(average, average_of([diff for [diff] in diffs]), equal_nan=True)
    # NumPy converts dtypes in buffers of 64 kB; the smallest of the arrays has 400 kB.
    assert abs(averaging.memory([spec]) - peak) < 200_000


def test_library_s_plan_takes_the_memory_of_the_mean():
    """The average is overwritten by each step; the diff is read where it is."""
    upload = json.loads((DATA / "linear" / "upload.request.json").read_text())["data"]
    parameters = [ParameterSpec("float32", (1000, 3)), ParameterSpec("float32", (1000,))]
    by_plan = averaging_rule(bytes.fromhex(upload["averaging_plan"]), parameters, diffs_at_once=None)

    assert Mean().memory(parameters) == 4000 * 8
    assert by_plan.memory(parameters) < 4000 * 8 + 200


def test_result_does_not_depend_on_what_is_overwritten():
    """Constants and diffs stay as they are; two outputs are two arrays."""
    state = pb.State.FromString(encode_state([np.array([10.0, 20.0])]))
    state.placeholders[0].id.id_int = 9
    # The average's last use is the first step's, the constant's and the diff's are the second's.
    same = plan(("sub", 20, 1, 9), ("add", 21, 20, 9), ("add", 22, 21, 3), inputs=[1, 2, 3, 4, 5],
                outputs=[22, 22], state=state.SerializeToString())  # fmt: skip
    averaging = rule(same, shapes=[(2,), (2,)])
    diffs = [[np.full(2, float(number)), np.zeros(2)] for number in range(4)]
    first, second = averaged(averaging, diffs)

    assert first.tolist() == second.tolist() == [6.0, 6.0]
    assert not np.shares_memory(first, second)
    assert [diff[0].tolist() for diff in diffs] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32"])
def test_numbers_are_calculated_in_float64_whatever_the_dtype_is(dtype):
    """Two diffs of one dtype would overflow in it, or lose digits."""
    large = plan(("mul", 4, 2, 2), ("mul", 5, 4, 4), ("sub", 6, 5, 2), ("neg", 7, 6), ("abs", 8, 7),
                 inputs=[1, 2, 3], outputs=[8])  # fmt: skip
    value = np.ones(1, dtype) if dtype == "bool" else np.full(1, 100, dtype)
    [average] = averaged(rule(large, shapes=[(1,)]), [[value], [value]])

    assert average.tolist() == [0.0 if dtype == "bool" else 1e8 - 100]


def live(count):
    """A plan that calculates so many arrays and then adds them up."""
    arrays = [("add", 100 + number, 1, number_of(number)) for number in range(count)]
    sums = [
        ("add", 2000 + number, 2 if number == 0 else 1999 + number, 100 + number) for number in range(count)
    ]
    return plan(*arrays, *sums, inputs=[1, 2, 3], outputs=[1999 + count])


def number_of(value):
    return pb.Arg(arg_int=value)


@pytest.mark.parametrize("iterative", [True, False])
def test_plan_that_holds_many_arrays_is_refused_at_the_upload(iterative):
    """A model of 2 MB and 199 arrays of 4 MB each."""
    message, spec = live(199), ParameterSpec("float32", (500_000,))
    if not iterative:
        del message.role.input_placeholder_ids[2:]
    with pytest.raises(
        InvalidRequest, match=r"takes [78]\d{8} bytes of memory; this node has 536870912 \(its"
    ):
        averaging_rule(message.SerializeToString(), [spec], None if iterative else 2, most_memory=2**29)
    few = live(50) if iterative else plan(("add", 3, 1, 2), inputs=[1, 2], outputs=[3])

    assert averaging_rule(few.SerializeToString(), [spec], None if iterative else 2, most_memory=2**29)


def test_model_of_many_small_numbers_is_refused_even_without_a_plan():
    """The sum of each is a float64."""
    with pytest.raises(InvalidRequest, match="takes 8008 bytes of memory; this node has 8000"):
        averaging_rule(b"", [ParameterSpec("int8", (1001,))], None, most_memory=8000)

    assert averaging_rule(b"", [ParameterSpec("int8", (1000,))], None, most_memory=8000)


def test_plan_of_too_many_actions_is_refused():
    """Also if nothing needs their results."""
    with pytest.raises(InvalidRequest, match="The averaging plan has 1001 actions, more than 1000"):
        rule(plan(*[("neg", 100 + number, 1) for number in range(1001)], inputs=[1, 2, 3], outputs=[2]))
    assert rule(plan(*[("neg", 100 + number, 1) for number in range(1000)], inputs=[1, 2, 3], outputs=[2]))


def test_plan_that_calculates_too_long_is_refused():
    """A small model may use all actions, a large one a few; what is not needed is not calculated."""
    chain = [("pow", 4, 1, 2), *(("pow", 5 + number, 4 + number, 2) for number in range(299))]
    long = plan(*chain, inputs=[1, 2, 3], outputs=[303])
    with pytest.raises(InvalidRequest, match="calculates 300000000 numbers, more than 268435456"):
        rule(long, shapes=[(1_000_000,)])

    assert rule(long, shapes=[(800_000,)])
    del long.role.output_placeholder_ids[:]
    long.role.output_placeholder_ids.add(id_int=4)
    assert rule(long, shapes=[(1_000_000,)])


@pytest.mark.parametrize("result", [1, 9])
def test_value_is_calculated_once(result):
    """A plan has no variables."""
    with pytest.raises(InvalidRequest, match="calculates a value twice"):
        rule(plan(("neg", 9, 1), ("neg", result, 2), inputs=[1, 2, 3], outputs=[result]))


def test_scalar_parameters_are_averaged():
    """NumPy calculates numbers, and no arrays, from arrays without dimensions."""
    summed = plan(("add", 4, 1, 2), ("neg", 5, 4), inputs=[1, 2, 3], outputs=[5])
    with pytest.raises(InvalidRequest, match="does not return"):
        rule(plan(("add", 4, 1, 3), inputs=[1, 2, 3], outputs=[4]), shapes=[()])
    [average] = averaged(rule(summed, shapes=[()]), [[np.array(2.0)], [np.array(3.0)]])

    assert isinstance(average, np.ndarray)
    assert average.tolist() == -5.0


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
