import shutil
import stat
import subprocess

import pytest

from local_platform import LocalPlatformError
from local_platform.home import Home

AWKWARD = {"PLAIN": "word", "SPACE": "Diabetes progression", "QUOTE": 'it\'s $HOME `x` "y" = \\', "EMPTY": ""}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_exports_are_read_back(home):
    """Values may contain any characters."""
    with home.locked():
        home.write_exports(AWKWARD)

        assert home.read_exports() == AWKWARD


def test_shell_reads_the_same_values(home):
    """Users source the file."""
    with home.locked():
        home.write_exports(AWKWARD)
        script = f'. {home.exports}; printf %s "$QUOTE"'
        command = [shutil.which("sh"), "-c", script]
        shell = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own text

    assert shell.stdout == AWKWARD["QUOTE"]


def test_exports_are_readable_by_the_owner_only(home):
    """They contain passwords. No other file is left."""
    with home.locked():
        home.write_exports({"A": "1"})

        assert stat.S_IMODE(home.exports.stat().st_mode) == 0o600
        assert {path.name for path in home.path.iterdir()} == {"local.env", "lock", "logs", "nodes"}


def test_second_platform_is_refused(home):
    """Two platforms would overwrite each other's files."""
    with (
        home.locked(),
        pytest.raises(LocalPlatformError, match="--directory"),
        Home(home.path).locked(),
    ):
        pass


def test_lock_ends_with_the_platform(home):
    with home.locked():
        pass
    with home.locked():
        assert home.logs.is_dir()


def test_platform_starts_without_files_of_an_earlier_run(home):
    """AWS starts empty, so a node must not find earlier models. Files of the user are kept."""
    with home.locked():
        (home.nodes / "old.db").touch()
        home.write_exports({"A": "1"})
        (home.path / "mine.txt").touch()
    with home.locked():
        assert not list(home.nodes.iterdir())
        assert not home.exports.exists()
        assert (home.path / "mine.txt").exists()


def test_exports_can_be_removed_twice(home):
    """The message of a later read contains the command that starts the platform."""
    with home.locked():
        home.write_exports({"A": "1"})
        home.remove_exports()
        home.remove_exports()

        with pytest.raises(LocalPlatformError, match="make up"):
            home.read_exports()


def test_unusable_directory_is_named(tmp_path):
    (tmp_path / "file").touch()

    with (
        pytest.raises(LocalPlatformError, match="can't be used: Not a directory"),
        Home(tmp_path / "file" / "x").locked(),
    ):
        pass
