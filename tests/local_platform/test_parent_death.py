import os
import subprocess
import sys

import pytest

from local_platform.supervisor import PARENT_DEATH

pytestmark = pytest.mark.moto


def run(parent, *command):
    arguments = (sys.executable, "-I", "-S", str(PARENT_DEATH), str(parent), *command)
    return subprocess.run(  # noqa: S603 - our own programs
        arguments, capture_output=True, text=True, timeout=10, check=False
    )


def test_command_replaces_the_process():
    """Output and exit status are the command's."""
    done = run(os.getpid(), sys.executable, "-c", "print('here'); raise SystemExit(7)")

    assert (done.stdout, done.returncode) == ("here\n", 7)


def test_command_is_not_run_after_the_parent_has_died():
    """A parent that dies before the signal is set would leave the command running."""
    done = run(1, sys.executable, "-c", "print('here')")

    assert (done.stdout, done.returncode) == ("", 1)
