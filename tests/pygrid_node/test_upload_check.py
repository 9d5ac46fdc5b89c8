"""An upload is checked for its uploader; strangers who upload junk keep nobody else from uploading."""

import asyncio
import threading

import pytest

from pygrid_node.entities import UploadRequest
from pygrid_node.errors import NodeError, OrchestratorUnreachable, TooManyRefusedUploads, UploadNotAllowed
from pygrid_node.orchestrator import UploadCheck
from pygrid_node.refusals import Refusals
from pygrid_node.settings import OrchestratorLocation
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.moto

OWNER, STRANGER, NEIGHBOUR = "203.0.113.9", "198.51.100.7", "198.51.100.99"
SUCCESS = {"status": "success"}
REFUSED = {
    "error": "This node does not accept the model: it was not submitted, in this version, for its dataset."
}
TOO_MANY = {"error": "Too many refused uploads from this network. Try again in a minute."}


@pytest.fixture
def node(start_node):
    """A node behind one proxy."""
    return start_node(trusted_proxies=1)


@pytest.fixture
def for_owner(orchestrator):
    """An orchestrator that knows one model and its owner's address, and counts the questions of others."""
    orchestrator.allowed = lambda body: 200 if body["address"] == OWNER else 403
    return orchestrator


def bodies(orchestrator):
    return [body for body, _ in orchestrator.questions]


def test_upload_is_accepted_from_the_address_of_the_owner_only(node, for_owner, recorded):
    """The stranger came first; the owner does not wait for what the node remembers about the stranger."""
    answers = [node.upload(recorded(), address) for address in (STRANGER, STRANGER, NEIGHBOUR, OWNER)]
    asked = bodies(for_owner)

    assert answers == [REFUSED, REFUSED, REFUSED, SUCCESS]
    question = {"model_id": "fixture-linear", "version": "0.1"}
    assert asked == [question | {"address": address} for address in (STRANGER, STRANGER, OWNER)] + [
        question | {"address": OWNER, "result": "stored"}
    ]


def test_client_cannot_choose_its_address(node, for_owner, recorded):
    """What it sends in the header comes before what the proxy has added."""
    assert node.upload(recorded(), f"{OWNER}, {STRANGER}") == REFUSED
    assert bodies(for_owner)[0]["address"] == STRANGER


@pytest.mark.parametrize(
    ("address", "sent"),
    [(f"::ffff:{OWNER}", OWNER), ("2001:DB8:0:100::1", "2001:db8:0:100::1"), ("127.0.0.7", "127.0.0.7")],
)
def test_address_is_sent_in_one_spelling(node, orchestrator, recorded, address, sent):
    """The orchestrator compares it with the one of `/create`."""
    node.upload(recorded(), address)

    assert {body["address"] for body in bodies(orchestrator)} == {sent}


@pytest.mark.parametrize("name", ["one", None])
def test_junk_of_one_network_is_no_load_for_the_orchestrator(node, for_owner, recorded, name):
    """22 uploads of one name or of many; then the owner's."""
    for number in range(22):
        address = f"198.51.100.{number}"
        last = node.upload(recorded(client_config__name=name or f"junk-{number}"), address)
    asked = len(for_owner.questions)
    owner = node.upload(recorded(), OWNER)

    assert asked == (2 if name else 5)
    assert last == (REFUSED if name else TOO_MANY)
    assert owner == SUCCESS


def test_junk_of_one_ipv6_network_is_no_load_for_the_orchestrator(node, for_owner, recorded):
    """A household has 2**72 addresses, in 256 networks."""
    for number in range(10):
        address = f"2001:db8:0:1{number:02x}::{number}"
        last = node.upload(recorded(client_config__name=f"junk-{number}"), address)
    other = node.upload(recorded(), "2001:db8:0:200::1")

    assert len(for_owner.questions) == 6
    assert (last, other) == (TOO_MANY, REFUSED)


@pytest.mark.parametrize("token", ["t" * 1024, ""])
def test_token_of_the_upload_is_passed_on(node, orchestrator, recorded, token):
    """With the question and with the result; the orchestrator knows what it is worth."""
    assert node.upload(recorded(upload_token=token), OWNER) == SUCCESS
    assert [body["token"] for body in bodies(orchestrator)] == [token] * 2


@pytest.mark.parametrize("token", ["t" * 1025, "ü" * 513, 7, ["t"], {}])
def test_wrong_token_is_refused_without_a_question(node, orchestrator, recorded, token):
    """It is no text, or longer than a kilobyte."""
    assert node.upload(recorded(upload_token=token), OWNER) == {
        "error": "'upload_token' needs to be a text of at most 1024 bytes"
    }
    assert orchestrator.questions == []


