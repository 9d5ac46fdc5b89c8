"""The memory of a node under attack: rest, peak, and the budget that must not be exceeded.

    python bench/memory_node.py [--attack NAME]

Each attack runs against a new node process, most of them without an orchestration service, so that no client
is refused before its message is read. The peak is the kernel's `VmHWM` of that process.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np

from pygrid_wire import encode_state
from pygrid_wire import syft_pb2 as pb

MB = 1_000_000
PATIENCE = 120.0  # seconds after which an attack ends, answered or not
_REPORT = "/model-centric/report"
_KEY = base64.b64encode(bytes(16)).decode()


class Node:
    """A real node on SQLite."""

    def __init__(self, directory: str, master: str) -> None:
        """Start the process on a free port; `master` is the location of the service, or empty."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            "NODE_ID": "bench",
            "DATABASE_URL": f"sqlite:///{directory}/",
            "BIND_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "MASTER_NODE_URL": master,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pygrid_node"], env=os.environ | environment, stdout=subprocess.DEVNULL
        )

    def memory(self, entry: str) -> int:
        """Return bytes of `VmRSS`, the current memory, or of `VmHWM`, the peak."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), 0)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[Streams]:
    """Connect to the node; an attack that it ends has ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            yield reader, writer
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def websocket(port: int) -> AsyncIterator[Streams]:
    """Connect and shake hands."""
    async with connection(port) as (reader, writer):
        writer.write(
            f"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


def frame(body: bytes, opcode: int = 1, *, last: bool = True) -> bytes:
    """Return a masked frame; a mask of zeros changes nothing."""
    return header(len(body), opcode, last=last) + body


def header(size: int, opcode: int = 1, *, last: bool = True) -> bytes:
    """Return the header of a masked frame of `size` bytes."""
    first = opcode | 0x80 * last
    if size < 126:
        return bytes([first, 0x80 | size]) + bytes(4)
    if size < 65536:
        return struct.pack(">BBH", first, 0xFE, size) + bytes(4)
    return struct.pack(">BBQ", first, 0xFF, size) + bytes(4)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Return a request with its body."""
    lines = [f"POST {path} HTTP/1.1", "Host: node", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def send(port: int, data: bytes) -> None:
    """Send bytes, and wait for the first ones of the answer."""
    async with connection(port) as (reader, writer):
        writer.write(data)
        await writer.drain()
        await reader.read(1)


def upload(size: int, name: str = "m") -> bytes:
    """Return a host-training message of `size` bytes; the model is no state."""
    head = json.dumps(
        {
            "type": "model-centric/host-training",
            "data": {
                "client_config": {
                    "name": name,
                    "version": "1",
                    "batch_size": 1,
                    "lr": 0.1,
                    "max_updates": 1,
                },
                "server_config": {"num_cycles": 1, "cycle_length": 60, "max_diffs": 1},
                "plans": {"training_plan": ""},
                "averaging_plan": "",
                "model": "",
            },
        }
    ).encode()
    return head[:-3] + b"ab" * ((size - len(head)) // 2) + head[-3:]


def brackets(size: int) -> bytes:
    """Return a list of empty lists."""
    return b"[" + b"[]," * (size // 3) + b"[]]"


async def gzip_bomb(port: int) -> None:
    """82 kB of gzip that are 81 MB of `[],`, in one anonymous POST."""
    await send(port, post(_REPORT, gzip.compress(brackets(81 * MB), 9), "Content-Encoding: gzip"))


async def plain_brackets(port: int) -> None:
    """81 MB of `[],`, in one anonymous POST."""
    await send(port, post(_REPORT, brackets(81 * MB)))


async def objects(port: int) -> None:
    """Forty clients, each with 1 MB of small objects at once."""
    body = b'{"a":[' + b'{"":1},' * (MB // 7) + b"0]}"
    await asyncio.gather(*(send(port, post(_REPORT, body)) for _ in range(40)))


async def pipelined(port: int) -> None:
    """One WebSocket with 20 frames of 40 MB; the orchestration service does not answer about the first."""
    body = frame(upload(40 * MB))
    async with websocket(port) as (_, writer):
        for _ in range(20):
            writer.write(body)
            await writer.drain()


async def frames(port: int) -> None:
    """Eight anonymous WebSockets, each with a frame of 200 MB."""
    body = frame(upload(200 * MB))

    async def one() -> None:
        async with websocket(port) as (reader, writer):
            writer.write(body)
            await writer.drain()
            await reader.read(1)

    await asyncio.gather(*(one() for _ in range(8)))


async def fragments(port: int) -> None:
    """Eight WebSockets, each with 200 MB in fragments of 1 MB and a ping after each."""
    body = upload(200 * MB)

    async def one() -> None:
        async with websocket(port) as (_, writer):
            for start in range(0, len(body), MB):
                last = start + MB >= len(body)
                part = frame(body[start : start + MB], 1 if not start else 0, last=last)
                writer.write(part + frame(b"ping", 9))
                await writer.drain()
            await asyncio.sleep(5)

    await asyncio.gather(*(one() for _ in range(8)))


async def chunked(port: int) -> None:
    """Twenty POST requests of 100 MB without a length."""
    head = f"POST {_REPORT} HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = f"{MB:x}\r\n".encode() + b"x" * MB + b"\r\n"

    async def one() -> None:
        async with connection(port) as (reader, writer):
            writer.write(head)
            for _ in range(100):
                writer.write(chunk)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await reader.read(1)

    await asyncio.gather(*(one() for _ in range(20)))


async def announced(port: int) -> None:
    """500 WebSockets that announce 60 kB and 500 that announce 200 MB, send 50 kB, and leave after 5 s."""

    async def one(size: int) -> None:
        async with websocket(port) as (_, writer):
            writer.write(header(size) + b"x" * 50_000)
            await writer.drain()
            await asyncio.sleep(5)

    await asyncio.gather(*(one(size) for size in [60_000, 200 * MB] * 500))


async def headers(port: int) -> None:
    """900 connections, each with pipelined requests of large headers behind a body that does not end."""
    fields = "".join(f"x{number}: {'v' * 1900}\r\n" for number in range(40))
    first = f"POST {_REPORT} HTTP/1.1\r\nHost: node\r\nContent-Length: 9\r\n\r\n12345678".encode()
    more = f"GET / HTTP/1.1\r\nHost: node\r\n{fields}\r\n".encode()

    async def one() -> None:
        async with connection(port) as (_, writer):
            writer.write(first + b"9" + more * 30)
            await asyncio.wait_for(writer.drain(), 5)
            await asyncio.sleep(5)

    await asyncio.gather(*(one() for _ in range(900)), return_exceptions=True)


async def unread_downloads(port: int) -> None:
    """300 clients that download a model of 20 MB and read nothing."""
    with contextlib.suppress(AssertionError):  # it is hosted already
        await host(port, 20 * MB)

    async def one() -> None:
        async with connection(port) as (_, writer):
            query = "name=m&version=1"
            writer.write(f"GET /model-centric/retrieve-model?{query} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
            await asyncio.sleep(8)

    await asyncio.gather(*(one() for _ in range(300)))


async def reports(port: int) -> None:
    """Eight reports of a model of 75 MB at once, with escaped slashes as from iOS."""
    state = await host(port, 75 * MB)
    worker = await ask(port, "authenticate", model_name="m", model_version="1")
    cycle = await ask(port, "cycle-request", worker_id=worker["worker_id"], model="m", version="1")
    proof = {"worker_id": worker["worker_id"], "request_key": cycle["request_key"], "diff": ""}
    diff = base64.b64encode(state).replace(b"/", b"\\/")
    body = json.dumps(proof)[:-2].encode() + diff + b'"}'
    await asyncio.gather(*(send(port, post(_REPORT, body)) for _ in range(8)))


async def host(port: int, size: int) -> bytes:
    """Upload a model of `size` bytes; return its state."""
    state = encode_state([np.random.default_rng(0).normal(0, 1, size // 4).astype(np.float32)])
    plan = pb.Plan(name="training_plan")
    plan.role.actions.add().command = "torch.add"
    plan.roles["tfjs"].actions.add().command = "torch.add"
    data = json.loads(upload(1000))["data"]
    data |= {"model": state.hex(), "plans": {"training_plan": plan.SerializeToString().hex()}}
    data["server_config"]["max_diffs"] = 100
    async with websocket(port) as (reader, writer):
        writer.write(frame(json.dumps({"type": "model-centric/host-training", "data": data}).encode()))
        answer = await reader.readuntil(b"}}")
    assert b"success" in answer, answer
    return state


async def ask(port: int, kind: str, **data: str) -> dict[str, str]:
    """Send a message over HTTP."""
    async with connection(port) as (reader, writer):
        writer.write(post(f"/model-centric/{kind}", json.dumps(data).encode(), "Connection: close"))
        answer = await reader.read()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def together(port: int) -> None:
    """All of them at once, except those that need more connections than there are."""
    await host(port, 20 * MB)
    attacks = (gzip_bomb, plain_brackets, objects, frames, fragments, chunked, unread_downloads, announced)
    await asyncio.gather(*(attack(port) for attack in attacks), return_exceptions=True)


ATTACKS: tuple[Callable[[int], Awaitable[None]], ...] = (
    gzip_bomb,
    plain_brackets,
    objects,
    pipelined,
    frames,
    fragments,
    chunked,
    announced,
    headers,
    unread_downloads,
    reports,
    together,
)


async def measure(attack: Callable[[int], Awaitable[None]]) -> tuple[int, int]:
    """Return the memory at rest and the peak, in bytes."""
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1")
    master = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}" if attack is pipelined else ""
    with tempfile.TemporaryDirectory() as directory:
        node = Node(directory, master)
        try:
            await wait_until_it_listens(node.port)
            rest = node.memory("VmRSS")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await attack(node.port)
            return rest, node.memory("VmHWM")
        finally:
            node.stop()
            silent.close()


async def wait_until_it_listens(port: int) -> None:
    """Wait until the node answers."""
    while True:
        with contextlib.suppress(OSError):
            await send(port, b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
            return
        await asyncio.sleep(0.05)


def budget() -> int:
    """Return the default of `MAX_BYTES_IN_FLIGHT`."""
    from pygrid_node.settings import Settings  # an older version, measured for comparison, has no such field

    field = Settings.model_fields.get("max_bytes_in_flight")
    return field.default if field else 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--attack", choices=[attack.__name__ for attack in ATTACKS], help="only this one")
    wanted = parser.parse_args().attack
    print(f"{'attack':>18}{'rest':>10}{'peak':>10}{'more':>10}{'budget':>10}")
    for attack in ATTACKS:
        if wanted in (None, attack.__name__):
            rest, peak = asyncio.run(measure(attack))
            cells = (rest, peak, peak - rest, budget())
            row = "".join(f"{cell / MB:>7.0f} MB" for cell in cells)
            print(f"{attack.__name__:>18}{row}", flush=True)


if __name__ == "__main__":
    main()
