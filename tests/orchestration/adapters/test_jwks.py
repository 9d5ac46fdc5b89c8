"""The key set of a pool: cached, fetched by one thread at a time, kept while Cognito is away."""

import gzip
import json
import threading
import time
from pathlib import Path

import pytest

from orchestration.adapters.jwks import (
    PUBLIC_PRIVATE_KEYS,
    KeySet,
    fetcher,
    fingerprint,
    is_verification_key,
)
from orchestration.domain.errors import Unauthenticated, Upstream
from tests.fakes import FakeClock
from tests.tokens import KID, jwk_of


class Cognito:
    """Publishes keys; `away`: it doesn't answer."""

    def __init__(self, *names):
        self.keys = [jwk_of(name) for name in names or (KID,)]
        self.away = False
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if self.away:
            raise Upstream("The user pool's key set can't be fetched.")
        return {"keys": self.keys}


def modulus(key):
    """What tells one key from another."""
    return key.public_key().to_dict()["n"]


@pytest.fixture
def cognito():
    return Cognito()


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def key_set(cognito, clock):
    return KeySet(cognito, local_mode=False, clock=clock)


def test_a_key_is_fetched_once(key_set, cognito):
    """And cached."""
    keys = [key_set.key(KID) for _ in range(5)]

    assert set(map(modulus, keys)) == {jwk_of()["n"]}
    assert cognito.asked == 1


def test_an_unknown_kid_asks_again_at_most_once_in_ten_seconds(key_set, cognito, clock):
    """A stranger must not make us ask Cognito for ever."""
    key_set.key(KID)
    for _ in range(100):
        clock.tick(0.1999)
        with pytest.raises(Unauthenticated):
            key_set.key("unknown")

    assert cognito.asked == 2


def test_a_new_key_of_the_pool_is_found(key_set, cognito, clock):
    """Cognito rotates its keys."""
    key_set.key(KID)
    cognito.keys.append(jwk_of("new"))
    clock.tick(10)

    assert modulus(key_set.key("new")) == jwk_of("new")["n"]
    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_a_key_that_the_pool_withdrew_is_gone_with_the_next_fetch(key_set, cognito, clock):
    """What is fetched replaces what was there."""
    key_set.key(KID)
    cognito.keys = [jwk_of("new")]
    clock.tick(10)
    key_set.key("new")

    with pytest.raises(Unauthenticated):
        key_set.key(KID)


