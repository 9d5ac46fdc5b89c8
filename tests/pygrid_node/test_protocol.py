"""What is neither upload nor training: pages, pings, speed test, CORS, tokens, limits."""

import json
from pathlib import Path

import aiohttp
import pytest
from jose import jwt

from pygrid_node.storage.models import ProcessStore

pytestmark = pytest.mark.moto

MISC = json.loads((Path(__file__).parents[1] / "data" / "pygrid" / "misc.json").read_text())
SPEED_TEST = "/model-centric/speed-test"
QUERY = {"worker_id": "w", "random": "1"}


@pytest.mark.parametrize("entry", MISC["ws"], ids=lambda entry: entry["sent"]["type"])
def test_pings_are_answered_as_recorded(node, entry):
    """Clients keep their connection alive with them, and learn the node's id."""
    assert node.frames(entry["sent"]) == [entry["received"]]


@pytest.mark.parametrize("page", ["identity", "status"])
def test_pages_for_machines_are_as_recorded(node, page):
    """The body is the original's, which health checks may look at."""
    [entry] = [entry for entry in MISC["http"] if entry["what"] == page]
    answer = node.http("GET", f"/data-centric/{page}/")

    assert answer.json() == entry["body"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_root_is_a_page_for_humans(node):
    """A health check asks for it, without Upgrade."""
    answer = node.http("GET", "/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_speed_test_sends_64_mib_as_a_form(node):
    """The recorded length to the byte; the boundary is the one in the header."""
    answer = node.http("GET", SPEED_TEST, params=QUERY)
    [recorded] = [entry for entry in MISC["http"] if entry["what"] == "download sample"]
    boundary = answer.headers["Content-Type"].removeprefix("multipart/form-data; boundary=")

    assert len(answer.content) == int(answer.headers["Content-Length"]) == recorded["body_length"]
    assert answer.content.startswith(
        f'--{boundary}\r\nContent-Disposition: form-data; name="sample"'.encode()
    )
    assert answer.content.endswith(f"xxx\r\n--{boundary}--\r\n".encode())
    assert answer.content.count(b"x") >= 64 * 1024**2


def test_speed_test_takes_any_body_and_answers_pings(node):
    """What is sent is not looked at, nor limited like a message."""
    assert node.http("POST", SPEED_TEST, params=QUERY, data=b"upload_data=" + b"x" * 2**20).json() == {}
    assert node.http("GET", SPEED_TEST, params=QUERY | {"is_ping": "1"}).json() == {}
    assert node.http("POST", SPEED_TEST).status_code == 400


def test_a_browser_may_send_whatever_it_asks_for(node):
    """syft.js runs on pages of any origin."""
    asked = {"Origin": "http://x", "Access-Control-Request-Headers": "content-type"}
    answer = node.http("OPTIONS", "/model-centric/report", headers=asked)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_a_method_that_is_not_served_is_answered_in_json(node):
    """Also 405 carries `error`, and says what is allowed."""
    answer = node.http("DELETE", "/model-centric/report")

    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert answer.headers["Allow"] == "POST"


def test_a_message_above_the_limit_is_refused(start_node):
    """With a sentence that names the limit: 413 over HTTP; over WebSocket on a connection that goes on."""
    node = start_node(max_message_bytes=1000)
    sentence = "A message to this node has at most 1000 bytes (its setting MAX_MESSAGE_BYTES)."
    known = node.http("POST", "/model-centric/report", data=b"x" * 2000)
    unknown = node.http("POST", "/model-centric/report", data=iter([b"x" * 600] * 4))
    answers = node.frames("x" * 2000, {"type": "socket-ping"}, "x" * 1000, "x" * 1001)

    assert [(answer.status_code, answer.json()) for answer in (known, unknown)] == [
        (413, {"error": sentence})
    ] * 2
    assert answers[0] == answers[3] == {"error": sentence, "data": {"error": sentence}}
    assert answers[1] == {"alive": "True"}
    assert "Expecting value" in answers[2]["error"]


def test_a_message_in_many_frames_above_the_limit_ends_its_connection(start_node):
    """With 1009; nobody's client sends such, and the node goes on."""
    node = start_node(max_message_bytes=1000)

    async def send():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{node.address}/") as socket:
            # First frame of a text, and two that go on; each is short enough.
            for head in (b"\x01", b"\x00", b"\x00"):
                frame = head + b"\xfe" + (600).to_bytes(2) + bytes(4) + b"x" * 600
                socket._response.connection.transport.write(frame)
            return (await socket.receive()).data

    assert node.run(send()) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert node.frames({"type": "socket-ping"}) == [{"alive": "True"}]


def test_a_message_is_answered_in_order_on_one_connection(node):
    """A client matches answers to requests by their order alone."""
    kinds = ["socket-ping", "nope", "get-id", "socket-ping"]
    answers = node.frames(*({"type": kind} for kind in kinds), "[]", "[" * 100_000)

    assert [next(iter(answer)) for answer in answers[:4]] == ["alive", "error", "id", "alive"]
    assert answers[4] == {"error": "A JSON object is expected"}
    assert "error" in answers[5]


def test_a_client_that_leaves_before_its_answer_does_no_harm(node):
    """The answer is dropped, and so is the connection."""

    async def leave():
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                socket = await session.ws_connect(f"ws://{node.address}/")
                await socket.send_str('{"type": "model-centric/authenticate", "data": {}}')
                socket.get_extra_info("socket").shutdown(2)
                await socket.close()

    node.run(leave())

    assert node.frames({"type": "socket-ping"}) == [{"alive": "True"}]


def test_speeds_are_asked_for_only_where_the_upload_names_a_minimum(node, recorded):
    """A minimum of 0 counts as one; without any, no speed test is required."""
    changes = {f"server_config__minimum_{way}_speed": None for way in ("upload", "download")}
    node.upload(recorded(**changes))
    worker = node.worker("fixture-linear", ping=None)

    assert worker.authenticated["requires_speed_test"] is False
    assert worker.accepted["status"] == "accepted"


def test_a_fault_of_the_node_is_a_500_in_json(node, monkeypatch):
    """The trace is in the log, not in the answer."""

    def fault(*_args):
        raise RuntimeError("details")

    monkeypatch.setattr(ProcessStore, "find", fault)
    answer = node.checkpoint("any")

    assert (answer.status_code, answer.json()) == (500, {"error": "Internal error of the node."})


SECRET = "s3cret"


def token(key=SECRET, **claims):
    return jwt.encode({"sub": "phone-1", **claims}, key, algorithm="HS256")


@pytest.mark.parametrize(
    ("auth_token", "ok"),
    [(token(), True), (token("other"), False), (token(exp=1), False), ("junk", False), (7, False)],
)
def test_a_model_can_be_kept_for_workers_with_a_token(node, recorded, auth_token, ok):
    """The token is signed with the upload's secret and not expired."""
    node.upload(recorded(server_config__authentication={"secret": SECRET}))
    answer = node.ask("authenticate", {"model_name": "fixture-linear", "auth_token": auth_token})

    assert answer.get("status") == ("success" if ok else None)
    assert answer.get("error") == (None if ok else "The 'auth_token' you sent is invalid.")


def test_a_worker_of_an_open_model_has_no_way_into_a_closed_one(node, recorded):
    """A worker id is good for any open model; a model with tokens wants one that was got with a token."""
    node.upload(recorded())
    node.upload(recorded(client_config__name="open"))
    node.upload(recorded(client_config__name="closed", server_config__authentication={"secret": SECRET}))
    worker = node.worker("fixture-linear")
    answers = [node.ask("cycle-request", worker.request | {"model": name}) for name in ("open", "closed")]

    assert answers[0]["status"] == "accepted"
    assert answers[1] == {"status": "rejected", "error": "Worker ID not found!"}
