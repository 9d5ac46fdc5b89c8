"""Not open to everybody: uploads are of known models, trained ones are for the orchestration node."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from pygrid_node.admission import Admission
from pygrid_node.errors import MasterAway
from pygrid_node.settings import MasterNode

pytestmark = pytest.mark.moto

DIFF = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()
UNKNOWN = "This node takes no such model: nobody has submitted it, in this version, for its dataset."
AWAY = "The orchestration node could not be asked whether it knows this model. Try again in a minute."
BASIC = "Basic dXNAZXI6cC93"
QUERY = {"name": "fixture-linear", "version": "0.1"}


def test_an_upload_is_a_question_to_the_orchestration_node(node, master, recorded):
    """A progress of 0 %, with the node's credential; what is known is taken."""
    answer = node.upload(recorded())
    [(question, asked)] = master.questions

    assert answer == {"status": "success"}
    assert question == {"percent_complete": 0, "model_id": "fixture-linear", "version": "0.1"}
    assert (asked["Authorization"], asked["path"]) == (BASIC, "/hooks/model_progress")
    assert master.calls == []


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, UNKNOWN), (403, UNKNOWN), (400, UNKNOWN)]
    + [(status, AWAY) for status in (302, 401, 408, 429, 500, 502, 503)],
)
def test_an_upload_that_was_not_admitted_leaves_nothing(node, master, recorded, status, sentence):
    """A stranger's is refused; where the answer says nothing of the model, its sender may try again."""
    master.known = lambda _question: status
    refused = node.upload(recorded())
    kept = node.checkpoint("fixture-linear").ok
    master.known = lambda _question: 200

    assert refused == {"error": sentence}
    assert not kept
    assert node.upload(recorded()) == {"status": "success"}


def test_an_upload_is_refused_while_the_orchestration_node_is_away(node, master, recorded):
    """With a sentence that says what to do; artificienlib tries once more by itself."""
    master.close()

    assert node.upload(recorded()) == {"error": AWAY}


def test_an_answer_that_does_not_come_is_waited_for_some_seconds(master):
    """Uploaders wait too."""
    over = threading.Event()
    master.known = lambda _question: over.wait(20) and 200
    admission = Admission(MasterNode.parse(master.location), patience=0.2)
    began = time.monotonic()
    with pytest.raises(MasterAway):
        asyncio.run(admission.check("any", "1"))
    took = time.monotonic() - began
    over.set()

    assert took < 5


def test_a_node_answers_others_while_it_asks(node, master, recorded):
    """A question holds up its own upload only."""
    asked, over = threading.Event(), threading.Event()
    master.known = lambda _question: asked.set() or (over.wait(20) and 200)
    answers = []
    uploading = threading.Thread(target=lambda: answers.append(node.upload(recorded())))
    uploading.start()
    asked.wait(20)
    alive = node.frames({"type": "socket-ping"})
    early = list(answers)
    over.set()
    uploading.join()

    assert (alive, early) == ([{"alive": "True"}], [])
    assert answers == [{"status": "success"}]


def test_an_upload_without_a_name_is_no_question(node, master, recorded):
    """It is refused as it is."""
    answer = node.upload(recorded(client_config__name=""))

    assert answer == {"error": "'name' is required"}
    assert master.questions == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Bearer dXNAZXI6cC93", "Basic dXNAZXI6eA==", "Basic \udcff", f"{BASIC} x"],
)
def test_a_trained_model_is_not_for_strangers(node, recorded, method, authorization):
    """401 with a sentence, whether there is such a model or not."""
    node.upload(recorded())
    headers = (
        {} if authorization is None else {"Authorization": authorization.encode(errors="surrogateescape")}
    )
    answers = [
        node.http(method, "/model-centric/retrieve-model", params=query, headers=headers)
        for query in (QUERY, {"name": "no such"})
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert [answer.headers["WWW-Authenticate"] for answer in answers] == ['Basic realm="node"'] * 2
    if method == "GET":
        refusal = {"error": "Only the orchestration node may have this, with its credential."}
        assert [answer.json() for answer in answers] == [refusal] * 2


@pytest.mark.parametrize("authorization", [BASIC, "basic  dXNAZXI6cC93 "])
def test_a_trained_model_is_for_the_orchestration_node(node, recorded, authorization):
    """It sends the credential that it gave the node."""
    node.upload(recorded())
    headers = {"Authorization": authorization}
    answer = node.http("GET", "/model-centric/retrieve-model", params=QUERY, headers=headers)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("location", [None, "open"])
def test_without_a_credential_trained_models_are_open(start_node, master, recorded, location):
    """As on the original."""
    location = location and master.location.rpartition("@")[2]
    node = start_node(master_node_url=location)

    assert node.upload(recorded()) == {"status": "success"}
    assert node.http("GET", "/model-centric/retrieve-model", params=QUERY).status_code == 200


def test_a_node_on_its_own_trains_and_keeps_its_progress(start_node, master, recorded):
    """Nobody is asked and nobody told, until a later life knows the orchestration node."""
    alone = start_node(master_node_url=None)
    alone.upload(recorded(server_config__max_diffs=1))
    alone.worker("fixture-linear").report(DIFF)
    wait_for(lambda: alone.checkpoint("fixture-linear", 2).ok)
    alone.close()
    told = list(master.calls)
    start_node()
    wait_for(lambda: master.calls)

    assert (told, master.questions) == ([], [])
    assert master.calls == [{"percent_complete": 50, "model_id": "fixture-linear", "cycle": 1}]


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
