"""`artificien reconcile`."""

import signal

import pytest


@pytest.fixture
def handlers(monkeypatch):
    """Collect signal handlers instead of installing them."""
    set_ = {}
    monkeypatch.setattr(signal, "signal", set_.__setitem__)
    return set_


class OnePass:
    """A reconciler that receives a signal during its first pass."""

    def __init__(self, handlers, number):
        self.stop = lambda: handlers[number](number, None)
        self.waits = []

    def run(self, wait):
        self.waits.append(wait(0.01))
        self.stop()
        self.waits.append(wait(0.01))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_reconciler_runs_until_a_signal(environment, run, handlers, number):
    """It then returns with exit status 0."""
    reconciler = OnePass(handlers, number)
    environment.setenv("RECONCILE_INTERVAL", "0.01")
    environment.setattr("orchestration.pygrid_orchestration.create_reconciler", lambda _: reconciler)
    result = run("reconcile")

    assert result.exit_code == 0
    assert reconciler.waits == [False, True]
