import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from local_platform.cli import local
from local_platform.home import Home

pytestmark = pytest.mark.usefixtures("_signal_handlers")


def run(*arguments):
    return CliRunner().invoke(local, [str(argument) for argument in arguments])


@pytest.mark.moto
def test_command_line_is_loaded_without_heavy_modules():
    """`--help` must not wait for them."""
    heavy = {"boto3", "botocore", "matplotlib", "moto", "numpy", "requests", "rich", "sklearn"}
    script = f"import sys, local_platform.cli; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603

    assert done.stdout.strip() == "[]"


def test_second_platform_in_a_directory_is_refused(tmp_path):
    """The message is one line, and the exit status 1."""
    with Home(tmp_path).locked():
        result = run("up", "--directory", tmp_path)

    assert result.exit_code == 1
    assert (
        result.output == f"Error: Another platform uses {tmp_path}. Stop it, or choose another --directory.\n"
    )


@pytest.mark.parametrize("option", ["--port", "--aws-port"])
def test_port_in_use_is_refused(tmp_path, option):
    """The message is one line, and the exit status 1; no process is started before."""
    other = {"--port": "--aws-port", "--aws-port": "--port"}[option]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run("up", "--directory", tmp_path, option, port, other, 0)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Port {port} can't be used")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--port", 99999), "--port 99999 is not a port. Choose one up to 65535, or 0."),
        (("--aws-port", 65536), "--aws-port 65536 is not a port. Choose one up to 65535, or 0."),
        (("--port", -1), "--port -1 is not a port. Choose one up to 65535, or 0."),
        (("--port", 7, "--aws-port", 7), "--port and --aws-port are both 7. Choose two different ones."),
        (("--port", 5055), "--port and --aws-port are both 5055. Choose two different ones."),
    ],
    ids=["too high", "just too high", "negative", "equal", "equal to the default of the other"],
)
def test_impossible_ports_are_refused(tmp_path, options, line):
    """One line, and the exit status of usage errors; no directory is created."""
    result = run("up", "--directory", tmp_path / "home", *options)

    assert (result.exit_code, result.output) == (2, f"Error: {line}\n")
    assert not (tmp_path / "home").exists()


def test_token_needs_a_running_platform(tmp_path):
    """The message contains the command that starts one."""
    result = run("token", "--directory", tmp_path)

    assert result.exit_code == 1
    assert "make up" in result.output


@pytest.mark.moto
@pytest.mark.parametrize("role", ["scientist", "developer"])
def test_token_is_printed(platform, role):
    """The token alone, so that a shell can assign it to a variable."""
    result = run("token", "--as", role, "--directory", platform.home.path)

    assert result.exit_code == 0
    assert result.output.count("\n") == 1
    assert result.output.count(".") == 2
