import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local_platform import LocalPlatformError
from local_platform.supervisor import RestartDelays, Supervisor, inherited
from tests.local_platform.waiting import until

processes = pytest.mark.moto

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
STARTS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor():
    with Supervisor(RestartDelays(first=0.05, longest=0.2)) as supervisor:
        yield supervisor


def is_alive(pid):
    """Whether a process runs. A zombie, which waits for its parent, doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def text_of(program):
    return program.log.read_text() if program.log.exists() else ""


def test_child_processes_inherit_few_variables():
    """Neither credentials nor proxies, nor a variable that the service would read as a setting."""
    operators = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "http_proxy": "http://p",
        "MODEL_TABLE": "other",
    }

    assert inherited(operators) == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}


def test_delay_doubles_up_to_a_limit():
    delays = RestartDelays(first=0.5, longest=3.0)

    assert [delays.after(failures) for failures in (0, 1, 2, 3, 2000)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@processes
def test_program_gets_only_its_environment(supervisor, python_program, monkeypatch):
    """No variable of the operator's is added."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    program = python_program(code="import os; print(os.environ.get('AWS_PROFILE'), flush=True)")
    supervisor.start(program)

    assert until(lambda: text_of(program)).startswith("None")


@processes
def test_killed_program_is_restarted(supervisor, python_program):
    supervisor.start(python_program())
    first = supervisor.running()["sleeper"]
    os.kill(first, signal.SIGKILL)

    assert until(lambda: supervisor.running()["sleeper"] not in (first, None))


def restart_delays(logs):
    return [entry["restart_in"] for entry in logs if entry["event"] == "program.exited"]


@processes
def test_delay_grows_while_a_program_keeps_ending(python_program, logs):
    """Restarts without a delay would use up the CPU and fill the log."""
    program = python_program(code="print('x', flush=True)")
    started = time.monotonic()
    with Supervisor(RestartDelays(first=0.1, longest=0.2)) as supervisor:
        supervisor.start(program)
        assert until(lambda: text_of(program).count("x") >= 4)

    assert time.monotonic() - started >= 0.1 + 0.2 + 0.2
    assert restart_delays(logs)[:3] == [0.1, 0.2, 0.2]


@processes
def test_delay_is_reset_after_a_long_run(python_program, logs):
    """Only failures in a row count."""
    program = python_program(code="print('x', flush=True)")
    with Supervisor(RestartDelays(first=0.05, reset_after=0.0)) as supervisor:
        supervisor.start(program)
        assert until(lambda: text_of(program).count("x") >= 3)

    assert restart_delays(logs)[:2] == [0.05, 0.05]


@processes
def test_program_is_restarted_once_its_log_can_be_written(supervisor, python_program, tmp_path, logs):
    """The user may have removed the directory; the supervisor keeps running."""
    (tmp_path / "logs").mkdir()
    program = replace(python_program(), log=tmp_path / "logs" / "sleeper.log")
    supervisor.start(program)
    first = supervisor.running()["sleeper"]
    shutil.rmtree(tmp_path / "logs")
    os.kill(first, signal.SIGKILL)
    failures = until(lambda: [entry for entry in logs if entry["event"] == "program.restart_failed"])
    meanwhile = supervisor.running()["sleeper"]
    (tmp_path / "logs").mkdir()

    assert failures
    assert meanwhile is None
    assert until(lambda: supervisor.running()["sleeper"])


@processes
def test_children_of_an_ended_program_are_killed(supervisor, python_program):
    """Workers that outlive their parent would keep its port."""
    program = python_program(code=STARTS_A_CHILD)
    supervisor.start(program)
    grandchild = int(until(lambda: text_of(program)))
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert until(lambda: not is_alive(grandchild))


@processes
def test_program_without_restart_is_reported_as_lost(supervisor, python_program):
    """AWS keeps all state in memory; a restarted, empty AWS would be wrong."""
    supervisor.start(python_program(restart=False))
    before = supervisor.lost()
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert before == []
    assert until(supervisor.lost) == ["sleeper"]