def test_keys_are_kept_while_cognito_is_away(key_set, cognito, clock):
    """Whoever is logged in stays so."""
    key_set.key(KID)
    cognito.away = True
    clock.tick(3600)
    with pytest.raises(Unauthenticated):
        key_set.key("unknown")

    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_without_any_key_it_is_tried_again_every_second(key_set, cognito, clock):
    """Nobody gets in meanwhile: 502, not 401."""
    cognito.away = True
    for _ in range(10):
        with pytest.raises(Upstream):
            key_set.key(KID)
    asked_at_once = cognito.asked
    cognito.away = False
    clock.tick(1)

    assert asked_at_once == 1
    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_many_threads_fetch_once(cognito, clock):
    """The others wait for the one."""

    def slow():
        time.sleep(0.05)
        return cognito()

    key_set = KeySet(slow, local_mode=False, clock=clock)
    keys = []
    threads = [threading.Thread(target=lambda: keys.append(key_set.key(KID))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 16
    assert cognito.asked == 1


@pytest.mark.parametrize("key_set_", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
def test_what_is_no_key_set_is_as_if_cognito_were_away(clock, key_set_):
    """A proxy's error page, say."""
    with pytest.raises(Upstream):
        KeySet(lambda: key_set_, local_mode=False, clock=clock).key(KID)


UNUSABLE = {
    "not RSA": {"kty": "EC"},
    "for encryption": {"use": "enc"},
    "another algorithm": {"alg": "RS512"},
    "an HMAC's algorithm": {"alg": "HS256"},
    "no verification": {"key_ops": ["encrypt"]},
    "operations that are no list": {"key_ops": 5},
    "operations in a text": {"key_ops": "verify"},
    "no name": {"kid": None},
    "a name that is a number": {"kid": 5},
    "no modulus": {"n": None},
    "a modulus that is a number": {"n": 5},
    "a modulus that is no base64": {"n": "x"},
    "a modulus that is not ASCII": {"n": "ü"},
    "no exponent": {"e": None},
    "an exponent that is a number": {"e": 65537},
    "an exponent that is no base64": {"e": "x"},
    "an even exponent": {"e": "BA"},
}


@pytest.mark.parametrize("changes", UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_that_is_not_for_this_is_left_out(cognito, clock, changes):
    """And doesn't keep the others from being used."""
    cognito.keys = [jwk_of("bad", **changes), jwk_of(), None, "key", []]
    key_set = KeySet(cognito, local_mode=False, clock=clock)

    assert modulus(key_set.key(KID)) == jwk_of()["n"]
    with pytest.raises(Unauthenticated):
        key_set.key("bad")


def test_a_key_of_1024_bits_is_too_short():
    """2048 at least."""
    assert not is_verification_key(jwk_of("short"))


@pytest.mark.parametrize("changes", [{}, {"use": "sig"}, {"key_ops": ["sign", "verify"]}])
def test_a_key_needs_to_say_no_more_than_what_it_is(changes):
    """`use`, `alg` and `key_ops` may be absent (RFC 7517, section 4)."""
    key = {name: value for name, value in jwk_of().items() if name not in ("use", "alg")}

    assert is_verification_key(key | changes)


@pytest.mark.parametrize("local_mode", [True, False])
def test_a_key_whose_private_half_is_public_is_trusted_in_local_mode_only(
    cognito, clock, monkeypatch, local_mode
):
    """All pools of an embedded AWS share it, and anybody can read it."""
    monkeypatch.setattr("orchestration.adapters.jwks.PUBLIC_PRIVATE_KEYS", {fingerprint(jwk_of("published"))})
    cognito.keys = [jwk_of("published"), jwk_of()]
    key_set = KeySet(cognito, local_mode=local_mode, clock=clock)
    try:
        is_trusted = modulus(key_set.key("published")) == jwk_of("published")["n"]
    except Unauthenticated:
        is_trusted = False

    assert is_trusted is local_mode


@pytest.mark.moto
def test_the_published_key_is_the_one_that_the_embedded_aws_signs_with():
    """Its fingerprint is written down in the source."""
    import moto.cognitoidp

    published = Path(moto.cognitoidp.__file__).parent / "resources" / "jwks-public.json.gz"
    keys = json.loads(gzip.decompress(published.read_bytes()))["keys"]

    assert {fingerprint(key) for key in keys} == PUBLIC_PRIVATE_KEYS


@pytest.mark.moto
class TestFetcher:
    """Over a real socket."""

    def test_the_json_of_the_address_is_the_key_set(self, serve):
        """As Cognito publishes it."""
        url = serve(lambda request: request.answer(200, b'{"keys": [1]}'))

        assert fetcher(url)() == {"keys": [1]}

    @pytest.mark.parametrize(
        ("status", "body"), [(500, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b""), (200, b"\xff")]
    )
    def test_anything_else_is_upstream(self, serve, status, body):
        """It will be tried again."""
        url = serve(lambda request: request.answer(status, body))

        with pytest.raises(Upstream):
            fetcher(url)()

    def test_json_that_is_no_object_is_no_key_set(self, serve):
        """An empty one."""
        url = serve(lambda request: request.answer(200, b"[]"))

        assert fetcher(url)() == {}

    def test_a_redirect_is_not_followed(self, serve):
        """The keys are there or nowhere."""
        evil = serve(lambda request: request.answer(200, b'{"keys": [1]}'))
        url = serve(lambda request: request.answer(302, b"", Location=evil))

        with pytest.raises(Upstream):
            fetcher(url)()

    def test_nobody_there_is_upstream(self):
        """A connection that is refused."""
        with pytest.raises(Upstream):
            fetcher("http://127.0.0.1:1/jwks.json")()

    def test_silence_is_upstream(self, serve, monkeypatch):
        """It doesn't hang."""
        monkeypatch.setattr("orchestration.adapters.jwks.TIMEOUT", (0.2, 0.2))
        url = serve(lambda _: time.sleep(0.6))

        with pytest.raises(Upstream):
            fetcher(url)()
