"""The real process: stopped, killed, and started again."""

import os
import signal
import socket
import threading
import time

import pytest
import requests
import structlog

from pygrid_node.__main__ import main
from tests.node_process import ROOT, NodeProcess, answers, free_port
from tests.pygrid_node.helpers import wait_for

pytestmark = pytest.mark.moto

DIFF = (ROOT / "tests" / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()


@pytest.fixture
def process(tmp_path, orchestrator):
    """A node's process, not yet started."""
    process = NodeProcess(tmp_path, orchestrator.location)
    yield process
    process.kill()


@pytest.fixture
def start_process(process, client_of):
    """Start the node's process, again after each end."""

    def start(**changes):
        popen = process.start(**changes)
        wait_for(lambda: popen.poll() is not None or process.answers())
        return popen, client_of(process.address)

    return start


def test_node_that_was_killed_resumes(process, start_process, orchestrator, recorded):
    """SIGKILL after two of three diffs, then with progress in the outbox, loses and repeats nothing."""
    _, node = start_process()
    node.upload(recorded())
    workers = [node.worker("fixture-linear") for _ in range(3)]
    for worker in workers[:2]:
        worker.report(DIFF)
    process.kill()

    start_process()
    orchestrator.statuses = [503] * 100_000
    workers[2].report(DIFF)
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok and orchestrator.headers)
    process.kill()
    orchestrator.statuses = []

    start_process()
    wait_for(lambda: orchestrator.calls)
    assert orchestrator.calls == [
        {"percent_complete": 50, "model_id": "fixture-linear", "cycle": 1, "cycles": 2}
    ]
    assert node.worker("fixture-linear").accepted["status"] == "accepted"
    assert not node.checkpoint("fixture-linear", 3).ok


def test_node_ends_soon_on_sigterm(process, start_process, recorded):
    """The exit status is 0 though a worker is connected, and the log contains no secret."""
    popen, node = start_process()
    node.upload(recorded())
    idle = socket.create_connection(node.address.split(":"))
    started = time.monotonic()
    popen.send_signal(signal.SIGTERM)
    popen.wait(timeout=20)
    output = process.log.read_text()
    idle.close()

    assert popen.returncode == 0
    assert time.monotonic() - started < 10
    assert '"event": "node.started"' in output
    assert "p/w" not in output
    assert "p%2Fw" not in output


def test_node_serves_until_it_is_stopped(monkeypatch, tmp_path, orchestrator):
    """SIGTERM ends the entry point with status 0; it runs in this process here."""
    port = free_port()
    environment = {"NODE_ID": "n", "DATABASE_URL": f"sqlite:///{tmp_path}/", "BIND_HOST": "127.0.0.1"}
    for name, value in (environment | {"MASTER_NODE_URL": orchestrator.location, "PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    statuses = []

    def stop_when_it_answers():
        wait_for(lambda: answers(port))
        statuses.append(requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_it_answers)
    thread.start()
    status = main()
    thread.join()
    structlog.reset_defaults()

    assert (status, statuses) == (0, [200])


def test_entry_point_names_all_settings_that_are_missing(monkeypatch, capsys):
    """It writes them to standard error and exits with status 2."""
    for name in ("NODE_ID", "DATABASE_URL", "MASTER_NODE_URL"):
        monkeypatch.delenv(name, raising=False)
    status = main()
    structlog.reset_defaults()

    assert status == 2
    assert "NODE_ID: Field required\nDATABASE_URL: Field required\n" in capsys.readouterr().err


def test_node_without_settings_does_not_start(start_process):
    """It ends with status 2."""
    popen, _ = start_process(NODE_ID="", PORT="nope")

    assert popen.wait(timeout=20) == 2
