"""The memory of a node process stays below what it takes at rest and its budget, whatever is sent.

`bench/memory_node.py` measures the same with the default budget, and more attacks.
"""

import asyncio
import gzip
import json
import sys

import pytest

from pygrid_node.transport.messages import HOST_TRAINING, REPORT
from tests.node_process import NodeProcess
from tests.pygrid_node.helpers import memory, wait_for
from tests.pygrid_node.transport import wire

pytestmark = [pytest.mark.moto, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

MB = 1_000_000
BUDGET = 128 * MB
LONGEST = 36 * MB
BRACKETS = b"[" + b"[]," * 27_000_000 + b"[]]"


@pytest.fixture
def process(tmp_path):
    process = NodeProcess(tmp_path, "", MAX_BYTES_IN_FLIGHT=str(BUDGET), MAX_MESSAGE_BYTES=str(LONGEST))
    process.start()
    wait_for(process.answers)
    yield process
    process.kill()


def upload(size):
    """Return a message whose model is hexadecimal, but no state."""
    data = {
        "client_config": {"name": "m", "version": "1"},
        "server_config": {"num_cycles": 1, "cycle_length": 60, "max_diffs": 1},
        "model": "ab" * (size // 2 - 200),
    }
    return json.dumps({"type": HOST_TRAINING, "data": data}).encode()


def posted(body, *headers):
    return wire.head("POST", f"/{REPORT}", f"Content-Length: {len(body)}", *headers) + body


async def send(connect, address, data):
    """Send as much as the node reads, until it answers, or disconnects."""
    async with connect(address, data) as (reader, _):
        try:
            return await reader.read(12)
        except ConnectionError:
            return b""


async def gzip_bomb(address):
    body = gzip.compress(BRACKETS, 9)
    assert await send(wire.connected, address, posted(body, "Content-Encoding: gzip")) == b"HTTP/1.1 415"


async def brackets(address):
    assert await send(wire.connected, address, posted(BRACKETS[-LONGEST:])) == b"HTTP/1.1 413"


async def frames(address):
    await asyncio.gather(*(send(wire.websocket, address, wire.frame(upload(LONGEST))) for _ in range(10)))


async def fragments(address):
    body = upload(LONGEST)
    parts = [body[start : start + MB] for start in range(0, len(body), MB)]
    data = wire.frame(parts[0], last=False)
    data += b"".join(wire.frame(b"", 9) + wire.frame(part, 0, last=False) for part in parts[1:])
    data += wire.frame(b"", 0)
    await asyncio.gather(*(send(wire.websocket, address, data) for _ in range(10)))


async def chunks(address):
    data = wire.head("POST", f"/{REPORT}", "Transfer-Encoding: chunked") + 60 * wire.chunk(b"x" * MB)
    await asyncio.gather(*(send(wire.connected, address, data) for _ in range(10)))


async def pipelined(address):
    async with wire.websocket(address, 10 * wire.frame(upload(LONGEST))) as (reader, _):
        for _ in range(10):
            assert b"error" in (await wire.received(reader))[1]


@pytest.mark.parametrize("attack", [gzip_bomb, brackets, frames, fragments, chunks, pipelined])
def test_memory_stays_below_the_budget(process, attack):
    """Before there was a budget, each of them took hundreds of megabytes more."""
    at_rest = memory(process, "VmRSS")
    asyncio.run(attack(process.address))

    assert memory(process, "VmHWM") - at_rest < BUDGET
    assert process.answers()
