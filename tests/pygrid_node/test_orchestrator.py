"""Progress is sent in order until it is accepted; uploads need the permission of the orchestrator."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from pygrid_node.backoff import Backoff
from pygrid_node.entities import Progress, UploadRequest
from pygrid_node.errors import OrchestratorUnreachable
from pygrid_node.orchestrator import ProgressSender, UploadCheck
from pygrid_node.settings import OrchestratorLocation
from tests.pygrid_node.helpers import wait_for

DIFF = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()
NOT_ALLOWED = "This node does not accept the model: it was not submitted, in this version, for its dataset."
UNREACHABLE = (
    "The orchestration service could not be asked whether it knows this model. Try again in a minute."
)
BASIC = "Basic dXNAZXI6cC93"
QUERY = {"name": "fixture-linear", "version": "0.1"}


def end_cycle(node, name):
    assert node.worker(name).report(DIFF) == {"status": "success"}


def small(recorded, name, cycles=2):
    changes = {
        "client_config__name": name,
        "server_config__max_diffs": 1,
        "server_config__num_cycles": cycles,
    }
    return recorded(**changes)


@pytest.mark.moto
@pytest.mark.parametrize("status", [500, 503, 401, 403, 404, 408, 429, 302, 307])
def test_progress_is_sent_again_until_it_is_accepted(node, orchestrator, recorded, status):
    """Temporary errors are retried; a redirect is not followed, because the request has a credential."""
    node.upload(small(recorded, "a"))
    orchestrator.statuses = [status, status]
    end_cycle(node, "a")
    end_cycle(node, "a")
    wait_for(lambda: len(orchestrator.calls) == 2)

    assert [call["cycle"] for call in orchestrator.calls] == [1, 2]
    assert len(orchestrator.headers) == 4


@pytest.mark.moto
def test_progress_carries_the_credential_and_the_path(node, orchestrator, recorded):
    """`us%40er:p%2Fw@host/hooks` is user `us@er`, secret `p/w`, and a path before `/model_progress`."""
    node.upload(small(recorded, "a", cycles=3))
    end_cycle(node, "a")
    wait_for(lambda: orchestrator.calls)

    assert orchestrator.headers[0]["Authorization"] == "Basic dXNAZXI6cC93"
    assert orchestrator.headers[0]["path"] == "/hooks/model_progress"
    assert orchestrator.headers[0]["Content-Type"] == "application/json"
    assert orchestrator.calls == [{"percent_complete": 33, "model_id": "a", "cycle": 1, "cycles": 3}]


@pytest.mark.moto
def test_progress_that_is_permanently_refused_is_dropped(node, orchestrator, recorded):
    """A 400 stays a 400, and the progress of the next cycle must not wait for it forever."""
    node.upload(small(recorded, "a"))
    orchestrator.statuses = [400]
    end_cycle(node, "a")
    end_cycle(node, "a")
    wait_for(lambda: orchestrator.calls)

    assert orchestrator.calls == [{"percent_complete": 100, "model_id": "a", "cycle": 2, "cycles": 2}]


@pytest.mark.moto
def test_progress_of_one_model_does_not_wait_for_that_of_another(node, orchestrator, recorded):
    """Both cycles of both models end while the progress of `a` is not accepted."""
    refused = lambda body: 503 if body["model_id"] == "a" else 200  # noqa: E731
    orchestrator.statuses = [refused] * 10_000
    for name in ("a", "b"):
        node.upload(small(recorded, name))
        end_cycle(node, name)
        end_cycle(node, name)
    wait_for(lambda: len(orchestrator.calls) == 2)

    assert {call["model_id"] for call in orchestrator.calls} == {"b"}
    orchestrator.statuses = []
    wait_for(lambda: len(orchestrator.calls) == 4)


@pytest.mark.moto
def test_progress_survives_the_end_of_the_node(start_node, orchestrator, recorded):
    """A message that was not accepted is in the outbox, and is sent after the next start."""
    orchestrator.statuses = [503] * 10_000
    first = start_node()
    first.upload(small(recorded, "a"))
    end_cycle(first, "a")
    wait_for(lambda: orchestrator.headers)
    first.close()
    orchestrator.statuses = []
    start_node()
    wait_for(lambda: orchestrator.calls)

    assert orchestrator.calls == [{"percent_complete": 50, "model_id": "a", "cycle": 1, "cycles": 2}]


def next_worker(node, name):
    """The worker that is assigned to the next cycle; a request may be answered before that opens."""
    return wait_for(lambda: worker if "request_key" in (worker := node.worker(name)).accepted else None)


@pytest.mark.moto
def test_next_cycle_opens_when_its_progress_is_answered(node, orchestrator, recorded):
    """The worker's request waits for that, or its loss would be counted in the cycle before."""
    story = []

    def answer(_body):
        time.sleep(0.2)
        story.append("answered")
        return 200

    orchestrator.statuses = [answer]
    node.upload(small(recorded, "a"))
    end_cycle(node, "a")
    assert node.worker("a").accepted["status"] == "accepted"
    story.append("accepted")

    assert story == ["answered", "accepted"]


