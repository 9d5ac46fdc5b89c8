"""Plans: the operations a worker executes, in the three forms that workers ask for."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pygrid_wire import syft_pb2 as pb
from pygrid_wire.tensor import Bytes

# The role, and the `base_framework`, of the operations for syft.js.
TFJS = "tfjs"


class MalformedPlan(ValueError):
    """The bytes are not a usable plan; the text says why, for the client that sent them."""


@dataclass(frozen=True, slots=True)
class PlanForms:
    """One training plan, serialized once for each value of `receive_operations_as`."""

    torchscript: bytes
    tfjs: bytes
    list: bytes


def parse_plan(body: Bytes) -> pb.Plan:
    """Parse a serialized plan; raises `MalformedPlan` if it cannot be parsed or has no operations."""
    try:
        plan = pb.Plan.FromString(bytes(body))
    except DecodeError as error:
        raise MalformedPlan("Plan is not valid") from error
    if not plan.role.actions:
        raise MalformedPlan("Plan is not valid")
    return plan


def plan_forms(plan: pb.Plan) -> PlanForms:
    """Return the three forms of an uploaded training plan, trimmed as PyGrid trims them.

    `torchscript` omits the operations of the plan's own role, `list` omits the TorchScript, and `tfjs` has
    the translated operations only. TorchScript is optional; a plan without the translation raises
    `MalformedPlan`.
    """
    if TFJS not in plan.roles:
        raise MalformedPlan("Failed to translate a Plan")
    return PlanForms(
        torchscript=_torchscript(plan).SerializeToString(),
        tfjs=_tfjs(plan).SerializeToString(),
        list=_list(plan).SerializeToString(),
    )


def _torchscript(plan: pb.Plan) -> pb.Plan:
    form = _copy(plan)
    form.role.ClearField("actions")
    return form


def _tfjs(plan: pb.Plan) -> pb.Plan:
    form = _list(plan)
    form.role.CopyFrom(plan.roles[TFJS])
    form.ClearField("roles")
    form.base_framework = TFJS
    return form


def _list(plan: pb.Plan) -> pb.Plan:
    form = _copy(plan)
    form.ClearField("torchscript")
    return form


def _copy(plan: pb.Plan) -> pb.Plan:
    copy = pb.Plan()
    copy.CopyFrom(plan)
    return copy
