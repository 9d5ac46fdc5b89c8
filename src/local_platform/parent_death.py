"""Runs a command that the kernel kills when its parent dies: `parent_death.py <parent's pid> <command> ...`.

A program of its own instead of a `preexec_fn`, which may deadlock in a process that has threads. It starts
without site packages in about 20 ms, then execs the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>. The setting survives execve(2)."""


def main(parent: int, command: list[str]) -> None:
    """Set the parent-death signal of this process, then exec `command`."""
    if sys.platform == "linux":
        # SIGKILL, because a dead parent can't follow up an ignored SIGTERM.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the signal was set
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command comes from the supervisor


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
