"""gunicorn's settings, and the reason for each of them."""

import importlib.util
import runpy

import pytest

from orchestration.domain.credentials import new_download_key
from tests.processes import LINKS, PUBLIC_URL

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


def test_only_the_pods_header_is_forwarded(conf):
    """Any peer may send `api_key`; no peer can claim https or set another header with an underscore."""
    settings = conf()

    assert settings["forwarder_headers"] == "API_KEY"
    assert settings["forwarded_allow_ips"] == "*"
    assert settings["secure_scheme_headers"] == {}
    assert settings.get("header_map", "drop") == "drop"


def test_keepalive_exceeds_the_load_balancers_idle_time_out(conf):
    """The load balancer must close idle connections first, after 60 s; else requests are cut off."""
    assert conf()["keepalive"] > 60


def test_longest_download_link_is_accepted(conf):
    """An id of 512 characters, 12 bytes each when percent-encoded. gunicorn's default is 4,094 bytes."""
    link = LINKS.link("🙂" * 512, new_download_key())
    request_line = f"GET {link.removeprefix(PUBLIC_URL)} HTTP/1.1\r\n"

    assert len(request_line) <= conf()["limit_request_line"]


def test_slow_call_does_not_block_others(conf):
    """Each worker has several threads, since a request may wait for AWS."""
    settings = conf()

    assert settings["worker_class"] == "gthread"
    assert settings["threads"] > 1
    assert settings["bind"] == "0.0.0.0:5001"


def test_environment_overrides_the_defaults(conf):
    """The variables are `BIND`, `WEB_CONCURRENCY`, `WEB_THREADS` and `ACCESS_LOG`."""
    settings = conf(BIND="127.0.0.9:0", WEB_CONCURRENCY="4", WEB_THREADS="8", ACCESS_LOG="-")

    assert (settings["bind"], settings["workers"], settings["threads"]) == ("127.0.0.9:0", 4, 8)
    assert settings["accesslog"] == "-"