@pytest.mark.moto
def test_training_goes_on_while_the_orchestrator_is_down(node, orchestrator, recorded):
    """Each cycle opens after two seconds; the progress waits in the outbox."""
    node.upload(small(recorded, "a", cycles=3))
    orchestrator.close()
    for _ in range(2):
        assert next_worker(node, "a").report(DIFF) == {"status": "success"}

    assert next_worker(node, "a").accepted["status"] == "accepted"


@pytest.mark.moto
def test_next_cycle_opens_after_a_restart_before_its_progress_was_sent(start_node, orchestrator, recorded):
    """It is in the database since its cycle was closed, as is the message."""
    orchestrator.statuses = [503] * 10_000
    first = start_node()
    first.upload(small(recorded, "a"))
    end_cycle(first, "a")
    wait_for(lambda: orchestrator.headers)
    first.close()
    orchestrator.statuses = []
    second = start_node()

    assert next_worker(second, "a").report(DIFF) == {"status": "success"}
    wait_for(lambda: len(orchestrator.calls) == 2)
    assert [call["cycle"] for call in orchestrator.calls] == [1, 2]


class FailingOutbox:
    """An outbox whose calls of these numbers fail."""

    def __init__(self, failing=()):
        self.failing = failing
        self.count = 0
        self.messages = [Progress(1, 1, '{"cycle": 1}')]

    def _work(self):
        self.count += 1
        if self.count in self.failing:
            raise OSError("no connection")

    def oldest_of_each_model(self):
        self._work()
        return list(self.messages)

    def delete(self, message, _now):
        self._work()
        self.messages.remove(message)


@pytest.mark.moto
@pytest.mark.parametrize("failing", [{1}, {1, 2}])
def test_progress_is_sent_when_the_database_is_back(orchestrator, failing):
    """A failure to read the outbox does not end the sender."""
    outbox = FailingOutbox(failing)

    async def run():
        sender = ProgressSender(
            outbox, OrchestratorLocation.parse(orchestrator.location), Backoff(first=0.01, longest=0.01)
        )
        await sender.start()
        while outbox.messages:
            await asyncio.sleep(0.01)
        await sender.stop()

    asyncio.run(run())
    assert orchestrator.calls == [{"cycle": 1}]


@pytest.mark.moto
def test_message_stays_while_the_orchestrator_refuses_connections(orchestrator):
    """It is sent again until the node stops, and then stays in the outbox."""
    location = orchestrator.location
    orchestrator.close()
    outbox = FailingOutbox()

    async def run():
        sender = ProgressSender(
            outbox, OrchestratorLocation.parse(location), Backoff(first=0.01, longest=0.01)
        )
        await sender.start()
        await asyncio.sleep(0.1)
        await sender.stop()

    asyncio.run(run())
    assert outbox.messages


@pytest.mark.moto
def test_progress_is_sent_again_if_it_could_not_be_deleted(orchestrator):
    """The orchestrator recognizes a repetition by its cycle."""
    outbox = FailingOutbox({2})

    async def run():
        location = OrchestratorLocation.parse(orchestrator.location)
        sender = ProgressSender(outbox, location, Backoff(first=0.01, longest=0.01))
        await sender.start()
        while outbox.messages:
            await asyncio.sleep(0.01)
        await sender.stop()

    asyncio.run(run())
    assert orchestrator.calls == [{"cycle": 1}] * 2


