"""Runs child processes: starts them, restarts those that end, and stops them in reverse order."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from local_platform import LocalPlatformError

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG")
PARENT_DEATH = Path(__file__).with_name("parent_death.py")
CHECK_INTERVAL = 0.1
TAIL_LINES = 15

log = structlog.get_logger()


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what child processes get of the operator's environment: no AWS profile, no proxy, no setting."""
    return {name: environment[name] for name in INHERITED if name in environment} | {"PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Program:
    """A command, its complete environment, and the file for its output."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    stop_timeout: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""
    restart: bool = True
    """False for a program whose state is lost when it ends; `Supervisor.lost` then names it."""


@dataclass(frozen=True, slots=True)
class RestartDelays:
    """Seconds before a program that ended is started again; they double each time, up to a limit."""

    first: float = 0.25
    longest: float = 5.0
    reset_after: float = 10.0
    """A program that has run for longer than this starts again after the first delay."""

    def after(self, failures: int) -> float:
        """Return the delay after so many earlier failures in a row."""
        doublings = min(failures, 32)  # a float overflows after 1024
        return min(self.first * 2.0**doublings, self.longest)


class Child:
    """A program with its process, if one is running."""

    def __init__(self, program: Program, delays: RestartDelays) -> None:
        self.program = program
        self.is_lost = False
        self._delays = delays
        self._failures = 0
        self._start()

    def _start(self) -> None:
        launcher = (sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()))
        with self.program.log.open("ab") as output:
            # In its own session: Ctrl-C reaches the supervisor only, which stops all programs in order.
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(  # noqa: S603 - our own programs
                (*launcher, *self.program.command),
                env=dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._restart_at = 0.0

    @property
    def pid(self) -> int | None:
        """The running process's pid, or None while the program waits for its restart."""
        return self._process.pid if self._process else None

    def check(self) -> None:
        """Notice that the process has ended, and start it again after the delay."""
        if self._process is None:
            if not self.is_lost and time.monotonic() >= self._restart_at:
                self._restart()
        elif _has_ended(self._process.pid):
            self._schedule_restart(self._process)

    def _restart(self) -> None:
        try:
            self._start()
        except OSError as error:  # the directory of the logs was removed, or the disk is full
            self._restart_at = time.monotonic() + self._delays.longest
            log.warning("program.restart_failed", program=self.program.name, reason=str(error))
        else:
            log.info("program.restarted", program=self.program.name, pid=self.pid)

    def _schedule_restart(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid)  # its own children may still hold its port
        status = process.wait()
        self._process = None
        self.is_lost = not self.program.restart
        if self.is_lost:
            log.error("program.lost", program=self.program.name, status=status)
            return
        if time.monotonic() - self._started > self._delays.reset_after:
            self._failures = 0
        delay = self._delays.after(self._failures)
        self._failures += 1
        self._restart_at = time.monotonic() + delay
        log.warning("program.exited", program=self.program.name, status=status, restart_in=delay)

    def stop(self, deadline: float) -> None:
        """Stop the process with SIGTERM, and with SIGKILL after the program's time-out or at the deadline."""
        process, self._process = self._process, None
        if process is None:
            return
        if not _has_ended(process.pid):
            process.send_signal(signal.SIGTERM)
        deadline = min(deadline, time.monotonic() + self.program.stop_timeout)
        while not _has_ended(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        _kill_group(process.pid)
        process.wait()


class Supervisor:
    """Keeps programs running until they are stopped. Thread-safe.

    The kernel kills children when the thread that started them ends, so start them in a thread that outlives
    them.
    """

    def __init__(self, delays: RestartDelays | None = None, stop_within: float = math.inf) -> None:
        """Start with no programs. `stop_within`: seconds in which `stop_all` stops them all."""
        self._delays = delays or RestartDelays()
        self._stop_within = stop_within
        self._children: dict[str, Child] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._checker = threading.Thread(target=self._check, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        """Begin to restart programs that end."""
        self._checker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all programs in reverse order of their start."""
        self.stop_all()
        self._closed.set()
        self._checker.join()

    def start(self, program: Program) -> None:
        """Start a program. Raises ValueError if a program of this name is running."""
        with self._lock:
            if program.name in self._children:
                raise ValueError(f"{program.name} is already running")
            self._children[program.name] = Child(program, self._delays)

    def stop(self, name: str) -> None:
        """Stop the program of this name. Does nothing if there is none."""
        self._stop(name, math.inf)

    def stop_all(self) -> None:
        """Stop all programs in reverse order of their start. Those left when the time is over are killed."""
        deadline = time.monotonic() + self._stop_within
        with self._lock:
            names = list(self._children)
        for name in reversed(names):
            self._stop(name, deadline)

    def _stop(self, name: str, deadline: float) -> None:
        with self._lock:
            child = self._children.pop(name, None)
        if child:
            child.stop(deadline)

    def running(self) -> dict[str, int | None]:
        """Return the pid of every program; None for a program that waits for its restart."""
        with self._lock:
            return {name: child.pid for name, child in self._children.items()}

    def lost(self) -> list[str]:
        """Return the names of programs that ended and aren't restarted."""
        with self._lock:
            return [name for name, child in self._children.items() if child.is_lost]

    def wait_for(self, name: str, is_up: Callable[[], bool], seconds: float) -> None:
        """Wait until a started program is up. Raises LocalPlatformError if it ends or takes too long."""
        program, pid = self._children[name].program, self._children[name].pid
        deadline = time.monotonic() + seconds
        while not is_up():
            if self.running().get(name) != pid:
                raise LocalPlatformError(_with_log(program, "ended before it was up"))
            if time.monotonic() > deadline:
                raise LocalPlatformError(_with_log(program, f"did not answer within {seconds:.0f} s"))
            time.sleep(0.05)

    def _check(self) -> None:
        while not self._closed.wait(CHECK_INTERVAL):
            with self._lock:
                for child in self._children.values():
                    child.check()


def _has_ended(pid: int) -> bool:
    """Return whether our child is a zombie. It isn't reaped here, so that its pid isn't reused."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # the group is empty; macOS reports that as EPERM
        return


def _with_log(program: Program, failure: str) -> str:
    lines = program.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    tail = "\n".join(f"    {line}" for line in lines) or "    (empty)"
    return f"{program.name} {failure}. The end of {program.log}:\n{tail}"
