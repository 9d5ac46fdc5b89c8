"""A cycle-request that arrives while the cycle is averaged waits for the next cycle."""

import asyncio
import base64
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from pygrid_node.averaging.averager import Averager
from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.errors import InternalError, InvalidRequest
from pygrid_node.storage.cycles import CycleStore, Outbox
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.training import Training
from pygrid_node.transport.messages import AUTHENTICATE, CYCLE_REQUEST, HOST_TRAINING, REPORT, Messages

BODY = (Path(__file__).parents[2] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()
DIFF = base64.b64encode(BODY).decode()
ADDRESS = "192.0.2.1"
SPEEDS = {"ping": 1, "download": 1, "upload": 1}


class Scene:
    """The messages of a node that averages only if its averager is started."""

    def __init__(self, url, opening_delay=0.0):
        self.database = Database(url)
        models, cycles = ModelStore(self.database), CycleStore(self.database, opening_delay)
        self.outbox = Outbox(self.database)
        self.averager = Averager(CycleCloser(models, cycles), cycles, lambda: self.on_closed())
        training = Training(
            models,
            cycles,
            on_due=self.averager.cycle_is_due,
            on_opened=self.averager.cycle_was_opened,
            lease_time=300,
        )
        self.messages = Messages(training, self.averager, None, patience=5)

    def on_closed(self):
        pass

    async def worker(self):
        answer = await self.messages.answer(AUTHENTICATE, {"model_name": "fixture-linear"}, ADDRESS)
        return {"worker_id": answer["worker_id"], "model": "fixture-linear", **SPEEDS}

    async def request_during_averaging(self, upload):
        """Answer to the request of a second worker, right after the report that makes the cycle due."""
        await self.messages.answer(HOST_TRAINING, upload, ADDRESS)
        first, second = await self.worker(), await self.worker()
        accepted = await self.messages.answer(CYCLE_REQUEST, first, ADDRESS)
        proof = {"worker_id": first["worker_id"], "request_key": accepted["request_key"]}
        await self.messages.answer(REPORT, proof | {"diff": DIFF}, ADDRESS)
        return await self.messages.answer(CYCLE_REQUEST, second, ADDRESS)


@pytest.fixture
def scene(tmp_path):
    """See `Scene`."""
    scene = Scene(f"sqlite:///{tmp_path}/db")
    yield scene
    scene.database.close()


@pytest.fixture
def upload(recorded):
    """The recorded upload; its cycles end with one diff."""
    return recorded(server_config__max_diffs=1)["data"]


def test_worker_is_assigned_to_the_next_cycle_when_the_averaging_ends(scene, upload):
    """One request is enough."""

    async def story():
        await scene.averager.start()
        try:
            return await scene.request_during_averaging(upload)
        finally:
            await scene.averager.stop()

    assert asyncio.run(story())["status"] == "accepted"


def test_worker_waits_a_second_if_the_averaging_does_not_end(scene, upload):
    """Another replica may be averaging the cycle."""
    answer = asyncio.run(scene.request_during_averaging(upload))

    assert (answer["status"], answer["timeout"]) == ("rejected", 1)


@pytest.mark.parametrize(("delay", "is_accepted"), [(0.3, False), (600.0, True)])
def test_worker_is_assigned_when_the_pending_cycle_opens(tmp_path, upload, delay, is_accepted):
    """One request is enough: until the orchestrator, or another replica, has the progress, or for a while."""
    scene = Scene(f"sqlite:///{tmp_path}/db", opening_delay=delay)

    def accept_later():
        [message] = scene.outbox.oldest_of_each_model()
        if is_accepted:
            asyncio.get_running_loop().call_later(0.1, scene.outbox.delete, message, time.time())

    async def story():
        scene.on_closed = accept_later
        await scene.averager.start()
        try:
            return await scene.request_during_averaging(upload)
        finally:
            await scene.averager.stop()

    answer = asyncio.run(story())
    scene.database.close()
    assert answer["status"] == "accepted"


def test_worker_waits_a_second_if_the_cycle_stays_pending(tmp_path, upload):
    """The answer does not wait longer than a client does."""
    scene = Scene(f"sqlite:///{tmp_path}/db", opening_delay=600.0)

    async def story():
        await scene.averager.start()
        try:
            return await scene.request_during_averaging(upload)
        finally:
            await scene.averager.stop()

    answer = asyncio.run(story())
    scene.database.close()
    assert (answer["status"], answer["timeout"]) == ("rejected", 1)


def test_data_must_be_an_object(scene):
    """A list or a number is refused."""
    for data in (None, [], 7):
        with pytest.raises(InvalidRequest):
            asyncio.run(scene.messages.answer(REPORT, data, ADDRESS))


def test_fault_of_the_node_is_an_internal_error(scene, upload):
    """Here its database has lost a table; no traceback is sent."""
    with scene.database.writing() as connection:
        connection.execute(text("DROP TABLE plans"))
    with pytest.raises(InternalError, match=r"^Internal error of the node\.$"):
        asyncio.run(scene.messages.answer(HOST_TRAINING, upload, ADDRESS))
