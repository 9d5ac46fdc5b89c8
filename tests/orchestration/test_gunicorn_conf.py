"""gunicorn's settings, and the reason for each of them."""

import importlib.util
import json
import runpy
import socket

import pytest
import structlog
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from orchestration.domain.credentials import new_download_key
from orchestration.gunicorn_conf import Worker
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

    assert issubclass(settings["worker_class"], ThreadWorker)
    assert settings["threads"] > 1
    assert settings["bind"] == "0.0.0.0:5001"


def test_environment_overrides_the_defaults(conf):
    """The variables are `BIND`, `WEB_CONCURRENCY`, `WEB_THREADS` and `ACCESS_LOG`."""
    settings = conf(BIND="127.0.0.9:0", WEB_CONCURRENCY="4", WEB_THREADS="8", ACCESS_LOG="-")

    assert (settings["bind"], settings["workers"], settings["threads"]) == ("127.0.0.9:0", 4, 8)
    assert settings["accesslog"] == "-"


@pytest.fixture
def worker():
    """A worker of no server, which only answers errors."""
    worker = Worker.__new__(Worker)
    worker.log = structlog.get_logger()
    return worker


@pytest.fixture
def refuse(worker):
    """Return what a client receives for an exception of gunicorn's parser."""

    def send(error):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker.handle_error(None, ours, ("127.0.0.1", 1), error)
            ours.close()
            return b"".join(iter(lambda: theirs.recv(65536), b"")).decode()

    return send


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidHeader("AUTHORIZATION"), "400 Bad Request"),
        (errors.InvalidChunkSize(b"zz"), "400 Bad Request"),
        (errors.UnsupportedTransferCoding("gzip"), "501 Not Implemented"),
        (errors.LimitRequestLine(10), "414 "),
        (errors.LimitRequestHeaders("too many"), "431 Request Header Fields Too Large"),
        (errors.ExpectationFailed("a miracle"), "417 Expectation Failed"),
    ],
)
def test_invalid_request_is_refused_in_json(refuse, logs, error, status):
    """What it contains is neither logged nor repeated: it may be a secret."""
    head, _, body = refuse(error).partition("\r\n\r\n")

    assert head.startswith(f"HTTP/1.1 {status}")
    assert "Connection: close" in head
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body).keys() == {"error"}
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert not any(secret in f"{logs}{body}" for secret in ("AUTHORIZATION", "zz", "gzip", "miracle"))


def test_client_that_is_gone_is_no_error(worker):
    """There is no connection to answer on."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        worker.handle_error(None, ours, ("127.0.0.1", 1), errors.InvalidChunkSize(b""))


def test_other_errors_are_left_to_gunicorn(refuse, worker, logs):
    """It logs them with their trace, and answers 500."""
    answer = refuse(RuntimeError("a bug"))

    assert answer.startswith("HTTP/1.1 500")
    assert [entry["log_level"] for entry in logs] == ["error"]
