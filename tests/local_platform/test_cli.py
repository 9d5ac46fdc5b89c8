import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from local_platform.cli import local
from local_platform.home import Home

COMMAND = (
    sys.executable,
    "-c",
    "from local_platform.cli import local; local()",
    "up",
    "--port=0",
    "--aws-port=0",
)


@pytest.fixture(autouse=True)
def _signals():
    """`up` takes over signals; give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(*arguments):
    return CliRunner().invoke(local, [str(argument) for argument in arguments])


def test_second_platform_in_a_directory_is_refused(tmp_path):
    """In one line, with status 1."""
    with Home(tmp_path).occupied():
        result = run("up", "--directory", tmp_path)

    assert result.exit_code == 1
    assert result.output == f"Error: Another platform runs in {tmp_path}. Stop it, or use --directory.\n"


@pytest.mark.parametrize("option", ["--port", "--aws-port"])
def test_port_in_use_is_refused(tmp_path, option):
    """In one line, with status 1, before anything is started."""
    other = {"--port": "--aws-port", "--aws-port": "--port"}[option]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run("up", "--directory", tmp_path, option, port, other, 0)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Port {port} can't be used")
    assert result.output.count("\n") == 1


def test_no_token_without_a_platform(tmp_path):
    """The message says how to get one."""
    result = run("token", "--directory", tmp_path)

    assert result.exit_code == 1
    assert "make up" in result.output


def processes_in(directory: Path) -> list[str]:
    """All processes of this machine that work in or for `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:  # it ended meanwhile, or is somebody else's
                continue
            if str(directory).encode() in line:
                found.append(entry.name)
    return found


@pytest.fixture
def running(tmp_path):
    """A platform in a process of its own, up, with a variable that all its children inherit."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with (tmp_path / "output").open("wb") as output:
        up = subprocess.Popen(  # noqa: S603 - our own program
            (*COMMAND, "--directory", str(tmp_path / "home")), env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not Home(tmp_path / "home").exports.exists():
            assert up.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.05)
        yield up
    finally:
        up.kill()
        up.wait()


@pytest.mark.moto
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_all_in_order(running, tmp_path, number):
    """Status 0, exports gone, nobody left."""
    running.send_signal(number)

    assert running.wait(30) == 0
    assert not Home(tmp_path / "home").exports.exists()
    assert processes_in(tmp_path) == []


@pytest.mark.moto
def test_nothing_is_left_when_it_is_killed(running, tmp_path):
    """It has no time to stop anything, yet its children go."""
    running.kill()
    running.wait()
    deadline = time.monotonic() + 10
    while (left := processes_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert left == []


@pytest.mark.moto
def test_lost_aws_ends_it_with_an_error(running, tmp_path):
    """All state was in there."""
    aws = next(
        pid
        for pid in processes_in(tmp_path)
        if b"local_platform.aws" in Path("/proc", pid, "cmdline").read_bytes()
    )
    os.kill(int(aws), signal.SIGKILL)

    assert running.wait(30) == 1
    assert "Error: aws ended" in (tmp_path / "output").read_text()
    assert processes_in(tmp_path) == []


@pytest.mark.moto
def test_shown_curls_can_be_pasted(running, tmp_path):
    """Each works as it stands; one needs a node's credential, and says so."""
    deadline = time.monotonic() + 10
    while "Ctrl-C" not in (output := (tmp_path / "output").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)  # it is written after the exports
    exports = Home(tmp_path / "home").published()
    token = run("token", "--directory", tmp_path / "home").output.strip()
    shell = {**os.environ, **exports, "TOKEN": token}
    lines = [line for line in output.splitlines() if line.startswith("curl") and "artificien" not in line]
    answers = [
        subprocess.run(  # noqa: S603 - our own text
            [shutil.which("sh"), "-c", f"{line} -sS -w '%{{http_code}}' -o /dev/null"],
            env=shell, capture_output=True, text=True, check=True,
        ).stdout
        for line in lines
    ]  # fmt: skip

    assert answers == ["200", "200", "200", "202", "200", "401", "200"]
    assert requests.get(exports["ORCHESTRATION_URL"], timeout=10).text == "Running"
