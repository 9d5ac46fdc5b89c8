import io
import json
import re
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from google.protobuf import text_format

from pygrid_wire import MalformedPlan, has_torchscript, parse_plan, plan_forms
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


@pytest.mark.parametrize("name", ["linear", "mlp", "linear-noavg"])
def test_plan_without_torchscript_has_two_forms(name):
    """PyGrid accepts it; only some workers execute TorchScript."""
    plan = parse_plan(uploaded(name))
    assert has_torchscript(plan_forms(plan).torchscript)
    plan.ClearField("torchscript")

    assert not has_torchscript(plan_forms(plan).torchscript)


def archive(*, without=(), more=(), name="archive/", start=b"", **options):
    """Pack the recorded TorchScript again, with changes to its members."""
    body = io.BytesIO(start)
    body.seek(len(start))
    recorded = zipfile.ZipFile(io.BytesIO(parse_plan(uploaded("linear")).torchscript))
    with zipfile.ZipFile(body, "w", **options) as packed:
        for member in recorded.namelist():
            if not member.startswith(tuple(f"archive/{each}" for each in without)):
                packed.writestr(member.replace("archive/", name), recorded.read(member))
        for member, content in more:
            packed.writestr(member, content)
    return body.getvalue()


def test_other_archives_of_torchscript_are_accepted():
    """Members, directories and compression differ between versions of torch."""
    for body in (
        archive(),
        archive(name="model/"),
        archive(compression=zipfile.ZIP_DEFLATED),
        archive(more=[("archive/data/0", b"\0" * 4)]),
    ):
        plan = parse_plan(uploaded("linear"))
        plan.torchscript = body
        assert pb.Plan.FromString(plan_forms(plan).torchscript).torchscript == body


def elsewhere(offset):
    """An archive whose last member is far behind its end."""
    body = io.BytesIO(archive())
    with zipfile.ZipFile(body, "a") as packed:
        packed.infolist()[-1].header_offset = offset
        packed.writestr("archive/x", b"")
    return body.getvalue()


def flipped(body, place):
    """The body with one bit changed."""
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


GOOD = archive()
NO_ARCHIVES = {
    "garbage": b"garbage",
    "one byte": b"\0",
    "only the start of an archive": b"PK\x03\x04" + b"\0" * 100,
    "cut off": GOOD[:-30],
    "without its start": GOOD[20:],
    "bytes in front of it": b"#!" + GOOD,
    "an archive in an archive's place": archive(start=b"PK\x03\x04" + b"\0" * 60),
    "empty archive": b"PK\x05\x06" + b"\0" * 18,
    "no version": archive(without=["version"]),
    "no data": archive(without=["data.pkl"]),
    "no constants": archive(without=["constants.pkl"]),
    "no code": archive(without=["code/"]),
    "no directory": archive(name=""),
    "members in another directory": archive(without=["code/"], more=[("other/code/a.py", b"")]),
    "a flipped bit in a member": flipped(GOOD, 400),
    "a flipped bit in compressed code": flipped(archive(compression=zipfile.ZIP_DEFLATED), 400),
    "compression of another kind": archive(compression=zipfile.ZIP_LZMA),
    "a bomb": archive(more=[("archive/x", b"\0" * 2**26)], compression=zipfile.ZIP_DEFLATED),
    "very many members": archive(more=[(f"archive/{number}", b"") for number in range(10_000)]),
    "a member behind its end": elsewhere(2**32),
    "a member where no file ends": elsewhere(2**64 - 1),
    "encrypted": GOOD.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"),
}


@pytest.mark.parametrize("body", NO_ARCHIVES.values(), ids=NO_ARCHIVES.keys())
def test_torchscript_that_is_no_archive_is_refused(body):
    """The iOS pod loads it without a catch: an error there ends the app."""
    plan = parse_plan(uploaded("linear"))
    plan.torchscript = body

    with pytest.raises(MalformedPlan, match=r"^The TorchScript of a plan is no archive that torch has saved"):
        plan_forms(plan)


@pytest.mark.parametrize("form", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_any_bytes_are_an_archive_or_a_malformed_plan(form):
    """A bit is flipped, or the end is missing, at each tenth byte."""
    plan, body = parse_plan(uploaded("linear")), archive(compression=form)
    refused = 0
    for place in range(0, len(body), 10):
        for spoiled in (flipped(body, place), body[:place] or b"-"):
            plan.torchscript = spoiled
            try:
                plan_forms(plan)
            except MalformedPlan:
                refused += 1

    assert refused > len(body) // 10


def test_checking_a_bomb_takes_little_memory():
    """A thousand to one; nothing is inflated."""
    plan = parse_plan(uploaded("linear"))
    plan.torchscript = NO_ARCHIVES["a bomb"]
    tracemalloc.start()
    with pytest.raises(MalformedPlan):
        plan_forms(plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**20


def test_plan_without_translation_is_refused():
    """syft.js cannot train on it; the sentence is that of PyGrid."""
    plan = parse_plan(uploaded("linear"))
    plan.roles["tfjs"].ClearField("actions")
    with pytest.raises(MalformedPlan, match=r"^Failed to translate a Plan$"):
        plan_forms(plan)
    del plan.roles["tfjs"]
    with pytest.raises(MalformedPlan, match=r"^Failed to translate a Plan$"):
        plan_forms(plan)


@pytest.mark.parametrize("body", [b"\xff\xff", b""], ids=["garbage", "empty"])
def test_other_bytes_than_a_plan_are_refused(body):
    """Any bytes give a plan or `MalformedPlan`."""
    with pytest.raises(MalformedPlan, match=r"^Plan is not valid$"):
        parse_plan(body)
