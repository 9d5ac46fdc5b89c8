"""The directory of one platform: logs, the nodes' databases, and the file that users source."""

import fcntl
import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_platform import LocalPlatformError


@dataclass(frozen=True, slots=True)
class Home:
    """`.artificien` by default. Only files and directories that this class names are ever removed."""

    path: Path

    @property
    def logs(self) -> Path:
        """Directory of the log files, one for each process."""
        return self.path / "logs"

    @property
    def nodes(self) -> Path:
        """Directory of the nodes' SQLite files."""
        return self.path / "nodes"

    @property
    def exports(self) -> Path:
        """File of shell exports. It exists only while the platform is up."""
        return self.path / "local.env"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other platforms out of the directory, and remove files of earlier runs.

        Raises LocalPlatformError if another platform uses the directory, or if it can't be written.
        """
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"Another platform uses {self.path}. Stop it, or choose another --directory."
                raise LocalPlatformError(message) from error
            self.remove_exports()
            for folder in (self.logs, self.nodes):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(exist_ok=True)
            yield

    def _open_lock(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return (self.path / "lock").open("w")
        except OSError as error:
            raise LocalPlatformError(f"{self.path} can't be used: {error.strerror}.") from error

    def write_exports(self, environment: Mapping[str, str]) -> None:
        """Write the exports atomically, readable by the owner only."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
        draft = self.exports.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.writelines(lines)
        draft.replace(self.exports)

    def remove_exports(self) -> None:
        """Remove the exports if they exist."""
        self.exports.unlink(missing_ok=True)

    def read_exports(self) -> dict[str, str]:
        """Return the exported variables. Raises LocalPlatformError if no platform is up."""
        try:
            lines = self.exports.read_text().splitlines()
        except FileNotFoundError as error:
            message = f"{self.exports} is missing. Start the platform with `make up` first."
            raise LocalPlatformError(message) from error
        return dict(shlex.split(line)[1].split("=", 1) for line in lines)


def relative(path: Path) -> Path:
    """Return the path as seen from the working directory, if it is below that; else unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def shell_path(path: Path) -> str:
    """Return the path as seen from the working directory, as a word of a shell."""
    return shlex.quote(str(relative(path)))


def scripts() -> Path:
    """Return the directory of this installation's commands."""
    return Path(sysconfig.get_path("scripts"))
