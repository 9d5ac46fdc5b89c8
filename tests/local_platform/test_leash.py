import os
import subprocess
import sys

import pytest

from local_platform.supervisor import LEASH

pytestmark = pytest.mark.moto


def run(parent, *command):
    arguments = (sys.executable, "-I", "-S", str(LEASH), str(parent), *command)
    return subprocess.run(  # noqa: S603 - our own programs
        arguments, capture_output=True, text=True, timeout=10, check=False
    )


def test_command_is_run_in_its_place():
    """Its output and its status are the command's."""
    done = run(os.getpid(), sys.executable, "-c", "print('here'); raise SystemExit(7)")

    assert (done.stdout, done.returncode) == ("here\n", 7)


def test_command_is_not_run_for_a_parent_that_is_gone():
    """It died before it could be told to take its child along."""
    done = run(1, sys.executable, "-c", "print('here')")

    assert (done.stdout, done.returncode) == ("", 1)
