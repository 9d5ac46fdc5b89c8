"""The load that a node carries: workers go through all steps of a cycle, against a real node on this machine.

    python bench/node_load.py [--workers 1000] [--model-kb 100] [--database postgresql://u:p@h/] [--quick]

The table starts with a tenth of the workers and with all of them; then models grow from 10 kB to 100 MB. Each
line is measured on a new node. For comparison, each line has the time that NumPy takes for the mean of the
same arrays, and the ratio to it. Client and node share the machine, so the rates are those of both together.
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

CONCURRENT = 100  # requests in flight
DISTINCT = 4  # different diffs, which the workers share
# Model in kB, and number of workers: fewer for large models, so that the default run takes two minutes.
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
    """The load of one line; the model in kB."""

    workers: int
    model_kb: int


@dataclass(frozen=True)
class Figures:
    """Measured values: seconds, and bytes of memory."""

    steps: float
    averaging: float
    cycle_requests: list[float]
    idle: int
    peak: int
    numpy: float


class Node:
    """A real node with its own database."""

    def __init__(self, directory: str, database: str | None) -> None:
        """Start the process on a free port."""
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
        """URL of the node."""
        return f"http://127.0.0.1:{self.port}"

    def memory(self, entry: str) -> int:
        """Return bytes of `VmRSS`, the current memory, or of `VmHWM`, the peak."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self) -> None:
        """Stop the process."""
        self._process.terminate()
        self._process.wait()


class Clients:
    """The data scientist who uploads the model, and the workers."""

    def __init__(self, node: Node, session: aiohttp.ClientSession, name: str) -> None:
        """Use the model of this name on the node."""
        self._node = node
        self._session = session
        self._name = name
        self.cycle_requests: list[float] = []

    async def wait_until_it_listens(self) -> None:
        """Wait until the node answers."""
        while True:
            try:
                async with self._session.get(self._node.url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)

    async def upload(self, model: bytes, workers: int) -> None:
        """Upload the model in one WebSocket message; the cycle closes with the last worker's report."""
        data = {
            "model": model.hex(),
            "plans": {"training_plan": training_plan().hex()},
            "protocols": {},
            "averaging_plan": "",
            "client_config": {
                "name": self._name,
                "version": "1",
                "batch_size": 1,
                "lr": 0.1,
                "max_updates": 1,
            },
            "server_config": {"num_cycles": 1, "max_diffs": workers, "cycle_length": 3600},
        }
        async with self._session.ws_connect(self._node.url) as connection:
            await connection.send_json({"type": "model-centric/host-training", "data": data})
            answer = await connection.receive_json(timeout=120)
        assert answer["data"] == {"status": "success"}, answer

    async def work(self, diff: bytes) -> None:
        """Go through all five steps of a worker. `diff` is base64."""
        named = {"model_name": self._name, "model_version": "1"}
        worker = {"worker_id": (await self._post("authenticate", json.dumps(named)))["worker_id"]}
        started = time.perf_counter()
        request = {**worker, "model": self._name, "version": "1"}
        cycle = await self._post("cycle-request", json.dumps(request))
        self.cycle_requests.append(time.perf_counter() - started)
        proof = {**worker, "request_key": cycle["request_key"]}
        await self._get("get-model", {**proof, "model_id": cycle["model_id"]})
        plan = {"plan_id": cycle["plans"]["training_plan"], "receive_operations_as": "list"}
        await self._get("get-plan", {**proof, **plan})
        head = json.dumps({**proof, "diff": ""})[:-2].encode()
        assert await self._post("report", head + diff + b'"}') == {"status": "success"}

    async def wait_for_checkpoint(self) -> None:
        """Wait until the node has averaged the cycle."""
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
    """Return a plan that a node accepts. Only workers would execute it."""
    plan = pb.Plan(name="training_plan")
    plan.role.actions.add().command = "torch.add"
    plan.roles["tfjs"].actions.add().command = "torch.add"
    return plan.SerializeToString()


async def measure(load: Load, database: str | None) -> Figures:
    """Measure one load on a new node."""
    random = np.random.default_rng(0)
    size = load.model_kb * 250  # float32 numbers
    model = random.normal(0, 0.05, size).astype(np.float32)
    diffs = [random.normal(0, 1e-4, size).astype(np.float32) for _ in range(min(DISTINCT, load.workers))]
    bodies = [base64.b64encode(encode_state([diff])) for diff in diffs]
    with tempfile.TemporaryDirectory() as directory:
        node = Node(directory, database)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENT)) as session:
                clients = Clients(node, session, f"bench-{os.urandom(4).hex()}")
                await clients.wait_until_it_listens()
                idle = node.memory("VmRSS")
                await clients.upload(encode_state([model]), load.workers)
                started = time.perf_counter()
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
        reported - started, averaged - reported, sorted(clients.cycle_requests), idle, peak, physical
    )


def numpy_mean(diffs: list[np.ndarray], count: int) -> float:
    """Return the seconds that NumPy takes for the mean of so many arrays in float64."""
    started = time.perf_counter()
    total = np.zeros(diffs[0].shape)
    for number in range(count):
        total += diffs[number % len(diffs)]
    total /= count
    return time.perf_counter() - started


def line(load: Load, figures: Figures) -> str:
    """Return a line of the table."""
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
    """Return the cells, aligned to columns."""
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