@processes
def test_stopped_program_is_forgotten(supervisor, python_program):
    """Its name can be used again."""
    supervisor.start(python_program())
    pid = supervisor.running()["sleeper"]
    supervisor.stop("sleeper")

    assert not is_alive(pid)
    assert supervisor.running() == {}


@processes
def test_program_that_ignores_sigterm_is_killed(supervisor, python_program):
    """The kill follows after a time-out."""
    program = python_program(code=IGNORES_SIGTERM, stop_timeout=0.3)
    supervisor.start(program)
    until(lambda: text_of(program))
    pid = supervisor.running()["sleeper"]
    supervisor.stop("sleeper")

    assert not is_alive(pid)


SAVES_ON_SIGTERM = """
import pathlib, signal, sys, time
def leave(*_):
    time.sleep(1)
    pathlib.Path({saved!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(60)
"""


@processes
@pytest.mark.parametrize(("stop_within", "is_saved"), [(0.1, False), (30.0, True)])
def test_programs_are_killed_when_the_time_of_all_is_over(python_program, tmp_path, stop_within, is_saved):
    """Even if each has time left: Ctrl-C must not take longer the more programs there are."""
    saved = tmp_path / "saved"
    program = python_program("first", SAVES_ON_SIGTERM.format(saved=str(saved)), stop_timeout=30)
    with Supervisor(stop_within=stop_within) as supervisor:
        supervisor.start(program)
        until(lambda: text_of(program))

    assert saved.exists() is is_saved


def test_stopping_an_unknown_program_does_nothing():
    Supervisor().stop("unknown")


@processes
def test_program_is_not_started_twice(supervisor, python_program):
    """Programs are identified by their names."""
    supervisor.start(python_program())

    with pytest.raises(ValueError, match="already running"):
        supervisor.start(python_program())


@processes
def test_programs_are_stopped_in_reverse_order(python_program, tmp_path):
    """The others need AWS while they stop."""
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    open({order!r}, 'a').write({name!r} + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    with Supervisor() as supervisor:
        for name in ("first", "second", "third"):
            program = python_program(name, code.format(order=str(order), name=name))
            supervisor.start(program)
            until(lambda program=program: text_of(program))

    assert order.read_text().split() == ["third", "second", "first"]


@processes
def test_programs_are_stopped_when_an_exception_leaves_the_block(python_program):
    pids = []

    def fail():
        with Supervisor() as supervisor:
            supervisor.start(python_program())
            pids.append(supervisor.running()["sleeper"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_alive(pids[0])


@processes
def test_waiting_ends_when_the_program_is_up(supervisor, python_program):
    started = time.monotonic()
    supervisor.start(python_program())
    supervisor.wait_for("sleeper", lambda: True, 60)

    assert time.monotonic() - started < 30


@processes
def test_program_that_ends_early_shows_the_end_of_its_log(supervisor, python_program):
    """The log contains the cause."""
    supervisor.start(python_program(code="raise SystemExit('the cause')"))

    with pytest.raises(LocalPlatformError, match=r"(?s)ended before it was up.*the cause") as caught:
        supervisor.wait_for("sleeper", lambda: False, 10)
    assert "sleeper.log" in str(caught.value)


@processes
def test_program_that_does_not_answer_is_an_error(supervisor, python_program):
    supervisor.start(python_program())

    with pytest.raises(LocalPlatformError, match=r"(?s)did not answer within 0 s.*\(empty\)"):
        supervisor.wait_for("sleeper", lambda: False, 0.2)


@processes
def test_children_die_with_a_killed_parent(python_program, tmp_path, supervisor):
    """A process that gets SIGKILL can't stop its children itself."""
    log = tmp_path / "child.log"
    code = f"""
import sys, time
from pathlib import Path
from local_platform.supervisor import Program, Supervisor
with Supervisor() as supervisor:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    supervisor.start(Program("child", command, {{}}, Path({str(log)!r})))
    print(supervisor.running()["child"], flush=True)
    time.sleep(60)
"""
    program = python_program(code=code)
    supervisor.start(program)
    child = int(until(lambda: text_of(program)))
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert until(lambda: not is_alive(child))