def test_orchestrator_is_told_that_the_name_is_taken(node, orchestrator, recorded):
    """The library hides the node's sentence, so that the owner reads it elsewhere."""
    node.upload(recorded(), OWNER)
    again = node.upload(recorded(), OWNER)

    assert again == {"error": "FL Process already exists."}
    assert [body.get("result") for body in bodies(orchestrator)] == [None, "stored", None, "exists"]


def test_upload_that_is_not_stored_has_no_result(node, orchestrator, recorded):
    """Nothing is known about the model afterwards."""
    assert "error" in node.upload(recorded(model="ffff"), OWNER)
    assert [body.get("result") for body in bodies(orchestrator)] == [None]


def test_result_is_sent_after_the_model_is_stored_and_before_the_uploader_is_answered(
    node, orchestrator, recorded
):
    """So the orchestrator finds the model on the node."""
    found = []

    def look(body):
        if "result" in body:
            found.append(node.checkpoint("fixture-linear").ok)
        return 200

    orchestrator.allowed = look
    answer = node.upload(recorded(), OWNER)

    assert (answer, found) == (SUCCESS, [True])


@pytest.mark.parametrize("status", [404, 500, 503, 307])
def test_result_that_is_not_accepted_changes_nothing(node, orchestrator, recorded, status):
    """The orchestrator also asks the node which models it hosts."""
    orchestrator.allowed = lambda body: status if "result" in body else 200

    assert node.upload(recorded(), OWNER) == SUCCESS
    assert node.checkpoint("fixture-linear").ok


def a_check(orchestrator, **options):
    return UploadCheck(OrchestratorLocation.parse(orchestrator.location), **options)


def test_wait_for_the_receipt_of_a_result_is_limited(orchestrator):
    """A service that answers no more delays an uploader by the time-out only."""
    over = threading.Event()
    orchestrator.allowed = lambda _body: over.wait(20) and 200

    async def run():
        check = a_check(orchestrator, tell_timeout=0.1)
        await asyncio.wait_for(check.tell(UploadRequest("a", "1", OWNER), "stored"), timeout=10)

    try:
        asyncio.run(run())
    finally:
        over.set()


def test_result_needs_no_orchestrator(orchestrator):
    """A refused connection is logged."""
    check = a_check(orchestrator)
    orchestrator.close()

    asyncio.run(check.tell(UploadRequest("a", "1", OWNER), "stored"))


async def outcome(check, upload):
    try:
        await check.require_allowed(upload)
    except NodeError as error:
        return type(error)
    return None


def test_network_that_waits_for_answers_leaves_the_turns_to_others(orchestrator):
    """Its questions are asked one by one, though there are turns for several."""
    junk_is_there, over = threading.Event(), threading.Event()

    def answer(body):
        if body["address"] != OWNER:
            junk_is_there.set()
            over.wait(20)
        return 200

    orchestrator.allowed = answer

    async def run():
        check = a_check(orchestrator, timeout=20)
        uploads = [UploadRequest(f"junk-{number}", "1", STRANGER) for number in range(30)]
        junk = [asyncio.create_task(outcome(check, upload)) for upload in uploads]
        await asyncio.to_thread(junk_is_there.wait, 20)
        owner = await outcome(check, UploadRequest("owned", "1", OWNER))
        waiting = len(orchestrator.questions)
        over.set()
        return owner, waiting, await asyncio.gather(*junk)

    owner, waiting, junk = asyncio.run(run())

    assert (owner, waiting) == (None, 2)
    assert junk == [None] * 30


def test_uploads_that_wait_for_their_turn_are_refused_after_the_fifth_refusal(orchestrator):
    """They arrive at the same moment; after a minute the network is asked about again."""
    orchestrator.allowed = lambda _body: 403
    clock = FakeClock(0.0)

    async def run():
        check = a_check(orchestrator, refusals=Refusals(clock))
        uploads = [UploadRequest(f"junk-{number}", "1", STRANGER) for number in range(20)]
        at_once = await asyncio.gather(*(outcome(check, upload) for upload in uploads))
        clock.tick(60)
        return at_once, await outcome(check, uploads[0])

    at_once, later = asyncio.run(run())

    assert at_once == [UploadNotAllowed] * 5 + [TooManyRefusedUploads] * 15
    assert later is UploadNotAllowed
    assert len(orchestrator.questions) == 6


@pytest.mark.parametrize("status", [401, 429, 500])
def test_answer_that_is_not_about_the_model_is_not_remembered(orchestrator, status):
    """The uploader is told to try again, and may."""
    orchestrator.allowed = lambda _body: status

    async def run():
        check = a_check(orchestrator)
        failed = [await outcome(check, UploadRequest("a", "1", OWNER)) for _ in range(7)]
        orchestrator.allowed = lambda _body: 200
        return failed, await outcome(check, UploadRequest("a", "1", OWNER))

    assert asyncio.run(run()) == ([OrchestratorUnreachable] * 7, None)
