"""HTTP: pages, CORS, limits, errors, and the credential for trained models."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

pytestmark = pytest.mark.moto

MISC = json.loads((Path(__file__).parents[2] / "data" / "pygrid" / "misc.json").read_text())
BASIC = "Basic dXNAZXI6cC93"
MODEL = {"name": "fixture-linear", "version": "0.1"}


@pytest.mark.parametrize("page", ["identity", "status"])
def test_identity_and_status_are_as_recorded(node, page):
    """Health checks may read them."""
    [entry] = [entry for entry in MISC["http"] if entry["what"] == page]
    answer = node.http("GET", f"/data-centric/{page}/")

    assert answer.json() == entry["body"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_root_is_a_page(node):
    """Health checks request it, without Upgrade."""
    answer = node.http("GET", "/")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_browser_may_send_any_header(node):
    """syft.js runs on pages of any origin."""
    asked = {"Origin": "http://x", "Access-Control-Request-Headers": "content-type"}
    answer = node.http("OPTIONS", "/model-centric/report", headers=asked)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_method_that_is_not_served_is_answered_in_json(node):
    """The answer has the key `error` and the header `Allow`."""
    answer = node.http("DELETE", "/model-centric/report")

    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert answer.headers["Allow"] == "POST"


def test_body_above_the_limit_is_refused(start_node):
    """The answer is a 413 with a sentence that names the limit, with and without a `Content-Length`."""
    node = start_node(max_message_bytes=1000)
    sentence = "A message to this node has at most 1000 bytes (its setting MAX_MESSAGE_BYTES)."
    known = node.http("POST", "/model-centric/report", data=b"x" * 2000)
    unknown = node.http("POST", "/model-centric/report", data=iter([b"x" * 600] * 4))

    assert [(answer.status_code, answer.json()) for answer in (known, unknown)] == [
        (413, {"error": sentence})
    ] * 2


def test_fault_of_the_node_is_a_500_in_json(node, recorded, tmp_path):
    """The traceback is in the log, not in the answer; here the model's row is damaged."""
    node.upload(recorded())
    with contextlib.closing(sqlite3.connect(tmp_path / "database" / "fixturenodedb")) as database:
        database.execute("UPDATE processes SET client_config = '{'")
        database.commit()
    answer = node.checkpoint("fixture-linear")

    assert (answer.status_code, answer.json()) == (500, {"error": "Internal error of the node."})


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Bearer dXNAZXI6cC93", "Basic dXNAZXI6eA==", "Basic \udcff", f"{BASIC} x"],
)
def test_trained_model_requires_the_credential(node, recorded, method, authorization):
    """The answer is a 401 with a sentence, whether the model exists or not."""
    node.upload(recorded())
    headers = (
        {} if authorization is None else {"Authorization": authorization.encode(errors="surrogateescape")}
    )
    answers = [
        node.http(method, "/model-centric/retrieve-model", params=query, headers=headers)
        for query in (MODEL, {"name": "no such"})
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert [answer.headers["WWW-Authenticate"] for answer in answers] == ['Basic realm="node"'] * 2
    if method == "GET":
        refusal = {"error": "Only the orchestration service may retrieve models, with its credential."}
        assert [answer.json() for answer in answers] == [refusal] * 2


@pytest.mark.parametrize("authorization", [BASIC, "basic  dXNAZXI6cC93 "])
def test_orchestrator_retrieves_a_trained_model(node, recorded, authorization):
    """It sends the credential that it gave the node."""
    node.upload(recorded())
    headers = {"Authorization": authorization}
    answer = node.http("GET", "/model-centric/retrieve-model", params=MODEL, headers=headers)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("location", [None, "open"])
def test_node_without_credential_serves_models_to_all_clients(start_node, orchestrator, recorded, location):
    """PyGrid does so, too."""
    location = location and orchestrator.location.rpartition("@")[2]
    node = start_node(master_node_url=location)

    assert node.upload(recorded()) == {"status": "success"}
    assert node.http("GET", "/model-centric/retrieve-model", params=MODEL).status_code == 200
