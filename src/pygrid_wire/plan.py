"""Plans: the operations a worker executes, in the three forms that workers ask for."""

import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO

from google.protobuf.message import DecodeError

from pygrid_wire import syft_pb2 as pb
from pygrid_wire.tensor import Bytes

# The role, and the `base_framework`, of the operations for syft.js.
TFJS = "tfjs"

# Of a TorchScript archive.
_MEMBERS = frozenset({"version", "data.pkl", "constants.pkl"})
_CODE = "code/"
_MOST_MEMBERS = 10_000
_LARGEST_ARCHIVE = 32 * 1024**2  # bytes, inflated
_COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # those that torch reads
_ENCRYPTED = 1


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


def has_torchscript(form: bytes) -> bool:
    """Return whether a serialized plan has TorchScript, without parsing the rest of it."""
    return bool(pb.PlanTorchScript.FromString(form).torchscript)


def plan_forms(plan: pb.Plan) -> PlanForms:
    """Return the three forms of an uploaded training plan, trimmed as PyGrid trims them.

    `torchscript` omits the operations of the plan's own role, `list` omits the TorchScript, and `tfjs` has
    the translated operations only. TorchScript is optional. Raises `MalformedPlan` for a plan without the
    translation, or with TorchScript that is not an archive of torch.
    """
    if TFJS not in plan.roles or not plan.roles[TFJS].actions:
        raise MalformedPlan("Failed to translate a Plan")
    if plan.torchscript:
        _check_archive(plan.torchscript)
    return PlanForms(
        torchscript=_torchscript(plan).SerializeToString(),
        tfjs=_tfjs(plan).SerializeToString(),
        list=_list(plan).SerializeToString(),
    )


def _check_archive(archive: bytes) -> None:
    """Raise `MalformedPlan` unless an archive is whole and has the members that torch reads first.

    Nothing in it is executed or unpickled, and memory holds one chunk of a member.
    """
    try:
        with zipfile.ZipFile(BytesIO(archive)) as members:
            reason = _fault(members.infolist()) or ("a member is damaged" if members.testzip() else None)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        ValueError,
    ) as error:
        raise MalformedPlan(_no_archive(str(error))) from error
    if reason:
        raise MalformedPlan(_no_archive(reason))


def _fault(members: list[zipfile.ZipInfo]) -> str | None:
    """Return what is wrong with the directory of an archive."""
    if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _LARGEST_ARCHIVE:
        return "it is too large"
    if any(member.compress_type not in _COMPRESSIONS or member.flag_bits & _ENCRYPTED for member in members):
        return "its compression is unknown"
    if min((member.header_offset for member in members), default=0):
        return "it starts with other bytes"
    # torch looks in the directory of the first member only.
    directory = members[0].filename.partition("/")[0] + "/" if members else ""
    names = {
        member.filename.removeprefix(directory) for member in members if member.filename.startswith(directory)
    }
    if missing := sorted(_MEMBERS - names):
        return f"it has no {missing[0]}"
    return None if any(name.startswith(_CODE) for name in names) else "it has no code"


def _no_archive(reason: str) -> str:
    return f"The TorchScript of a plan is no archive that torch has saved: {reason}"


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
