"""The directory in which one platform keeps its logs, its nodes' state and its exports."""

import fcntl
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NAME = "local.env"


class HomeError(Exception):
    """The directory can't be used, or holds no running platform."""


@dataclass(frozen=True, slots=True)
class Home:
    """`.artificien`, or wherever `--directory` points. Only what this class names in it is ever removed."""

    path: Path

    @property
    def logs(self) -> Path:
        """Output of every process, one file each."""
        return self.path / "logs"

    @property
    def nodes(self) -> Path:
        """SQLite files of the nodes."""
        return self.path / "nodes"

    @property
    def exports(self) -> Path:
        """Shell exports; there only while the platform is up."""
        return self.path / NAME

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep other platforms out, and begin empty as AWS does. Raises HomeError."""
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HomeError(
                    f"Another platform runs in {self.path}. Stop it, or use --directory."
                ) from error
            self.withdraw()
            for folder in (self.logs, self.nodes):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(exist_ok=True)
            yield

    def _lock(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return (self.path / "lock").open("w")
        except OSError as error:
            raise HomeError(f"{self.path} can't be used: {error.strerror}.") from error

    def publish(self, environment: Mapping[str, str]) -> None:
        """Write the exports for the owner's eyes only, whole or not at all."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
        draft = self.exports.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.writelines(lines)
        draft.replace(self.exports)

    def withdraw(self) -> None:
        """Remove the exports: the platform is no longer up."""
        self.exports.unlink(missing_ok=True)

    def published(self) -> dict[str, str]:
        """Read the exports back. Raises HomeError when no platform is up."""
        try:
            lines = self.exports.read_text().splitlines()
        except FileNotFoundError as error:
            raise HomeError(f"{self.exports} is missing: start the platform with `make up` first.") from error
        return dict(shlex.split(line)[1].split("=", 1) for line in lines)
