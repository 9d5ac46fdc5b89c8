"""Signatures and key sets. Signatures are checked against the RS256 vectors of Wycheproof.

A vector with the result "acceptable" may pass or fail; the set has none for RS256.
"""

import gzip
import json
import threading
import time
from pathlib import Path

import pytest
from jose.utils import base64url_decode

from orchestration.adapters.jws import (
    PUBLISHED_KEYS,
    KeySet,
    fetcher,
    fingerprint,
    is_verification_key,
    usable_keys,
    verified_payload,
)
from orchestration.domain.errors import Unauthenticated, Upstream
from tests.fakes import FakeClock
from tests.tokens import KID, jwk_of

VECTORS = Path(__file__).parents[2] / "data" / "wycheproof_rs256.json"
GROUPS = json.loads(VECTORS.read_text())["groups"]

UNFIT_KEYS = {
    353: "its use is enc",
    355: "its key_ops are for encryption",
}
"""Vectors whose key may not verify, by their tcId; they carry the valid token of tcId 33."""


def vectors(wanted):
    """Parametrize `token` and `public` with the vectors that `wanted` selects."""
    return pytest.mark.parametrize(
        ("token", "public"),
        [
            pytest.param(test["jws"], group["public"], id=f"{test['tcId']} {test['comment']}")
            for group in GROUPS
            for test in group["tests"]
            if wanted(test)
        ],
    )


def verified(token, public):
    """Verify the token with a key set that contains this key only."""
    keys = usable_keys({"keys": [public]})

    def key(kid):
        if kid not in keys:
            raise Unauthenticated("The token is signed with a key that the user pool doesn't have.")
        return keys[kid]

    return verified_payload(token, key)


@vectors(lambda test: test["result"] == "valid")
def test_valid_signature_is_accepted(token, public):
    """Every vector with the result "valid" passes."""
    header, payload = verified(token, public)

    assert header["kid"] == public["kid"]
    assert payload == base64url_decode(token.split(".")[1].encode())


@vectors(lambda test: test["result"] == "invalid" and "ModifiedPadding" in test["flags"])
def test_modified_padding_is_refused(token, public):
    """A hash has exactly one valid encoding (RFC 8017, section 8.2.2)."""
    with pytest.raises(Unauthenticated, match="signature doesn't hold"):
        verified(token, public)


@vectors(lambda test: test["result"] == "invalid" and "ModifiedPadding" not in test["flags"])
def test_other_invalid_tokens_are_refused(token, public):
    """Missing, changed or additional parts, and keys for another use."""
    with pytest.raises(Unauthenticated):
        verified(token, public)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group['comment']} {group['tests'][0]['tcId']}")
def test_key_for_encryption_is_not_usable(group):
    """`use` and `key_ops` decide (RFC 7517, section 4). Refusing more would hide the vectors' results."""
    public = group["public"]
    fit = UNFIT_KEYS.keys().isdisjoint(test["tcId"] for test in group["tests"])

    keys = usable_keys({"keys": [public]})

    assert list(keys) == ([public["kid"]] if fit else [])


class Cognito:
    """Publishes keys, unless it is `away`; counts the calls."""

    def __init__(self, *names):
        self.keys = [jwk_of(name) for name in names or (KID,)]
        self.away = False
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.away:
            raise Upstream("The user pool's key set can't be fetched.")
        return {"keys": self.keys}


def modulus(key):
    """Return the part that differs between keys."""
    return key.public_key().to_dict()["n"]


@pytest.fixture
def cognito():
    return Cognito()


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def key_set(cognito, clock):
    return KeySet(cognito, clock=clock)


def test_key_set_is_fetched_once(key_set, cognito):
    """Later lookups use the cache."""
    keys = [key_set.key(KID) for _ in range(5)]

    assert set(map(modulus, keys)) == {jwk_of()["n"]}
    assert cognito.calls == 1


def test_unknown_kid_causes_one_fetch_in_ten_seconds(key_set, cognito, clock):
    """Made-up tokens must not cause a request to Cognito each."""
    key_set.key(KID)
    for _ in range(100):
        clock.tick(0.1999)
        with pytest.raises(Unauthenticated):
            key_set.key("unknown")

    assert cognito.calls == 2


def test_new_key_is_found_after_ten_seconds(key_set, cognito, clock):
    """Cognito rotates its keys."""
    key_set.key(KID)
    cognito.keys.append(jwk_of("new"))
    clock.tick(10)

    assert modulus(key_set.key("new")) == jwk_of("new")["n"]
    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_withdrawn_key_is_invalid_after_the_next_fetch(key_set, cognito, clock):
    """A fetched key set replaces the former one."""
    key_set.key(KID)
    cognito.keys = [jwk_of("new")]
    clock.tick(10)
    key_set.key("new")

    with pytest.raises(Unauthenticated):
        key_set.key(KID)