@pytest.mark.moto
def test_upload_needs_the_permission_of_the_orchestrator(node, orchestrator, recorded):
    """The node requests it with its credential, before it stores the model."""
    answer = node.upload(recorded())
    (question, request), (result, _) = orchestrator.questions

    assert answer == {"status": "success"}
    assert question == {"model_id": "fixture-linear", "version": "0.1", "address": "127.0.0.1"}
    assert result == question | {"result": "stored"}
    assert (request["Authorization"], request["path"]) == (BASIC, "/hooks/model_upload")
    assert orchestrator.calls == []


@pytest.mark.moto
@pytest.mark.parametrize(
    ("status", "sentence"),
    [(status, NOT_ALLOWED) for status in (400, 403, 404, 409, 413)]
    + [(status, UNREACHABLE) for status in (302, 401, 408, 429, 500, 502, 503)],
)
def test_upload_that_is_not_allowed_leaves_nothing(node, orchestrator, recorded, status, sentence):
    """If the answer is not about the model, the uploader may try again."""
    orchestrator.allowed = lambda _question: status
    refused = node.upload(recorded())
    kept = node.checkpoint("fixture-linear").ok
    orchestrator.allowed = lambda _question: 200

    assert refused == {"error": sentence}
    assert not kept
    assert node.upload(recorded()) == {"status": "success"}


@pytest.mark.moto
def test_upload_is_refused_while_the_orchestrator_is_unreachable(node, orchestrator, recorded):
    """The sentence recommends another try; artificienlib makes one automatically."""
    orchestrator.close()

    assert node.upload(recorded()) == {"error": UNREACHABLE}


@pytest.mark.moto
def test_wait_for_an_answer_is_limited(orchestrator):
    """The uploader waits for its own answer."""
    over = threading.Event()
    orchestrator.allowed = lambda _question: over.wait(20) and 200
    check = UploadCheck(OrchestratorLocation.parse(orchestrator.location), timeout=0.2)
    began = time.monotonic()
    with pytest.raises(OrchestratorUnreachable):
        asyncio.run(check.require_allowed(UploadRequest("any", "1", "192.0.2.1")))
    took = time.monotonic() - began
    over.set()

    assert took < 5


@pytest.mark.moto
def test_question_delays_no_other_client(node, orchestrator, recorded):
    """Only its own upload waits."""
    received, over = threading.Event(), threading.Event()
    orchestrator.allowed = lambda _question: received.set() or (over.wait(20) and 200)
    answers = []
    uploading = threading.Thread(target=lambda: answers.append(node.upload(recorded())))
    uploading.start()
    received.wait(20)
    alive = node.frames({"type": "socket-ping"})
    early = list(answers)
    over.set()
    uploading.join()

    assert (alive, early) == ([{"alive": "True"}], [])
    assert answers == [{"status": "success"}]


@pytest.mark.moto
def test_upload_without_a_name_is_refused_without_a_question(node, orchestrator, recorded):
    """The orchestrator could not answer."""
    answer = node.upload(recorded(client_config__name=""))

    assert answer == {"error": "'name' is required"}
    assert orchestrator.questions == []


@pytest.mark.moto
def test_node_without_an_orchestrator_trains_and_keeps_its_progress(start_node, orchestrator, recorded):
    """It sends nothing until it is started with an orchestrator."""
    alone = start_node(master_node_url=None)
    alone.upload(recorded(server_config__max_diffs=1))
    alone.worker("fixture-linear").report(DIFF)
    wait_for(lambda: alone.checkpoint("fixture-linear", 2).ok)
    alone.close()
    received = list(orchestrator.calls)
    start_node()
    wait_for(lambda: orchestrator.calls)

    assert (received, orchestrator.questions) == ([], [])
    assert orchestrator.calls == [
        {"percent_complete": 50, "model_id": "fixture-linear", "cycle": 1, "cycles": 2}
    ]
