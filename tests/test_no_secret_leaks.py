"""The check of `tests/conftest.py` finds a secret in every kind of log and response.

It runs with every test and fails the one in which a secret was logged or returned.
"""

import logging
import secrets

import pytest
import structlog
from flask import Flask, redirect, request

from orchestration.domain.credentials import new_key
from tests.builders import LEGACY_KEY, MODEL, a_node
from tests.fakes import FakeSecrets
from tests.processes import LINKS
from tests.secrecy import LeakCheck
from tests.tokens import signed
from tests.web import DATABASE_PASSWORD, NODE_SECRET, basic, bearer, settings

log = structlog.get_logger()

TOKEN = signed()
SECRETS = {
    "a token": lambda: TOKEN,
    "a token's signature": lambda: TOKEN.rpartition(".")[2],
    "a token's claims": lambda: TOKEN.split(".")[1],
    "a node's secret": lambda: NODE_SECRET,
    "a node's header": lambda: basic("n1")["Authorization"],
    "a key of a sign-up": lambda: LEGACY_KEY,
    "a new key": new_key,
    "a wrong key": lambda: "an invalid api key",
    "a download link": lambda: LINKS.link(MODEL, "the model's own key"),
    "a generated password": lambda: secrets.token_urlsafe(32),
    "a launched node's secret": lambda: FakeSecrets().ensure(a_node()).database_url,
    "the secret of all links": lambda: settings().download_secret.get_secret_value(),
    "the password of the database": lambda: DATABASE_PASSWORD,
}


def crash(secret):
    try:
        {}[secret]
    except KeyError:
        log.exception("crashed")


def bound(secret):
    log.bind(credential=secret).info("happened")


LINES = {
    "an event": lambda secret: log.error(secret),
    "a value": lambda secret: log.warning("opened", by=secret),
    "a value deep inside": lambda secret: log.warning("opened", by={"users": [{"key": secret}]}),
    "a bound value": bound,
    "a traceback": crash,
    "a line for debugging": lambda secret: log.debug("opened", by=secret),
    "a library's warning": lambda secret: logging.getLogger("botocore").warning("sent %s", secret),
}
VIEWS = {
    "a body": lambda secret: {"error": f"{secret!r} is wrong."},
    "a header": lambda secret: ({}, {"X-Debug": secret}),
    "a redirect": lambda secret: redirect(f"https://bucket.test/?was={secret}"),
}


@pytest.fixture
def credentials_sent(client_of):
    """Send each credential that is not a constant of the tests."""
    client = client_of(lambda _: {})
    client.get("/", headers=bearer())
    client.get("/", headers=basic("n1"))
    client.get("/", headers={"api_key": "an invalid api key"})
    client.get(LINKS.link(MODEL, "the model's own key"))


@pytest.fixture
def client_of():
    def client(view, path="/"):
        app = Flask("leaky", static_folder=None)
        app.add_url_rule(path, "view", lambda: view(request.args.get("say")), methods=["GET", "POST"])
        return app.test_client()

    return client


def expected_leak(leak_check: LeakCheck) -> str:
    """Return the message with which the check fails this test, and clear its records."""
    with pytest.raises(pytest.fail.Exception) as failure:
        leak_check.check()
    leak_check.clear()
    return str(failure.value)


@pytest.mark.usefixtures("credentials_sent")
@pytest.mark.parametrize("make", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("say", LINES.values(), ids=LINES)
def test_secret_in_a_log_line_is_found(leak_check, say, make):
    """The level, the place in the line, and the logger don't matter."""
    say(make())

    assert expected_leak(leak_check).startswith("a log line")


@pytest.mark.usefixtures("credentials_sent")
@pytest.mark.parametrize("make", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_secret_in_a_response_is_found(leak_check, client_of, view, make):
    """Bodies and headers are searched."""
    secret = make()
    client_of(lambda _: view(secret)).get("/")

    assert expected_leak(leak_check).startswith("the response to GET /")


def test_line_captured_by_the_test_is_checked(leak_check, logs):
    """The fixture `logs` replaces all other processors."""
    log.warning("opened", by=LEGACY_KEY)

    assert expected_leak(leak_check)
    assert logs[0]["by"] == LEGACY_KEY


@pytest.mark.parametrize("path", ["/generate_key", "/rotate_link"])
def test_generated_key_may_be_returned_once(leak_check, client_of, path):
    """It is a leak in a second response or on another route."""
    keys = []
    client_of(lambda _: {"made": keys.append(new_key()) or keys[0]}, path).post(path)

    assert leak_check.leaks() == []

    client_of(lambda _: {"made": keys[0]}, path).post(path)

    assert expected_leak(leak_check)

    client_of(lambda _: {"made": keys.append(new_key()) or keys[1]}).post("/")

    assert expected_leak(leak_check)


def test_other_values_may_be_logged_and_returned(leak_check, client_of):
    """Names, hints and hashes are no secrets."""
    client_of(lambda _: {"datasets": ["Heart Rate"], "key": "art_01…cafe"}).get("/", headers=bearer())
    log.warning("node.ready", node_id=a_node().node_id, address="node.test")

    assert leak_check.leaks() == []
