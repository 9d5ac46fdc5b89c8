"""Every third device is broken: all cycles end, each with the mean of the valid diffs."""

import asyncio
import itertools
import os
from collections import defaultdict

import aiohttp
import numpy as np
import pytest

from pygrid_wire import decode_state, encode_state
from tests.node_process import NodeProcess
from tests.pygrid_node.helpers import wait_for
from tests.pygrid_node.phones import Line, Phone

pytestmark = pytest.mark.moto

SCALE = int(os.environ.get("TORTURE", "1"))
"""Factor of the number of cycles."""
SHARE_OF_BAD = 0.3
PHONES = 6  # for each model
CYCLES = 3 * SCALE
MODELS = {
    # name: the recorded process that is uploaded, changes to its rules
    "by-count": ("linear", {"max_diffs": 10, "max_workers": 12}),
    "without-plan": ("linear-noavg", {"max_diffs": 8, "max_workers": None}),
    "network": ("mlp", {"max_diffs": 6, "max_workers": 8}),
    "by-time": ("linear", {"max_diffs": None, "max_workers": None, "min_diffs": 2, "cycle_length": 0.5}),
}


def wrong_shape(arrays):
    return encode_state([arrays[0].T.copy() if arrays[0].shape[0] > 1 else arrays[0][:, :-1], *arrays[1:]])


def not_finite(arrays):
    return encode_state([np.full_like(arrays[0], np.nan), *arrays[1:]])


BROKEN = {
    "garbage": lambda _: b"garbage",
    "cut off": lambda arrays: encode_state(arrays)[:-3],
    "wrong shape": wrong_shape,
    "NaN": not_finite,
    "a tensor less": lambda arrays: encode_state(arrays[:-1]),
}
BAD = [*BROKEN, "again", "late", "vanishes"]


class Book:
    """The diffs that were answered with success, by model and by checkpoint."""

    def __init__(self):
        self.counted = defaultdict(list)
        self.late = []
        self.tried = defaultdict(int)
        self.bad = itertools.cycle(BAD)


async def take_part(phone, book, rng):
    """Train as a new device in each cycle, until the training is finished."""
    while assignment := await phone.enter(as_another=True):
        if (base := await phone.checkpoint(assignment)) is None:
            continue
        diff = [rng.normal(size=array.shape).astype(np.float32) for array in decode_state(base)]
        kind = next(book.bad) if rng.random() < SHARE_OF_BAD else "good"
        book.tried[kind] += 1
        match kind:
            case "vanishes":
                await phone.line.hang_up()
            case "late":
                book.late.append((phone, assignment, encode_state(diff)))
            case "good" | "again":
                await report_well(phone, book, assignment, base, diff, times=3 if kind == "again" else 1)
            case _:
                answer = await phone.report(assignment, BROKEN[kind](diff))
                assert "status" not in answer, kind
                assert answer["error"], kind


async def report_well(phone, book, assignment, base, diff, times):
    answers = [await phone.report(assignment, encode_state(diff)) for _ in range(times)]
    assert answers == answers[:1] * times
    if answers[0] == {"status": "success"}:
        book.counted[phone.model, base].append(diff)
    else:
        assert not answers[0]["counted"]


async def torture(address, uploads, book):
    async with aiohttp.ClientSession() as session:
        for frame in uploads:
            line = Line(session, address, "ws")
            answer = await line.ask("host-training", **frame["data"])
            assert answer == {"status": "success"}
            await line.hang_up()
        phones = [
            Phone(Line(session, address, ("http", "ws")[number % 2]), model)
            for model in MODELS
            for number in range(PHONES)
        ]
        rngs = (np.random.default_rng(seed) for seed in range(len(phones)))
        await asyncio.gather(*(take_part(phone, book, rng) for phone, rng in zip(phones, rngs, strict=True)))
        for phone, assignment, diff in book.late:
            assert not (await phone.report(assignment, diff))["counted"]
        query = [(model, number) for model in MODELS for number in range(1, CYCLES + 2)]
        line = Line(session, address, "http")
        return {(model, number): await line.trained(model, number) for model, number in query}


@pytest.fixture
def process(tmp_path, orchestrator):
    """A node's process with short leases."""
    process = NodeProcess(tmp_path, orchestrator.location, PLACE_LIFETIME="0.3")
    process.start()
    yield process
    process.kill()


def test_every_cycle_ends_with_the_mean_of_the_valid_diffs(process, orchestrator, recorded):
    """Devices send garbage, wrong shapes, NaN, repeated and late reports, or disappear."""
    uploads = []
    for model, (recorded_process, rules) in MODELS.items():
        changes = {f"server_config__{key}": value for key, value in rules.items()}
        named = {"client_config__name": model, "server_config__num_cycles": CYCLES}
        uploads.append(recorded(recorded_process, **named, **changes))
    book = Book()
    checkpoints = asyncio.run(torture(process.address, uploads, book))
    wait_for(lambda: len(orchestrator.calls) == CYCLES * len(MODELS))

    assert min(book.tried[kind] for kind in BAD) > 0
    for model, (_, rules) in MODELS.items():
        for number in range(1, CYCLES + 1):
            diffs = book.counted.pop((model, checkpoints[model, number]))
            assert len(diffs) == rules["max_diffs"] or len(diffs) >= rules["min_diffs"]
            before, after = (decode_state(checkpoints[model, each]) for each in (number, number + 1))
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                mean = np.mean([diff[index] for diff in diffs], axis=0, dtype=np.float64)
                assert np.abs(old - mean - new).max() <= 1e-5
    assert not book.counted
    progress = [(call["model_id"], call["cycle"]) for call in orchestrator.calls]
    assert sorted(progress) == sorted((model, number + 1) for model in MODELS for number in range(CYCLES))
