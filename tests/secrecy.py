"""Records all logs and responses of a test, and fails the test if they contain a secret."""

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
"""Minimum length of a secret; shorter ones may be part of a sentence by chance."""
SHOWN_ONCE = frozenset({"/generate_key", "/rotate_link"})
"""Routes whose response contains one secret, which was generated for it."""


class LeakCheck:
    """Logs and responses of a test, and the secrets that must not be in them, whenever they become known."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._recorded: list[tuple[str, str]] = []
        self._generated: list[str] = []
        self.add_secrets(NODE_SECRET, LEGACY_KEY, DATABASE_PASSWORD, *_secret_settings())

    def add_secrets(self, *values: str) -> None:
        """Add secrets."""
        self._secrets.update(secret for secret in values if len(secret) >= SHORTEST)

    def add_generated(self, secret: str) -> None:
        """Add a secret that the service has generated."""
        self._generated.append(secret)
        self.add_secrets(secret)

    @property
    def generated_count(self) -> int:
        """Number of generated secrets."""
        return len(self._generated)

    def record(self, where: str, text: str) -> None:
        """Record a text."""
        self._recorded.append((where, text))

    def record_response(self, answer: TestResponse, generated_before: int) -> None:
        """Record a response, except secrets that were generated for it on a route that returns them once."""
        request = answer.request
        self.add_secrets(*credentials_of(request))
        text = f"{answer.status} {answer.headers} {answer.get_data(as_text=True)}"
        if request.path in SHOWN_ONCE:
            for secret in self._generated[generated_before:]:
                text = text.replace(secret, "")
        self.record(f"the response to {request.method} {request.path}", text)

    def leaks(self) -> list[str]:
        """Return a message for each text with a secret."""
        return [
            f"{where} contains {secret[:40]!r}: {text[:400]}"
            for secret in sorted(self._secrets)
            for where, text in self._recorded
            if any(spelling in form for spelling in _spellings(secret) for form in (text, unquote(text)))
        ]

    def clear(self) -> None:
        """Discard the recorded texts, after a leak on purpose."""
        self._recorded.clear()

    def check(self) -> None:
        """Fail the test if there is a leak."""
        if leaks := self.leaks():
            pytest.fail("\n".join(leaks), pytrace=False)


def credentials_of(request: Request) -> Iterable[str]:
    """Yield all credentials of a request, in each form that a log could contain."""
    yield request.headers.get("api_key", "")
    yield request.args.get("key", "")
    _, _, credential = request.headers.get("Authorization", "").partition(" ")
    yield credential
    yield from credential.split(".")
    login = Authorization.from_header(request.headers.get("Authorization"))
    if login is not None and login.type == "basic":
        yield login.password or ""


@contextmanager
def checking() -> Iterator[LeakCheck]:
    """Record the lines of structlog and logging at every level, and the responses of Flask's test client."""
    leak_check = LeakCheck()
    logs = structlog.get_config()
    structlog.configure(wrapper_class=_tapped(logs["wrapper_class"], leak_check))
    handler = _Handler(leak_check)
    logging.getLogger().addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            _tap_client(patch, leak_check)
            _tap_makers(patch, leak_check)
            yield leak_check
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.configure(wrapper_class=logs["wrapper_class"])


def _tapped(wrapper: type[Any], leak_check: LeakCheck) -> type[Any]:
    """Return loggers that record every level, and still log from the level of `wrapper`."""

    class Tapped(structlog.make_filtering_bound_logger(logging.NOTSET)):
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **values: Any) -> Any:
            leak_check.record("a log line", _line(method_name, {**self._context, **values, "event": event}))
            if structlog.stdlib.NAME_TO_LEVEL[method_name] < wrapper.get_effective_level(self):
                return None
            return super()._proxy_to_logger(method_name, event, **values)

    return Tapped


def _line(level: str, entry: Any) -> str:
    """Return the line as production logs it, including the traceback."""
    for processor in _processors():
        entry = processor(None, level, entry)
    return entry


@cache
def _processors() -> list[structlog.typing.Processor]:
    before = structlog.get_config()
    configure_logs("debug")
    production = structlog.get_config()["processors"]
    structlog.configure(**before)
    return production


class _Handler(logging.Handler):
    """Records logs of libraries, which use `logging`."""

    def __init__(self, leak_check: LeakCheck) -> None:
        super().__init__()
        self._leak_check = leak_check

    def emit(self, record: logging.LogRecord) -> None:
        self._leak_check.record(f"a log line of {record.name}", self.format(record))


def _tap_client(patch: pytest.MonkeyPatch, leak_check: LeakCheck) -> None:
    open_ = FlaskClient.open

    def open_and_record(client: FlaskClient, *arguments: Any, **named: Any) -> TestResponse:
        generated_before = leak_check.generated_count
        answer = open_(client, *arguments, **named)
        leak_check.record_response(answer, generated_before)
        return answer

    patch.setattr(FlaskClient, "open", open_and_record)


def _tap_makers(patch: pytest.MonkeyPatch, leak_check: LeakCheck) -> None:
    """Record keys, passwords and other secrets where they are generated: one function and one fake."""
    token_urlsafe, ensure = secrets.token_urlsafe, FakeSecrets.ensure

    def token(nbytes: int | None = None) -> str:
        generated = token_urlsafe(nbytes)
        leak_check.add_generated(generated)
        return generated

    def ensured(fake: FakeSecrets, node: Any) -> Any:
        secret = ensure(fake, node)
        leak_check.add_secrets(*fake.passwords.values(), secret.database_url)
        return secret

    patch.setattr(secrets, "token_urlsafe", token)
    patch.setattr(FakeSecrets, "ensure", ensured)


@cache
def _secret_settings() -> tuple[str, ...]:
    values = (getattr(settings(), name) for name in Settings.model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def _spellings(secret: str) -> set[str]:
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}
