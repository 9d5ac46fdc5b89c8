import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def until(condition: Callable[[], Result], seconds: float = 30) -> Result:
    """Call `condition` until its result is true or the time is over; return the last result."""
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return result


def processes_of(directory: Path) -> list[str]:
    """Pids of all processes whose command line or environment contains the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:  # it has ended, or belongs to another user
                continue
            if str(directory).encode() in line:
                found.append(entry.name)
    return found
