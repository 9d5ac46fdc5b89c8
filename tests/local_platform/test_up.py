import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from local_platform import LocalPlatformError, seeds
from local_platform.home import Home
from local_platform.signals import STOP_SIGNALS, stop_on_signals
from local_platform.supervisor import Supervisor
from local_platform.up import curls, show, watch
from tests.local_platform.waiting import processes_of, until

ENVIRONMENT = {
    "DATASET_ID": "Diabetes progression",
    "MODEL_ID": "m",
    "DS_USERNAME": "ada",
    "DEVELOPER_USERNAME": "g",
}
UP = "from local_platform.cli import local; local()"


def body_of(command):
    """The body as a shell passes it to `curl`."""
    script = f"printf %s {command.partition(' -d ')[2]}"
    shell = subprocess.run(  # noqa: S603 - our own text
        [shutil.which("sh"), "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return json.loads(shell.stdout)


def test_every_route_has_a_curl():
    """`test_docs.py` compares the README's table with the routes."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    routes = re.findall(r"^\| `((?:GET|POST) .*?)` \|", readme, re.MULTILINE)

    assert len(routes) > 10
    assert {curl.route for curl in curls("token")} == set(routes)


def test_both_owners_have_a_curl_that_deletes():
    """The owner of a model withdraws it, the owner of the dataset stops the node."""
    bodies = [body_of(curl.command) for curl in curls("token") if curl.route == "POST /delete"]

    assert [set(body) for body in bodies] == [{"model_id"}, {"dataset_id"}]


def test_bodies_are_json_after_the_shell_has_read_them():
    bodies = {curl.route: body_of(curl.command) for curl in curls("token") if " -d " in curl.command}

    assert bodies["POST /create"] == {
        "dataset_id": "Diabetes progression",
        "model_id": "m",
        "features": ["age", "bmi"],
        "labels": ["progression"],
    }
    assert bodies["POST /model_loss"] == {"model_id": "m", "loss": 0.5, "acc": -1}


def test_device_sends_its_key_in_the_header_with_the_underscore():
    """The iOS pod sends this header."""
    (info,) = (curl for curl in curls("token") if curl.route == "POST /info")

    assert '-H "api_key: $API_KEY"' in info.command


@pytest.fixture
def idle_platform(tmp_path):
    """A platform without any process."""
    return SimpleNamespace(processes=Supervisor(), home=Home(tmp_path))


@pytest.mark.usefixtures("_signal_handlers")
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_ends_the_waiting(idle_platform, number):
    """A second signal must not interrupt the shutdown."""
    stop_on_signals()
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt):
        watch(idle_platform, interval=0.01)

    assert {signal.getsignal(other) for other in STOP_SIGNALS} == {signal.SIG_IGN}


@pytest.mark.moto
def test_lost_program_ends_the_waiting(idle_platform, python_program):
    with idle_platform.processes as supervisor:
        supervisor.start(python_program("aws", "raise SystemExit", restart=False))
        with pytest.raises(LocalPlatformError, match="aws ended"):
            watch(idle_platform, interval=0.01)


@pytest.fixture
def model_id(platform):
    """A model of this test."""
    item = seeds.model_item(platform.scientist.username, "pasted")
    platform.aws.resource("dynamodb").Table("model_table").put_item(Item=item)
    return item["model_id"]


@pytest.mark.moto
def test_shown_commands_can_be_pasted(platform, model_id, capsys):
    """Into a shell of another directory that has none of the variables; all but the named ones succeed."""
    show(platform, Console())
    lines = capsys.readouterr().out.splitlines()
    setup = [line for line in lines if re.match(r"cd |source |export |TOKEN=", line)]
    curled = [f"{line} -sS -w '%{{http_code}}\n' -o /dev/null" for line in lines if line.startswith("curl")]
    script = "\n".join([*setup, f"MODEL_ID={model_id}", *curled])
    shell = subprocess.run(  # noqa: S603 - our own text
        [shutil.which("bash"), "-ec", script],
        env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    statuses = shell.stdout.split()

    assert setup == [
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"source {platform.home.exports}",
        f'export PATH={sysconfig.get_path("scripts")}:"$PATH"',
        f"TOKEN=$(artificien local token --directory {platform.home.path})",
    ]
    assert statuses.pop(3) in ("200", "202")  # a node of another test may be up
    assert statuses.pop(-2) in ("200", "202", "409")  # and models of other tests on it
    assert statuses == ["200", "200", "200", "200", "401", "401", "409", "404", "200", "200"]


@pytest.mark.moto
def test_processes_are_shown(platform, capsys):
    show(platform, Console(width=200))
    output = capsys.readouterr().out

    for name, pid in platform.processes.running().items():
        assert any(name in line and str(pid) in line for line in output.splitlines()), name


@pytest.fixture
def up(tmp_path):
    """`artificien local up` in a process of its own. A variable with `tmp_path` marks all its children."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    arguments = ("up", "--port=0", "--aws-port=0", "--workers=1", "--directory", str(tmp_path / "home"))
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own program
            (sys.executable, "-c", UP, *arguments), env=environment, stdout=file, stderr=file
        )
    try:
        until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, 60)
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.moto
def test_sigint_stops_everything_in_order(up, tmp_path):
    """Exit status 0, no exports, no process."""
    exported = Home(tmp_path / "home").exports.exists()
    up.send_signal(signal.SIGINT)

    assert exported
    assert up.wait(30) == 0
    assert not Home(tmp_path / "home").exports.exists()
    assert processes_of(tmp_path) == []


@pytest.mark.moto
def test_no_process_survives_a_killed_platform(up, tmp_path):
    """It has no time to stop its children; the kernel kills them."""
    before = processes_of(tmp_path)
    up.kill()
    up.wait()

    assert len(before) >= 5
    assert until(lambda: not processes_of(tmp_path), 10)


@pytest.mark.moto
def test_lost_aws_ends_the_platform_with_an_error(up, tmp_path):
    """All state is lost with it."""
    aws = next(
        pid
        for pid in processes_of(tmp_path)
        if b"local_platform.moto_server" in Path("/proc", pid, "cmdline").read_bytes()
    )
    os.kill(int(aws), signal.SIGKILL)

    assert up.wait(30) == 1
    assert "Error: aws ended" in (tmp_path / "output").read_text()
    assert processes_of(tmp_path) == []
