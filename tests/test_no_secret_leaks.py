"""The listener to logs and answers hears what it should, so that its silence means something.

It listens to every test (`tests/conftest.py`), and fails the one in which a secret was said.
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
from tests.secrecy import Listener
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
    "a wrong key": lambda: "a key that opens nothing",
    "a download link": lambda: LINKS.link(MODEL, "the model's own key"),
    "a password that was just made": lambda: secrets.token_urlsafe(32),
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
    "a value deep inside": lambda secret: log.warning("opened", by={"who": [{"key": secret}]}),
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
def presented(client_of):
    """A caller has shown each of the credentials that are nobody's constant."""
    client = client_of(lambda _: {})
    client.get("/", headers=bearer())
    client.get("/", headers=basic("n1"))
    client.get("/", headers={"api_key": "a key that opens nothing"})
    client.get(LINKS.link(MODEL, "the model's own key"))


@pytest.fixture
def client_of():
    def client(view, path="/"):
        app = Flask("leaky", static_folder=None)
        app.add_url_rule(path, "view", lambda: view(request.args.get("say")), methods=["GET", "POST"])
        return app.test_client()

    return client


def said_on_purpose(listener: Listener) -> str:
    """What the listener fails this test for, which it now no longer does."""
    with pytest.raises(pytest.fail.Exception) as failure:
        listener.check()
    listener.forget()
    return str(failure.value)


@pytest.mark.usefixtures("presented")
@pytest.mark.parametrize("make", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("say", LINES.values(), ids=LINES)
def test_a_log_line_with_a_secret_is_heard(listener, say, make):
    """At every level, wherever in the line it is, whoever logs."""
    say(make())

    assert said_on_purpose(listener).startswith("a log line")


@pytest.mark.usefixtures("presented")
@pytest.mark.parametrize("make", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_answer_with_a_secret_is_heard(listener, client_of, view, make):
    """Be it in the body or in a header."""
    secret = make()
    client_of(lambda _: view(secret)).get("/")

    assert said_on_purpose(listener).startswith("the answer to GET /")


def test_a_line_is_heard_though_the_test_listens_itself(listener, logs):
    """The fixture `logs` takes all lines away from everybody else."""
    log.warning("opened", by=LEGACY_KEY)

    assert said_on_purpose(listener)
    assert logs[0]["by"] == LEGACY_KEY


@pytest.mark.parametrize("path", ["/generate_key", "/rotate_link"])
def test_what_is_shown_once_may_be_shown_once(listener, client_of, path):
    """Where it is made, when it is made; again, or elsewhere, it is a leak."""
    keys = []
    client_of(lambda _: {"made": keys.append(new_key()) or keys[0]}, path).post(path)

    assert listener.leaks() == []

    client_of(lambda _: {"made": keys[0]}, path).post(path)

    assert said_on_purpose(listener)

    client_of(lambda _: {"made": keys.append(new_key()) or keys[1]}).post("/")

    assert said_on_purpose(listener)


def test_what_is_no_secret_may_be_said(listener, client_of):
    """Names, hints and hashes; a listener that cries at everything says nothing."""
    client_of(lambda _: {"datasets": ["Heart Rate"], "key": "art_01…cafe"}).get("/", headers=bearer())
    log.warning("node.ready", node_id=a_node().node_id, address="node.test")

    assert listener.leaks() == []
