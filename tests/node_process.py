"""The node as an operating-system process that tests start and kill."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import requests

ROOT = Path(__file__).parents[1]


class NodeProcess:
    """Runs `python -m pygrid_node`: each start has the same database, port, and output file `log`."""

    def __init__(self, directory: Path, master_location: str, **environment: str) -> None:
        self.port = free_port()
        self.log = directory / "node.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "NODE_ID": "n0123",
            "DATABASE_URL": f"sqlite:///{directory}/deep/down/",
            "MASTER_NODE_URL": master_location,
            "BIND_HOST": "127.0.0.1",
            "PORT": str(self.port),
        } | environment

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running node."""
        assert self._process is not None
        return self._process.pid

    def start(self, **changes: str) -> subprocess.Popen[bytes]:
        """Start the node; it does not listen yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pygrid_node"], env=self._environment | changes, stdout=log
            )
        return self._process

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answers(self) -> bool:
        """Return whether the node listens."""
        return answers(self.port)


def answers(port: int) -> bool:
    """Return whether a node listens at a port."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=1).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
