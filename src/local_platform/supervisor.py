"""A supervisor of child processes: starts them, restarts what dies, stops them in reverse order."""

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

LEASH = Path(__file__).with_name("leash.py")
TEND_INTERVAL = 0.1
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0
PROVEN = 10.0
"""A child that ran for so many seconds starts again without a growing pause."""
TAIL_LINES = 15

log = structlog.get_logger()


class NotStartedError(Exception):
    """A program ended, or kept silent, before it was up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, with exactly this environment, and where its output goes."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    patience: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""
    is_replaceable: bool = True
    """False: it holds what nothing else holds, so its death is the end (`Supervisor.lost`)."""


class Child:
    """One program and its running process, if there is one just now."""

    def __init__(self, program: Program) -> None:
        """Start the program."""
        self.program = program
        self._deaths = 0
        self.is_lost = False
        self._start()

    def _start(self) -> None:
        leash = (sys.executable, "-I", "-S", str(LEASH), str(os.getpid()))
        with self.program.log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the supervisor only, which stops all in order.
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(  # noqa: S603 - our own programs
                (*leash, *self.program.command),
                env=dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._due = 0.0

    @property
    def pid(self) -> int | None:
        """Of the running process; None while it waits to be started again."""
        return self._process.pid if self._process else None

    def tend(self) -> None:
        """Notice a death, and start again when the pause is over."""
        if self._process is None:
            if not self.is_lost and time.monotonic() >= self._due:
                self._start_again()
        elif _has_ended(self._process.pid):
            self._bury(self._process)

    def _start_again(self) -> None:
        try:
            self._start()
        except OSError as error:  # somebody has cleaned up the logs' directory, or the disk is full
            self._due = time.monotonic() + LONGEST_PAUSE
            log.warning("can't be started again", program=self.program.name, reason=str(error))
        else:
            log.info("started again", program=self.program.name, pid=self.pid)

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid)  # workers that outlived it would keep its port
        status = process.wait()
        self._process = None
        self.is_lost = not self.program.is_replaceable
        if self.is_lost:
            log.error("ended by itself, and can't be replaced", program=self.program.name, status=status)
            return
        self._deaths = 0 if time.monotonic() - self._started > PROVEN else self._deaths
        pause = min(FIRST_PAUSE * 2**self._deaths, LONGEST_PAUSE)
        self._deaths += 1
        self._due = time.monotonic() + pause
        log.warning("ended by itself", program=self.program.name, status=status, again_in=pause)

    def end(self) -> None:
        """Stop it: SIGTERM, SIGKILL when patience is over."""
        process, self._process = self._process, None
        if process is None:
            return
        if not _has_ended(process.pid):
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.program.patience
        while not _has_ended(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        _kill_group(process.pid)
        process.wait()


class Supervisor:
    """Keeps programs running until it is told otherwise. Safe to use from several threads.

    Children are tied to the thread that started them, so start them from one that lives as long as they.
    """

    def __init__(self) -> None:
        """Start with no children."""
        self._children: dict[str, Child] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._tending = threading.Thread(target=self._tend, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        """Begin to restart what dies."""
        self._tending.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all children, the last one first."""
        self.stop_all()
        self._stopped.set()
        self._tending.join()

    def start(self, program: Program) -> None:
        """Run the program. Raises ValueError if one of this name is there already."""
        with self._lock:
            if program.name in self._children:
                raise ValueError(f"{program.name} is running already")
            self._children[program.name] = Child(program)

    def stop(self, name: str) -> None:
        """Stop a program and forget it; no error if there is none."""
        with self._lock:
            child = self._children.pop(name, None)
        if child:
            child.end()

    def stop_all(self) -> None:
        """Stop all programs, the last one first."""
        with self._lock:
            names = list(self._children)
        for name in reversed(names):
            self.stop(name)

    def running(self) -> dict[str, int | None]:
        """Return the pid of every program; None for one that waits to be started again."""
        with self._lock:
            return {name: child.pid for name, child in self._children.items()}

    def lost(self) -> list[str]:
        """Return the names of irreplaceable programs that ended by themselves."""
        with self._lock:
            return [name for name, child in self._children.items() if child.is_lost]

    def wait_for(self, name: str, is_up: Callable[[], bool], seconds: float) -> None:
        """Wait until a program that was just started is up. Raises NotStartedError."""
        program, first = self._children[name].program, self._children[name].pid
        deadline = time.monotonic() + seconds
        while not is_up():
            if self.running().get(name) != first:
                raise NotStartedError(_last_words(program, "ended before it was up"))
            if time.monotonic() > deadline:
                raise NotStartedError(_last_words(program, f"gave no answer within {seconds:.0f} s"))
            time.sleep(0.05)

    def _tend(self) -> None:
        while not self._stopped.wait(TEND_INTERVAL):
            with self._lock:
                for child in self._children.values():
                    child.tend()


def _has_ended(pid: int) -> bool:
    """Whether our child is a zombie. It isn't reaped here, so that its number stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left; macOS says so by EPERM
        return


def _last_words(program: Program, what: str) -> str:
    lines = program.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    tail = "\n".join(f"    {line}" for line in lines) or "    (empty)"
    return f"{program.name} {what}. The end of {program.log}:\n{tail}"
