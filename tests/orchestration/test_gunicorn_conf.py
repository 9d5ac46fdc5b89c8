"""gunicorn's settings: each line of them has a reason."""

import importlib.util
import runpy

import pytest

CONF = importlib.util.find_spec("orchestration.gunicorn_conf").origin


@pytest.fixture
def conf(monkeypatch):
    def load(**environment):
        for name in ("BIND", "WEB_CONCURRENCY", "WEB_THREADS", "ACCESS_LOG"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(CONF)

    return load


def test_the_pods_header_gets_through_and_no_other_claim_does(conf):
    """From any peer: phones call from anywhere; nobody can claim https, nor set what a proxy would."""
    settings = conf()

    assert settings["forwarder_headers"] == "API_KEY"
    assert settings["forwarded_allow_ips"] == "*"
    assert settings["secure_scheme_headers"] == {}
    assert settings.get("header_map", "drop") == "drop"


def test_connections_outlive_the_load_balancers(conf):
    """Its idle time-out is 60 s; whoever closes last never cuts off a request."""
    assert conf()["keepalive"] > 60


def test_one_slow_call_does_not_hold_up_the_others(conf):
    """Threads: a call that waits for AWS must not starve the process."""
    settings = conf()

    assert settings["worker_class"] == "gthread"
    assert settings["threads"] > 1
    assert settings["bind"] == "0.0.0.0:5001"


def test_a_deployment_sets_what_differs(conf):
    """By the names that gunicorn's users know."""
    settings = conf(BIND="127.0.0.9:0", WEB_CONCURRENCY="4", WEB_THREADS="8", ACCESS_LOG="-")

    assert (settings["bind"], settings["workers"], settings["threads"]) == ("127.0.0.9:0", 4, 8)
    assert settings["accesslog"] == "-"
