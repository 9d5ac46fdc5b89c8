"""Progress is told until it is taken, in order, and holds nobody up."""

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from pygrid_node.entities import Progress
from pygrid_node.orchestrator import Pauses, ProgressSender
from pygrid_node.settings import MasterNode

DIFF = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


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
def test_progress_is_sent_again_until_it_is_taken(node, master, recorded, status):
    """Whatever says "not now" is tried again; a redirect is not followed, with the credential."""
    node.upload(small(recorded, "a"))
    master.statuses = [status, status]
    end_cycle(node, "a")
    end_cycle(node, "a")
    wait_for(lambda: len(master.calls) == 2)

    assert [call["cycle"] for call in master.calls] == [1, 2]
    assert len(master.headers) == 4


@pytest.mark.moto
def test_progress_carries_the_credential_and_the_path(node, master, recorded):
    """`us%40er:p%2Fw@host/hooks` is user `us@er`, secret `p/w`, and a path before `/model_progress`."""
    node.upload(small(recorded, "a", cycles=3))
    end_cycle(node, "a")
    wait_for(lambda: master.calls)

    assert master.headers[0]["Authorization"] == "Basic dXNAZXI6cC93"
    assert master.headers[0]["path"] == "/hooks/model_progress"
    assert master.headers[0]["Content-Type"] == "application/json"
    assert master.calls == [{"percent_complete": 33, "model_id": "a", "cycle": 1}]


@pytest.mark.moto
def test_progress_that_will_never_be_taken_is_dropped(node, master, recorded):
    """A 400 stays a 400; the next cycle's progress must not wait behind it for ever."""
    node.upload(small(recorded, "a"))
    master.statuses = [400]
    end_cycle(node, "a")
    end_cycle(node, "a")
    wait_for(lambda: master.calls)

    assert master.calls == [{"percent_complete": 100, "model_id": "a", "cycle": 2}]


@pytest.mark.moto
def test_progress_of_one_model_does_not_wait_for_anothers(node, master, recorded):
    """And neither do workers: both cycles of both models end while `a` is refused."""
    refused = lambda body: 503 if body["model_id"] == "a" else 200  # noqa: E731
    master.statuses = [refused] * 10_000
    for name in ("a", "b"):
        node.upload(small(recorded, name))
        end_cycle(node, name)
        end_cycle(node, name)
    wait_for(lambda: len(master.calls) == 2)

    assert {call["model_id"] for call in master.calls} == {"b"}
    master.statuses = []
    wait_for(lambda: len(master.calls) == 4)


@pytest.mark.moto
def test_progress_survives_the_end_of_the_node(start_node, master, recorded):
    """What was not taken is in the outbox, and the node's next life sends it."""
    master.statuses = [503] * 10_000
    first = start_node()
    first.upload(small(recorded, "a"))
    end_cycle(first, "a")
    wait_for(lambda: master.headers)
    first.close()
    master.statuses = []
    start_node()
    wait_for(lambda: master.calls)

    assert master.calls == [{"percent_complete": 50, "model_id": "a", "cycle": 1}]


def test_pauses_double_up_to_the_longest():
    """Jitter takes at most half of a pause away."""
    pauses = Pauses(first=1, longest=30)
    for failures, full in [(1, 1), (2, 2), (5, 16), (6, 30), (10_000, 30)]:
        assert full / 2 <= pauses.after(failures) <= full


class BrokenOutbox:
    """An outbox whose database is away for the calls of these numbers."""

    def __init__(self, failing=()):
        self.failing = failing
        self.count = 0
        self.messages = [Progress(1, 1, '{"cycle": 1}')]

    def _work(self):
        self.count += 1
        if self.count in self.failing:
            raise OperationalError("no connection", None, Exception())

    def waiting(self):
        self._work()
        return [message.process_id for message in self.messages]

    def first(self, _process_id):
        self._work()
        return self.messages[0] if self.messages else None

    def remove(self, message):
        self.messages.remove(message)


@pytest.mark.moto
@pytest.mark.parametrize("failing", [{1}, {2}, {1, 2, 4}])
def test_progress_is_sent_when_the_database_is_back(master, failing):
    """Neither a look for messages nor one at a message ends the sender when it fails."""
    outbox = BrokenOutbox(failing)

    async def run():
        sender = ProgressSender(outbox, MasterNode.parse(master.location), Pauses(first=0.01, longest=0.01))
        await sender.start()
        while outbox.messages:
            await asyncio.sleep(0.01)
        await sender.stop()

    asyncio.run(run())
    assert master.calls == [{"cycle": 1}]


@pytest.mark.moto
def test_progress_is_sent_when_the_orchestration_node_is_back(master):
    """A refused connection is one more reason to try again; what is on the way at the end stays."""
    location = master.location
    master.close()
    outbox = BrokenOutbox()

    async def run():
        sender = ProgressSender(outbox, MasterNode.parse(location), Pauses(first=0.01, longest=0.01))
        await sender.start()
        await asyncio.sleep(0.1)
        await sender.stop()

    asyncio.run(run())
    assert outbox.messages
