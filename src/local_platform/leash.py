"""Run a command that dies with its parent: `python leash.py <parent's pid> <command> ...`.

A program of its own instead of a `preexec_fn`, which may deadlock in a process that has threads. It is
started without site packages, so it costs about 20 ms, and is replaced by the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>; survives execve(2)."""


def main(parent: int, command: list[str]) -> None:
    """Tie this process to `parent`, then become `command`. Doesn't return."""
    if sys.platform == "linux":
        # SIGKILL: whoever would follow up a polite signal is dead.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we were tied to it
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command comes from our own supervisor


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
