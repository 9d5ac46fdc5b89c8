"""What a node bears: workers that go through all steps of a cycle, against the real process on this machine.

    python bench/node_load.py [--workers 1000] [--model-kb 100] [--database postgresql://u:p@h/] [--quick]

First the given load, then how it grows: from a tenth of the workers, and from 10 kB to 100 MB of model. The
node starts anew for each line. Beside it, in the same run, the physical limit: NumPy's mean of the same
arrays. What counts is the ratio; client and node share the machine, so the rates are those of both together.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np

from pygrid_wire import encode_state
from pygrid_wire import syft_pb2 as pb

AT_ONCE = 100  # workers that have a request under way
DISTINCT = 4  # diffs; the workers take turns with them
# Model in kB, and workers: fewer for large ones, so that the default run ends in two minutes.
SIZES = ((10, 200), (100, 200), (1_000, 100), (10_000, 10), (100_000, 2))
QUICK = ((10, 50), (1_000, 10))
HEADER = (
    "workers",
    "model",
    "reports/s",
    "request p50",
    "p99",
    "averaged",
    "idle",
    "peak",
    "NumPy mean",
    "ratio",
)


@dataclass(frozen=True)
class Load:
    """One line of the table; the model in kB."""

    workers: int
    model_kb: int


@dataclass(frozen=True)
class Figures:
    """What was measured: seconds, and bytes of memory."""

    steps: float
    averaging: float
    cycle_requests: list[float]
    idle: int
    peak: int
    numpy: float


class Node:
    """The real process, with a database of its own."""

    def __init__(self, directory: str, database: str | None) -> None:
        """Start it, and wait until it listens."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            "NODE_ID": f"bench{os.urandom(4).hex()}" if database is None else "bench",
            "DATABASE_URL": database or f"sqlite:///{directory}/",
            "BIND_HOST": "127.0.0.1",
            "PORT": str(self.port),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pygrid_node"], env=os.environ | environment, stdout=subprocess.DEVNULL
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def memory(self, entry: str) -> int:
        """Bytes of `VmRSS` now, or of `VmHWM`, the most that it ever was."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Clients:
    """The uploader, and workers over HTTP."""

    def __init__(self, node: Node, session: aiohttp.ClientSession, name: str) -> None:
        """Talk to `node` about the model of this name."""
        self._node = node
        self._session = session
        self._name = name
        self.cycle_requests: list[float] = []

    async def wait_until_it_listens(self) -> None:
        """Ask until there is an answer."""
        while True:
            try:
                async with self._session.get(self._node.url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)

    async def upload(self, model: bytes, workers: int) -> None:
        """One frame of hexadecimal digits; the cycle ends with the last worker's report."""
        data = {
            "model": model.hex(),
            "plans": {"training_plan": training_plan().hex()},
            "protocols": {},
            "averaging_plan": "",
            "client_config": {"name": self._name, "version": "1"},
            "server_config": {"num_cycles": 1, "max_diffs": workers, "cycle_length": 3600},
        }
        async with self._session.ws_connect(self._node.url) as connection:
            await connection.send_json({"type": "model-centric/host-training", "data": data})
            answer = await connection.receive_json(timeout=120)
        assert answer["data"] == {"status": "success"}, answer

    async def work(self, diff: bytes) -> None:
        """One worker: all five steps; `diff` is base64."""
        named = {"model_name": self._name, "model_version": "1"}
        worker = {"worker_id": (await self._post("authenticate", json.dumps(named)))["worker_id"]}
        began = time.perf_counter()
        request = {**worker, "model": self._name, "version": "1"}
        place = await self._post("cycle-request", json.dumps(request))
        self.cycle_requests.append(time.perf_counter() - began)
        proof = {**worker, "request_key": place["request_key"]}
        await self._get("get-model", {**proof, "model_id": place["model_id"]})
        plan = {"plan_id": place["plans"]["training_plan"], "receive_operations_as": "list"}
        await self._get("get-plan", {**proof, **plan})
        head = json.dumps({**proof, "diff": ""})[:-2].encode()
        assert await self._post("report", head + diff + b'"}') == {"status": "success"}

    async def wait_for_checkpoint(self) -> None:
        """Ask until the cycle's average is there."""
        query = {"name": self._name, "version": "1", "checkpoint": "2"}
        url = f"{self._node.url}/model-centric/retrieve-model"
        while True:
            async with self._session.head(url, params=query) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.005)

    async def _post(self, kind: str, body: str | bytes) -> dict:
        async with self._session.post(f"{self._node.url}/model-centric/{kind}", data=body) as answer:
            return await answer.json()

    async def _get(self, kind: str, query: dict) -> None:
        async with self._session.get(f"{self._node.url}/model-centric/{kind}", params=query) as answer:
            assert answer.status == 200, await answer.text()
            async for _ in answer.content.iter_any():
                pass


