import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local_platform import supervisor as processes
from local_platform.supervisor import NotStartedError, Supervisor

pytestmark = pytest.mark.moto

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor():
    with Supervisor() as supervisor:
        yield supervisor


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return result


def is_alive(pid):
    """Whether a process runs; one that waits to be reaped by somebody else doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def text_of(program):
    return program.log.read_text() if program.log.exists() else ""


def test_program_runs_with_its_environment_only(supervisor, sleeper, monkeypatch):
    """What isn't given isn't there: no profile of the operator's slips in."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    program = sleeper(code="import os; print(os.environ.get('AWS_PROFILE'), flush=True)")
    supervisor.start(program)

    assert until(lambda: text_of(program)).startswith("None")


def test_dead_program_is_started_again(supervisor, sleeper):
    """A crash must not end the demo."""
    supervisor.start(sleeper())
    first = supervisor.running()["sleeper"]
    os.kill(first, signal.SIGKILL)

    assert until(lambda: supervisor.running()["sleeper"] not in (first, None))


def test_pause_grows_while_a_program_keeps_dying(supervisor, sleeper, monkeypatch):
    """It would fill the machine and its log otherwise."""
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.2)
    program = sleeper(code="print('x', flush=True)")
    supervisor.start(program)
    time.sleep(1.5)

    assert 2 <= text_of(program).count("x") <= 4


def test_program_is_started_again_once_its_log_can_be_written(supervisor, sleeper, monkeypatch, tmp_path):
    """Somebody may have cleaned up under it; the others are looked after meanwhile."""
    monkeypatch.setattr(processes, "LONGEST_PAUSE", 0.1)
    (tmp_path / "logs").mkdir()
    program = replace(sleeper(), log=tmp_path / "logs" / "sleeper.log")
    supervisor.start(program)
    first = supervisor.running()["sleeper"]
    shutil.rmtree(tmp_path / "logs")
    os.kill(first, signal.SIGKILL)
    time.sleep(1)
    meanwhile = supervisor.running()["sleeper"]
    (tmp_path / "logs").mkdir()

    assert meanwhile is None
    assert until(lambda: supervisor.running()["sleeper"])


def test_what_a_dead_program_left_is_killed(supervisor, sleeper):
    """Workers that outlive their master would keep its port."""
    program = sleeper(code=PARENT)
    supervisor.start(program)
    orphan = int(until(lambda: text_of(program)))
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert until(lambda: not is_alive(orphan))


def test_irreplaceable_program_is_reported_and_stays_down(supervisor, sleeper):
    """AWS keeps all in memory: an empty one in its place would be worse than none."""
    supervisor.start(sleeper(is_replaceable=False))
    before = supervisor.lost()
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert before == []
    assert until(supervisor.lost) == ["sleeper"]


def test_stopped_program_is_gone(supervisor, sleeper):
    """And forgotten, so that its name is free."""
    supervisor.start(sleeper())
    pid = supervisor.running()["sleeper"]
    supervisor.stop("sleeper")

    assert not is_alive(pid)
    assert supervisor.running() == {}


def test_program_that_ignores_term_is_killed(supervisor, sleeper):
    """After its patience."""
    program = sleeper(code=STUBBORN, patience=0.3)
    supervisor.start(program)
    until(lambda: text_of(program))
    pid = supervisor.running()["sleeper"]
    supervisor.stop("sleeper")

    assert not is_alive(pid)


def test_stopping_what_is_not_there_does_nothing(supervisor):
    """The agent may be told twice."""
    supervisor.stop("nobody")


def test_program_is_not_started_twice(supervisor, sleeper):
    """Two of one name could not be told apart."""
    supervisor.start(sleeper())

    with pytest.raises(ValueError, match="running already"):
        supervisor.start(sleeper())


def test_programs_are_stopped_in_reverse_order(sleeper, tmp_path):
    """AWS goes last: the others need it to leave in order."""
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
            program = sleeper(name, code.format(order=str(order), name=name))
            supervisor.start(program)
            until(lambda program=program: text_of(program))

    assert order.read_text().split() == ["third", "second", "first"]


def test_programs_are_stopped_when_an_error_leaves_the_block(sleeper):
    """A failing test leaves nothing behind."""
    pids = []

    def fail():
        with Supervisor() as supervisor:
            supervisor.start(sleeper())
            pids.append(supervisor.running()["sleeper"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_alive(pids[0])


def test_waiting_ends_when_the_program_is_up(supervisor, sleeper):
    """No longer than that."""
    program = sleeper()
    supervisor.start(program)
    supervisor.wait_for("sleeper", lambda: True, 5)


def test_program_that_ends_instead_shows_the_end_of_its_log(supervisor, sleeper):
    """The cause is in there."""
    supervisor.start(sleeper(code="raise SystemExit('the cause')"))

    with pytest.raises(NotStartedError, match=r"(?s)ended before it was up.*the cause") as caught:
        supervisor.wait_for("sleeper", lambda: False, 10)
    assert "sleeper.log" in str(caught.value)


def test_program_that_keeps_silent_is_given_up(supervisor, sleeper):
    """At the deadline."""
    supervisor.start(sleeper())

    with pytest.raises(NotStartedError, match=r"(?s)no answer within 0 s.*\(empty\)"):
        supervisor.wait_for("sleeper", lambda: False, 0.2)


def test_children_die_with_a_killed_parent(sleeper, tmp_path, supervisor):
    """SIGKILL leaves the supervisor no time to stop anything."""
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
    program = sleeper(code=code)
    supervisor.start(program)
    child = int(until(lambda: text_of(program)))
    os.kill(supervisor.running()["sleeper"], signal.SIGKILL)

    assert until(lambda: not is_alive(child))
