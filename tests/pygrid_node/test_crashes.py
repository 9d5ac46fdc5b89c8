"""SIGKILL at random points of a training does not change the trained model."""

import asyncio
import os
import random

import aiohttp
import numpy as np
import pytest

from pygrid_wire import decode_state, encode_state
from tests.node_process import NodeProcess
from tests.pygrid_node.phones import Line, Phone

pytestmark = pytest.mark.moto

SCALE = int(os.environ.get("TORTURE", "1"))
"""Factor of the number of kills."""
CYCLES = 50
PHONES = 4
SEED = int(os.environ.get("TORTURE_SEED", "20"))
# A phone sends four requests per cycle, and its cycle-request more than once.
REQUESTS = 4 * PHONES * CYCLES
GRAIN = 2.0**-20


class Killer:
    """Kills a node and starts it again: after some requests or, one time in four, while it starts."""

    def __init__(self, processes, kills, rng):
        self.processes = processes
        self.kills = 0
        self._wanted = kills
        self._every = REQUESTS / (kills + 1)
        self._rng = rng
        self._sent = 0
        self._reached = asyncio.Event()
        self._next = self._later()

    def on_request(self):
        self._sent += 1
        if self._sent >= self._next:
            self._reached.set()

    async def run(self):
        while self.kills < self._wanted:
            if self.kills == 0 or self._rng.random() < 0.75:
                await self._some_requests()
            # A moment after a request: in a transaction, or in an averaging. Or while the node starts.
            await asyncio.sleep(self._rng.uniform(0, 0.02 if self._reached.is_set() else 1.5))
            self._reached.clear()
            process = self._rng.choice(self.processes)
            process.kill()
            self.kills += 1
            process.start()

    async def _some_requests(self):
        while not await asyncio.to_thread(self._any_process_answers):
            await asyncio.sleep(0.02)
        # Messages to a stopped node are not counted.
        self._sent, self._next = 0, self._later()
        self._reached.clear()
        await self._reached.wait()

    def _any_process_answers(self):
        return any(process.answers() for process in self.processes)

    def _later(self):
        return self._rng.uniform(0.1, 0.9) * self._every


async def train(phone, target):
    """Report in every cycle a diff that depends on the model and on the phone; return all reports."""
    reports = []
    while assignment := await phone.enter():
        base = await phone.checkpoint(assignment)
        assert base is not None, "a cycle ended without this phone's report"
        # On a grid, so that sums are exact, and the mean is the same in whichever order the diffs came.
        diff = [
            (np.round(0.1 * (array - target) / GRAIN) * GRAIN).astype(np.float32)
            for array in decode_state(base)
        ]
        reports.append((assignment, encode_state(diff)))
        assert await phone.report(*reports[-1]) == {"status": "success"}
    return reports


def line_of(session, addresses, number):
    """Every second phone uses WebSocket; they start at one process after the other."""
    first = number // 2 % len(addresses)
    return Line(
        session, addresses[first], ("http", "ws")[number % 2], *addresses[first + 1 :], *addresses[:first]
    )


async def training(processes, frame, killer):
    """Train; return the checkpoints and the answers to a repetition of all reports."""
    async with aiohttp.ClientSession() as session:
        addresses = [process.address for process in processes]
        line = Line(session, addresses[0], "http")
        # The answer to an upload could be lost in a kill, and its repetition be refused: none begins before.
        answer = await line_of(session, addresses, 1).ask("host-training", **frame["data"])
        assert answer == {"status": "success"}
        phones = [Phone(line_of(session, addresses, number), "crash") for number in range(PHONES)]
        for phone in phones:
            phone.line.on_request = killer.on_request
        kills = asyncio.create_task(killer.run())
        reports = await asyncio.gather(*(train(phone, target) for target, phone in enumerate(phones, 1)))
        kills.cancel()
        await asyncio.gather(kills, return_exceptions=True)
        again = [await phones[0].report(*report) for each in reports for report in each]
        numbers = range(1, CYCLES + 2)
        bodies = [await line.trained("crash", number) for number in numbers]
        return [decode_state(body) for body in bodies], again


@pytest.fixture
def frame(recorded):
    """Each cycle ends with four diffs, one per phone."""
    rules = {"max_diffs": PHONES, "min_diffs": PHONES, "max_workers": PHONES, "num_cycles": CYCLES}
    changes = {f"server_config__{key}": value for key, value in rules.items()}
    return recorded("linear-noavg", client_config__name="crash", **changes)


def expected(frame):
    """Calculate the checkpoints with NumPy."""
    model = decode_state(bytes.fromhex(frame["data"]["model"]))
    checkpoints = [model]
    for _ in range(CYCLES):
        mean = [
            sum(np.round(0.1 * (array - target) / GRAIN) * GRAIN for target in range(1, PHONES + 1)) / PHONES
            for array in model
        ]
        model = [(array.astype("f8") - step).astype("f4") for array, step in zip(model, mean, strict=True)]
        checkpoints.append(model)
    return checkpoints


@pytest.mark.parametrize(
    ("database_url", "count", "kills"),
    [("sqlite", 1, 0), ("sqlite", 1, 6 * SCALE), ("postgresql", 2, 4 * SCALE)],
    indirect=["database_url"],
)
def test_node_that_is_killed_again_and_again_trains_the_same_model(
    database_url, node_id, tmp_path, orchestrator, frame, count, kills
):
    """Every checkpoint is the same to the last bit: no accepted diff was lost, and none averaged twice.

    On PostgreSQL two processes serve one database, and either may be killed.
    """
    environment = {"PLACE_LIFETIME": "0.2", "DATABASE_URL": database_url, "NODE_ID": node_id}
    processes = [NodeProcess(tmp_path, orchestrator.location, **environment) for _ in range(count)]
    killer = Killer(processes, kills, random.Random(SEED))
    for process in processes:
        process.start()
    try:
        checkpoints, again = asyncio.run(training(processes, frame, killer))
    finally:
        for process in processes:
            process.kill()

    # On a slow machine a training may be over before the last of them.
    assert killer.kills >= kills / 2
    assert len(checkpoints) == CYCLES + 1
    for number, (arrays, want) in enumerate(zip(checkpoints, expected(frame), strict=True)):
        for array, wanted in zip(arrays, want, strict=True):
            assert np.array_equal(array, wanted), f"checkpoint {number + 1}"
    assert again == [{"status": "success"}] * PHONES * CYCLES
    assert {call["cycle"] for call in orchestrator.calls} >= set(range(1, CYCLES))