def training_plan() -> bytes:
    """A plan that a node takes: what it says is for the workers."""
    plan = pb.Plan(name="training_plan")
    plan.role.actions.add().command = "torch.add"
    plan.roles["tfjs"].actions.add().command = "torch.add"
    return plan.SerializeToString()


async def measure(load: Load, database: str | None) -> Figures:
    """Run one load against a node of its own."""
    random = np.random.default_rng(0)
    size = load.model_kb * 250  # float32 numbers
    model = random.normal(0, 0.05, size).astype(np.float32)
    diffs = [random.normal(0, 1e-4, size).astype(np.float32) for _ in range(min(DISTINCT, load.workers))]
    bodies = [base64.b64encode(encode_state([diff])) for diff in diffs]
    with tempfile.TemporaryDirectory() as directory:
        node = Node(directory, database)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
                clients = Clients(node, session, f"bench-{os.urandom(4).hex()}")
                await clients.wait_until_it_listens()
                idle = node.memory("VmRSS")
                await clients.upload(encode_state([model]), load.workers)
                began = time.perf_counter()
                turns = (bodies[number % len(bodies)] for number in range(load.workers))
                await asyncio.gather(*(clients.work(body) for body in turns))
                reported = time.perf_counter()
                await clients.wait_for_checkpoint()
                averaged = time.perf_counter()
                peak = node.memory("VmHWM")
        finally:
            node.stop()
    physical = numpy_mean(diffs, load.workers)
    return Figures(
        reported - began, averaged - reported, sorted(clients.cycle_requests), idle, peak, physical
    )


def numpy_mean(diffs: list[np.ndarray], count: int) -> float:
    """Return the seconds that NumPy takes to average so many arrays in float64."""
    began = time.perf_counter()
    total = np.zeros(diffs[0].shape)
    for number in range(count):
        total += diffs[number % len(diffs)]
    total /= count
    return time.perf_counter() - began


def line(load: Load, figures: Figures) -> str:
    """Return a row of the table."""
    times = figures.cycle_requests
    p50, p99 = (times[int(share * (len(times) - 1))] * 1e3 for share in (0.5, 0.99))
    whole = figures.steps + figures.averaging
    cells = (
        f"{load.workers}",
        f"{load.model_kb} kB",
        f"{load.workers / figures.steps:.1f}",
        f"{p50:.0f} ms",
        f"{p99:.0f} ms",
        f"{figures.averaging:.2f} s",
        f"{figures.idle / 1e6:.0f} MB",
        f"{figures.peak / 1e6:.0f} MB",
        f"{figures.numpy * 1e3:.1f} ms",
        f"{whole / figures.numpy:.0f}",
    )
    return row(cells)


def row(cells: Iterable[str]) -> str:
    """Return the cells in columns."""
    return "".join(f"{cell:>12}" for cell in cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--model-kb", type=int, default=100)
    parser.add_argument(
        "--database", help="a URL to which the node appends 'benchdb'; else a new SQLite file"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes for the growth")
    options = parser.parse_args()
    print(row(HEADER))
    few = max(1, options.workers // 10)
    loads = [Load(few, options.model_kb), Load(options.workers, options.model_kb)]
    loads += [Load(workers, model_kb) for model_kb, workers in (QUICK if options.quick else SIZES)]
    for load in loads:
        print(line(load, asyncio.run(measure(load, options.database))), flush=True)


if __name__ == "__main__":
    main()
