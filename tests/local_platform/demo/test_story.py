"""The demo as a process of its own, interrupted, and the files that it leaves."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from local_platform.demo.phone import train_all
from local_platform.demo.story import Files
from local_platform.signals import stop_on_signals
from tests.local_platform.waiting import processes_of, until

DEMO = "from local_platform.cli import local; local()"


def test_shown_command_opens_the_model(tmp_path, monkeypatch):
    """It prints the tensors, also where the path needs quotes."""
    (tmp_path / "my demo").mkdir()
    monkeypatch.chdir(tmp_path)
    files = Files(tmp_path / "my demo")
    safetensors.numpy.save_file({"weight": np.array([[1.5, 2.5]], np.float32)}, files.model)
    command = files.how_to_open().splitlines()[-1]
    shell = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602 - our own text

    assert shell.stdout == "{'weight': array([[1.5, 2.5]], dtype=float32)}\n"


def test_files_of_an_earlier_run_are_removed(tmp_path):
    """So that nobody takes them for those of a run that failed. Other files stay."""
    files = Files(tmp_path)
    for path in (files.plot, files.model, tmp_path / "other"):
        path.touch()
    files.remove()
    files.remove()

    assert list(tmp_path.iterdir()) == [tmp_path / "other"]


class Phone:
    """A phone that never gets an answer."""

    def __init__(self):
        self.called, self.answered = threading.Event(), threading.Event()

    def info(self):
        self.called.set()
        self.answered.wait()
        return {"models": [], "nodeURL": ""}


@pytest.mark.usefixtures("_signal_handlers")
def test_interrupted_training_does_not_wait_for_phones():
    """A phone may be repeating a request for half a minute."""
    stop_on_signals()
    phones = [Phone(), Phone()]

    def interrupt():
        phones[1].called.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_all(phones, on_report=lambda: None)
        assert not phones[0].answered.is_set()
    finally:
        for phone in phones:
            phone.answered.set()


def test_error_of_a_phone_ends_the_training():
    """The others may never end, because the node waits for the one that failed."""
    failing = SimpleNamespace(info=lambda: 1 / 0)
    waiting = Phone()
    try:
        with pytest.raises(ZeroDivisionError):
            train_all([waiting, failing], on_report=lambda: None)
    finally:
        waiting.answered.set()


@pytest.fixture
def demo(tmp_path):
    """The demo in a process of its own. A variable with `tmp_path` marks all its children."""
    (tmp_path / "scratch").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch")}
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own program
            (sys.executable, "-c", DEMO, "demo", "--directory", str(tmp_path / "home")),
            env=environment, stdout=file, stderr=file,
        )  # fmt: skip
    yield process
    process.kill()
    process.wait()


@pytest.mark.moto
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Starting AWS", signal.SIGTERM),
        ("The node is being launched", signal.SIGINT),
        ("The first phone", signal.SIGINT),
    ],
)
def test_interrupted_demo_leaves_nothing_behind(demo, tmp_path, moment, number):
    """No process, no temporary file, no exports; while AWS starts, while the node starts, in training."""
    output = tmp_path / "output"
    until(lambda: moment in output.read_text() or demo.poll() is not None, 60)
    demo.send_signal(number)
    status = demo.wait(30)

    assert (status, output.read_text().splitlines()[-1]) == (1, "Aborted!")
    assert until(lambda: not processes_of(tmp_path), 1)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "home" / "local.env").exists()
