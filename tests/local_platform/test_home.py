import shutil
import stat
import subprocess

import pytest

from local_platform.home import Home, HomeError

AWKWARD = {"PLAIN": "word", "SPACE": "Diabetes progression", "QUOTE": 'it\'s $HOME `x` "y" = \\', "EMPTY": ""}


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_exports_can_be_read_back(home):
    """Whatever the values hold."""
    with home.occupied():
        home.publish(AWKWARD)

        assert home.published() == AWKWARD


def test_shell_reads_the_same_values(home):
    """People source the file."""
    with home.occupied():
        home.publish(AWKWARD)
        script = f'. {home.exports}; printf %s "$QUOTE"'
        command = [shutil.which("sh"), "-c", script]
        shell = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own text

    assert shell.stdout == AWKWARD["QUOTE"]


def test_exports_are_for_the_owner_only(home):
    """They hold passwords."""
    with home.occupied():
        home.publish({"A": "1"})

        assert stat.S_IMODE(home.exports.stat().st_mode) == 0o600
        assert {path.name for path in home.path.iterdir()} == {"local.env", "lock", "logs", "nodes"}


def test_second_platform_is_kept_out(home):
    """They would take each other's files."""
    with home.occupied(), pytest.raises(HomeError, match="--directory"), Home(home.path).occupied():
        pass


def test_directory_is_free_after_the_first_platform(home):
    """The lock goes with its holder."""
    with home.occupied():
        pass
    with home.occupied():
        assert home.logs.is_dir()


def test_platform_begins_empty(home):
    """As AWS does: a node must not find models of an earlier life."""
    with home.occupied():
        (home.nodes / "old.db").touch()
        home.publish({"A": "1"})
        (home.path / "mine.txt").touch()
    with home.occupied():
        assert not list(home.nodes.iterdir())
        assert not home.exports.exists()
        assert (home.path / "mine.txt").exists()


def test_withdrawn_exports_are_gone(home):
    """Withdrawing twice does no harm."""
    with home.occupied():
        home.publish({"A": "1"})
        home.withdraw()
        home.withdraw()

        with pytest.raises(HomeError, match="make up"):
            home.published()


def test_directory_that_cannot_be_made_is_named(tmp_path):
    """In one line."""
    (tmp_path / "file").touch()

    with (
        pytest.raises(HomeError, match="can't be used: Not a directory"),
        Home(tmp_path / "file" / "x").occupied(),
    ):
        pass
