"""Listens to all that the service logs and answers, and knows the secrets that it must not repeat."""

import json
import logging
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import unquote

import pytest
import structlog
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.datastructures import Authorization
from werkzeug.test import TestResponse
from werkzeug.wrappers import Request

from orchestration.logs import configure_logs
from orchestration.settings import Settings
from tests.builders import LEGACY_KEY
from tests.fakes import FakeSecrets
from tests.web import DATABASE_PASSWORD, NODE_SECRET, settings

SHORTEST = 12
"""Letters; what is shorter may stand in a sentence by chance."""
SHOWN_ONCE = frozenset({"/generate_key", "/rotate_link"})
"""Routes whose answer holds a secret that was made for it, and no other."""


class Listener:
    """What was said in a test. Secrets may become known after they were said."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._said: list[tuple[str, str]] = []
        self._made: list[str] = []
        self.know(NODE_SECRET, LEGACY_KEY, DATABASE_PASSWORD, *_secret_settings())

    def know(self, *found: str) -> None:
        """Note secrets."""
        self._secrets.update(secret for secret in found if len(secret) >= SHORTEST)

    def made(self, secret: str) -> None:
        """Note a secret that the service has made up."""
        self._made.append(secret)
        self.know(secret)

    @property
    def made_so_far(self) -> int:
        """How many secrets that is."""
        return len(self._made)

    def heard(self, where: str, text: str) -> None:
        """Note what was said."""
        self._said.append((where, text))

    def answered(self, answer: TestResponse, made_before: int) -> None:
        """Note an answer, but not what was made for it (after the first so many) and is shown this once."""
        request = answer.request
        self.know(*credentials_of(request))
        text = f"{answer.status} {answer.headers} {answer.get_data(as_text=True)}"
        if request.path in SHOWN_ONCE:
            for secret in self._made[made_before:]:
                text = text.replace(secret, "")
        self.heard(f"the answer to {request.method} {request.path}", text)

    def leaks(self) -> list[str]:
        """Return who said what they should not have."""
        return [
            f"{where} holds {secret[:40]!r}: {text[:400]}"
            for secret in sorted(self._secrets)
            for where, text in self._said
            if any(spelling in said for spelling in _spellings(secret) for said in (text, unquote(text)))
        ]

    def forget(self) -> None:
        """For a test that leaks on purpose."""
        self._said.clear()

    def check(self) -> None:
        """Fail if there is a leak."""
        if leaks := self.leaks():
            pytest.fail("\n".join(leaks), pytrace=False)


def credentials_of(request: Request) -> Iterable[str]:
    """Return all that a request proves itself with, in each form in which a log might show it."""
    yield request.headers.get("api_key", "")
    yield request.args.get("key", "")
    _, _, presented = request.headers.get("Authorization", "").partition(" ")
    yield presented
    yield from presented.split(".")
    login = Authorization.from_header(request.headers.get("Authorization"))
    if login is not None and login.type == "basic":
        yield login.password or ""


@contextmanager
def listening() -> Iterator[Listener]:
    """Hear every line of structlog and of logging's that would be printed, and every client's answers."""
    listener = Listener()
    logs = structlog.get_config()
    structlog.configure(wrapper_class=_tapped(logs["wrapper_class"], listener))
    handler = _Handler(listener)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _tap_client(patch, listener)
            _tap_makers(patch, listener)
            yield listener
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.configure(wrapper_class=logs["wrapper_class"])


def _tapped(wrapper: type[Any], listener: Listener) -> type[Any]:
    """Return loggers that are heard at every level, and go on to log from the level of `wrapper`."""

    class Tapped(structlog.make_filtering_bound_logger(logging.NOTSET)):
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **said: Any) -> Any:
            listener.heard("a log line", _line(method_name, {**self._context, **said, "event": event}))
            if structlog.stdlib.NAME_TO_LEVEL[method_name] < wrapper.get_effective_level(self):
                return None
            return super()._proxy_to_logger(method_name, event, **said)

    return Tapped


def _line(level: str, said: Any) -> str:
    """Render as production does, traceback and all."""
    for processor in _processors():
        said = processor(None, level, said)
    return said


@cache
def _processors() -> list[structlog.typing.Processor]:
    before = structlog.get_config()
    configure_logs("debug")
    production = structlog.get_config()["processors"]
    structlog.configure(**before)
    return production


class _Handler(logging.Handler):
    """For the libraries that we use, which log in the standard way."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        self._listener.heard(f"a log line of {record.name}", self.format(record))


def _tap_client(patch: pytest.MonkeyPatch, listener: Listener) -> None:
    open_ = FlaskClient.open

    def open_and_listen(client: FlaskClient, *arguments: Any, **named: Any) -> TestResponse:
        made_before = listener.made_so_far
        answer = open_(client, *arguments, **named)
        listener.answered(answer, made_before)
        return answer

    patch.setattr(FlaskClient, "open", open_and_listen)


def _tap_makers(patch: pytest.MonkeyPatch, listener: Listener) -> None:
    """API keys, download keys, passwords of nodes and databases come from one function, or from a fake."""
    token_urlsafe, ensure = secrets.token_urlsafe, FakeSecrets.ensure

    def token(nbytes: int | None = None) -> str:
        made = token_urlsafe(nbytes)
        listener.made(made)
        return made

    def ensured(fake: FakeSecrets, node: Any) -> Any:
        secret = ensure(fake, node)
        listener.know(*fake.passwords.values(), secret.database_url)
        return secret

    patch.setattr(secrets, "token_urlsafe", token)
    patch.setattr(FakeSecrets, "ensure", ensured)


@cache
def _secret_settings() -> tuple[str, ...]:
    values = (getattr(settings(), name) for name in Settings.model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def _spellings(secret: str) -> set[str]:
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}