def test_keys_are_kept_while_cognito_is_unreachable(key_set, cognito, clock):
    """Users with a token stay logged in."""
    key_set.key(KID)
    cognito.away = True
    clock.tick(3600)
    with pytest.raises(Unauthenticated):
        key_set.key("unknown")

    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_without_keys_fetch_is_retried_every_second(key_set, cognito, clock):
    """Meanwhile the error is Upstream (502), not Unauthenticated (401)."""
    cognito.away = True
    for _ in range(10):
        with pytest.raises(Upstream):
            key_set.key(KID)
    calls_at_once = cognito.calls
    cognito.away = False
    clock.tick(1)

    assert calls_at_once == 1
    assert modulus(key_set.key(KID)) == jwk_of()["n"]


def test_concurrent_threads_fetch_once(cognito, clock):
    """The other threads wait for the result."""

    def slow():
        time.sleep(0.05)
        return cognito()

    key_set = KeySet(slow, clock=clock)
    keys = []
    threads = [threading.Thread(target=lambda: keys.append(key_set.key(KID))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 16
    assert cognito.calls == 1


@pytest.mark.parametrize("key_set_", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
def test_other_json_than_a_key_set_is_upstream(clock, key_set_):
    """For example an error page of a proxy."""
    with pytest.raises(Upstream):
        KeySet(lambda: key_set_, clock=clock).key(KID)


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
def test_unusable_key_is_left_out(cognito, clock, changes):
    """The other keys of the set stay usable."""
    cognito.keys = [jwk_of("bad", **changes), jwk_of(), None, "key", []]
    key_set = KeySet(cognito, clock=clock)

    assert modulus(key_set.key(KID)) == jwk_of()["n"]
    with pytest.raises(Unauthenticated):
        key_set.key("bad")


def test_key_of_1024_bits_is_refused():
    """The minimum is 2048 bits."""
    assert not is_verification_key(jwk_of("short"))


@pytest.mark.parametrize("changes", [{}, {"use": "sig"}, {"key_ops": ["sign", "verify"]}])
def test_optional_members_may_be_absent(changes):
    """`use`, `alg` and `key_ops` may be absent (RFC 7517, section 4)."""
    key = {name: value for name, value in jwk_of().items() if name not in ("use", "alg")}

    assert is_verification_key(key | changes)


@pytest.mark.parametrize("untrusted", [(), {fingerprint(jwk_of("published"))}], ids=["none", "published"])
def test_untrusted_key_is_left_out(cognito, clock, untrusted):
    """Anyone can sign with a key whose private half is published."""
    cognito.keys = [jwk_of("published"), jwk_of()]
    key_set = KeySet(cognito, untrusted=untrusted, clock=clock)

    assert modulus(key_set.key(KID)) == jwk_of()["n"]
    if untrusted:
        with pytest.raises(Unauthenticated):
            key_set.key("published")
    else:
        assert modulus(key_set.key("published")) == jwk_of("published")["n"]


@pytest.mark.moto
def test_published_keys_are_those_of_moto_and_untrusted_by_default(clock):
    """The embedded AWS signs the tokens of all its pools with one key; its fingerprint is in the source."""
    import moto.cognitoidp

    published = Path(moto.cognitoidp.__file__).parent / "resources" / "jwks-public.json.gz"
    keys = json.loads(gzip.decompress(published.read_bytes()))["keys"]

    assert {fingerprint(key) for key in keys} == PUBLISHED_KEYS
    assert all(is_verification_key(key) for key in keys)
    assert usable_keys({"keys": keys}) == {}


@pytest.mark.moto
class TestFetcher:
    """Fetches a key set over a real socket."""

    def test_json_object_is_returned(self, serve):
        """Cognito publishes the key set as one JSON object."""
        url = serve(lambda request: request.answer(200, b'{"keys": [1]}'))

        assert fetcher(url)() == {"keys": [1]}

    @pytest.mark.parametrize(
        ("status", "body"), [(500, b"{}"), (404, b"{}"), (200, b"<html>"), (200, b""), (200, b"\xff")]
    )
    def test_other_response_is_upstream(self, serve, status, body):
        """The fetch is retried later."""
        url = serve(lambda request: request.answer(status, body))

        with pytest.raises(Upstream):
            fetcher(url)()

    def test_other_json_than_an_object_is_empty(self, serve):
        """`usable_keys` refuses it with its own error."""
        url = serve(lambda request: request.answer(200, b"[]"))

        assert fetcher(url)() == {}

    def test_redirect_is_not_followed(self, serve):
        """A redirect could lead to another issuer's keys."""
        evil = serve(lambda request: request.answer(200, b'{"keys": [1]}'))
        url = serve(lambda request: request.answer(302, b"", Location=evil))

        with pytest.raises(Upstream):
            fetcher(url)()

    def test_refused_connection_is_upstream(self):
        """Like any other failure."""
        with pytest.raises(Upstream):
            fetcher("http://127.0.0.1:1/jwks.json")()

    def test_timeout_is_upstream(self, serve):
        """A server that never answers doesn't block the request."""
        url = serve(lambda _: time.sleep(0.6))

        with pytest.raises(Upstream):
            fetcher(url, timeout=(0.2, 0.2))()
