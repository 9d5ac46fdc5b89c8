"""The training plan that artificienlib has traced, executed without a node."""

from pathlib import Path

import numpy as np
import pytest

from local_platform.demo import phone, study
from local_platform.demo.phone import UnknownOperationError, execute
from pygrid_wire import syft_pb2 as pb

PLAN = Path(phone.__file__).with_name("training_plan.pb").read_bytes()


@pytest.fixture
def tfjs_plan():
    """The plan in the form that phones download."""
    plan = pb.Plan.FromString(PLAN)
    return pb.Plan(name=plan.name, role=plan.roles["tfjs"])


@pytest.fixture
def records():
    generator = np.random.default_rng(0)
    return study.Records(*(generator.normal(size=(13, n)).astype(np.float32) for n in (10, 1)))


def test_plan_is_one_step_of_gradient_descent(tfjs_plan, records):
    """It returns the loss before the step, and the parameters after it."""
    parameters = [np.zeros((1, 10), np.float32), np.zeros(1, np.float32)]
    size, rate = np.array([13], np.float32), np.array([0.1], np.float32)
    loss, _, *updated = execute(tfjs_plan.SerializeToString(), records.X, records.y, size, rate, *parameters)

    assert np.sum(loss) == pytest.approx(study.mean_squared_error(records, *parameters), rel=1e-6)
    for ours, expected in zip(updated, study.pooled_descent(records, rate=0.1, steps=1), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_unknown_operation_is_named(tfjs_plan):
    tfjs_plan.role.actions[0].command = "tf.conv2d"

    with pytest.raises(UnknownOperationError, match=r"tf\.conv2d"):
        execute(tfjs_plan.SerializeToString(), *[0] * len(tfjs_plan.role.input_placeholder_ids))


def test_unknown_argument_is_named():
    plan = pb.Plan()
    action = plan.role.actions.add(command="clone")
    action.args.add()

    with pytest.raises(UnknownOperationError, match="None"):
        execute(plan.SerializeToString())
