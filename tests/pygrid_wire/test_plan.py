import json
import re
from pathlib import Path

import pytest
from google.protobuf import text_format

from pygrid_wire import MalformedPlan, parse_plan, plan_forms
from pygrid_wire import syft_pb2 as pb

DATA = Path(__file__).parents[1] / "data" / "pygrid"


def uploaded(name):
    frame = json.loads((DATA / name / "upload.request.json").read_text())
    return bytes.fromhex(frame["data"]["plans"]["training_plan"])


def content(body):
    """Return a plan as text: ids numbered in order, map entries sorted, TorchScript only present or absent.

    The original numbers ids anew and packs the TorchScript archive again whenever it writes a plan.
    """
    plan = pb.Plan.FromString(body)
    has_torchscript = bool(plan.torchscript)
    plan.ClearField("torchscript")
    roles = {key: role.SerializeToString(deterministic=True) for key, role in sorted(plan.roles.items())}
    plan.ClearField("roles")
    parts = [text_format.MessageToString(plan)]
    parts += [text_format.MessageToString(pb.Role.FromString(role)) for role in roles.values()]
    numbers = {}
    text = re.sub(
        r"id_int: (\d+)", lambda id_: f"id {numbers.setdefault(id_[1], len(numbers))}", "\n".join(parts)
    )
    return has_torchscript, list(roles), text


def role_content(role):
    return content(pb.Plan(role=role).SerializeToString())


@pytest.mark.parametrize("name", ["linear", "mlp", "linear-noavg"])
@pytest.mark.parametrize("form", ["torchscript", "tfjs", "list"])
def test_forms_of_a_plan_have_the_recorded_content(name, form):
    """A worker receives the same as from PyGrid, except for ids."""
    ours = getattr(plan_forms(parse_plan(uploaded(name))), form)
    recorded = (DATA / name / f"plan.{form}.bin").read_bytes()
    mine, theirs = pb.Plan.FromString(ours), pb.Plan.FromString(recorded)

    assert role_content(mine.role) == role_content(theirs.role)
    assert content(ours)[:2] == content(recorded)[:2]
    assert (mine.name, mine.base_framework, mine.input_types) == (
        theirs.name,
        theirs.base_framework,
        theirs.input_types,
    )
    for key in mine.roles:
        assert role_content(mine.roles[key]) == role_content(theirs.roles[key])


def test_plan_without_torchscript_is_served_without_it():
    """PyGrid accepts it; workers that request TorchScript receive none."""
    plan = parse_plan(uploaded("linear"))
    plan.ClearField("torchscript")

    assert pb.Plan.FromString(plan_forms(plan).torchscript).torchscript == b""


def test_plan_without_translation_is_refused():
    """syft.js cannot train on it; the sentence is that of PyGrid."""
    plan = parse_plan(uploaded("linear"))
    del plan.roles["tfjs"]

    with pytest.raises(MalformedPlan, match=r"^Failed to translate a Plan$"):
        plan_forms(plan)


@pytest.mark.parametrize("body", [b"\xff\xff", b""], ids=["garbage", "empty"])
def test_other_bytes_than_a_plan_are_refused(body):
    """Any bytes give a plan or `MalformedPlan`."""
    with pytest.raises(MalformedPlan, match=r"^Plan is not valid$"):
        parse_plan(body)
