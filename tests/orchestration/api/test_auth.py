"""Attacks on tokens, over HTTP: all 401, and the valid one 200."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from tests import processes
from tests.builders import DATASET, MODEL, NOON, a_model
from tests.tokens import CLIENT, ISSUER, KID, claims, encoded, header, jwk_of, public_pem, signed
from tests.web import basic, services_on

NOW = int(NOON)
POOL = ISSUER.rpartition("_")[0]


def hs256(head=None):
    body = ".".join(encoded(json.dumps(part).encode()) for part in (head or header(alg="HS256"), claims()))
    return f"{body}.{encoded(hmac.digest(public_pem(), body.encode(), hashlib.sha256))}"


def unsigned(alg="none", signature=""):
    body = ".".join(encoded(json.dumps(part).encode()) for part in (header(alg=alg), claims()))
    return f"{body}.{signature}"


def with_spare_bits():
    """Return a token whose last letter differs but decodes to the same bytes: four of its bits are unused."""
    token = signed()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(token.split(".")[2] + "==") == base64.urlsafe_b64decode(
        token.split(".")[2][:-1] + other + "=="
    )
    return token[:-1] + other


def replaced(part, text):
    parts = signed().split(".")
    parts[part] = text
    return ".".join(parts)


def twice(name, value):
    body = json.dumps(claims())
    return signed(payload=body[:-1] + f', "{name}": {json.dumps(value)}}}')


ATTACKS = {
    "alg none": unsigned,
    "alg None": lambda: unsigned("None"),
    "alg none with a signature": lambda: unsigned("none", signed().split(".")[2]),
    "no alg": lambda: signed(head=header(alg=None)),
    "alg as a list": lambda: signed(head=header(alg=["RS256"])),
    "alg in small letters": lambda: signed(head=header(alg="rs256")),
    "HS256 with the public key": hs256,
    "HS256 with a header of RS256": lambda: hs256(header()),
    "PS256": lambda: signed(head=header(alg="PS256")),
    "RS512": lambda: signed(head=header(alg="RS512")),
    "another pool": lambda: signed(claims(iss=f"{POOL}_Other")),
    "the pool's name with a slash": lambda: signed(claims(iss=ISSUER + "/")),
    "the pool's name in other letters": lambda: signed(claims(iss=ISSUER.upper())),
    "no issuer": lambda: signed(claims(iss=None)),
    "another pool's key": lambda: signed(key="foreign"),
    "another app's client": lambda: signed(claims(client_id="other")),
    "no client": lambda: signed(claims(client_id=None)),
    "clients as a list": lambda: signed(claims(client_id=[CLIENT])),
    "a client as an object": lambda: signed(claims(client_id={CLIENT: 1})),
    "the audience instead of a client": lambda: signed(claims(client_id=None, aud=CLIENT)),
    "an ID token": lambda: signed(claims(token_use="id", aud=CLIENT, **{"cognito:username": "ada"})),
    "no use": lambda: signed(claims(token_use=None)),
    "expired": lambda: signed(claims(exp=NOW - 31)),
    "expired to the second of the leeway": lambda: signed(claims(exp=NOW - 30)),
    "no expiry": lambda: signed(claims(exp=None)),
    "expiry as text": lambda: signed(claims(exp=str(NOW + 3600))),
    "expiry true": lambda: signed(claims(exp=True)),
    "expiry NaN": lambda: signed(json.dumps(claims()).replace(str(NOW + 3600), "NaN")),
    "expiry infinite": lambda: signed(json.dumps(claims()).replace(str(NOW + 3600), "Infinity")),
    "expiry 1e999": lambda: signed(json.dumps(claims()).replace(str(NOW + 3600), "1e999")),
    "expiry of 400 digits": lambda: signed(claims(exp=10**400)),
    "expiry of 5,000 digits": lambda: signed(json.dumps(claims()).replace(str(NOW + 3600), "9" * 5000)),
    "issued in the future": lambda: signed(claims(iat=NOW + 31)),
    "no time of issue": lambda: signed(claims(iat=None)),
    "not valid yet": lambda: signed(claims(nbf=NOW + 31)),
    "nbf as text": lambda: signed(claims(nbf="0")),
    "no kid": lambda: signed(head=header(kid=None)),
    "kid as a number": lambda: signed(head=header(kid=1)),
    "kid as a list": lambda: signed(head=header(kid=[KID])),
    "a foreign kid": lambda: signed(head=header(kid="foreign"), key="foreign"),
    "kid with a path": lambda: signed(head=header(kid="../../dev/null")),
    "crit": lambda: signed(head=header(crit=["exp"])),
    "empty crit": lambda: signed(head=header(crit=[])),
    "an embedded key": lambda: signed(head=header(jwk=jwk_of("foreign")), key="foreign"),
    "an embedded key and no kid": lambda: signed(head=header(kid=None, jwk=jwk_of("foreign")), key="foreign"),
    "a key by its address": lambda: signed(head=header(jku="https://evil.test/jwks.json"), key="foreign"),
    "another type": lambda: signed(head=header(typ="dpop+jwt")),
    "padded": lambda: signed() + "==",
    "a padded header": lambda: replaced(0, signed().split(".")[0] + "="),
    "spare bits": with_spare_bits,
    "standard base64": lambda: replaced(2, signed().split(".")[2][:-2] + "+/"),
    "a line break": lambda: signed().replace(".", ".\n"),
    "a trailing dot": lambda: signed() + ".",
    "not ASCII": lambda: signed() + "\xe9",
    "an Arabic digit": lambda: signed() + "\u0661".encode().decode("latin-1"),
    "a signature of one letter": lambda: replaced(2, "A"),
    "an empty signature": lambda: replaced(2, ""),
    "a changed claim": lambda: replaced(1, encoded(json.dumps(claims(username="devi")).encode())),
    "username twice": lambda: twice("username", "devi"),
    "expiry twice": lambda: twice("exp", NOW + 10**6),
    "alg twice": lambda: signed(head='{"alg": "none", "alg": "RS256", "kid": "' + KID + '"}'),
    "no username": lambda: signed(claims(username=None)),
    "an empty username": lambda: signed(claims(username="")),
    "a username as a number": lambda: signed(claims(username=7)),
    "a huge token": lambda: signed(claims(scope="x" * 9000)),
    "a megabyte": lambda: "A" * 10**6,
    "two parts": lambda: ".".join(signed().split(".")[:2]),
    "five parts": lambda: signed() + ".AA.AA",
    "empty parts": lambda: "..",
    "claims that are a list": lambda: signed(payload="[1]"),
    "claims that are no JSON": lambda: signed(payload="{"),
    "claims that are no UTF-8": lambda: replaced(1, encoded(b"\xff\xfe\xfd")),
    "a header that is a text": lambda: signed(head='"RS256"'),
    "a header of 3,000 lists": lambda: signed(head="[" * 3000),
    "spaces inside": lambda: signed().replace(".", ". "),
}


@pytest.fixture
def login(client):
    def send(token, scheme="Bearer"):
        headers = {"Authorization": f"{scheme} {token}".replace("\n", " ")}
        return client.post("/get_datasets", json={"user_id": "ada"}, headers=headers)

    return send


@pytest.mark.parametrize("forge", ATTACKS.values(), ids=ATTACKS)
def test_forged_token_is_unauthenticated(login, forge):
    """The response is 401 with an error, and contains no part of the token."""
    token = forge()
    answer = login(token)

    assert answer.status_code == 401
    assert answer.json.keys() == {"error"}
    assert not any(part in answer.text for part in token.split(".") if len(part) > 8)


VALID = {
    "as Cognito issues it": lambda: signed(),
    "with a type": lambda: signed(head=header(typ="JWT")),
    "within the leeway after its end": lambda: signed(claims(exp=NOW - 29)),
    "within the leeway before its beginning": lambda: signed(claims(iat=NOW + 30, nbf=NOW + 30)),
    "with times that are no whole numbers": lambda: signed(claims(exp=NOW + 0.5, iat=NOW - 0.5)),
    "with groups": lambda: signed(claims(**{"cognito:groups": ["a"] * 50})),
}


@pytest.mark.parametrize("make", VALID.values(), ids=VALID)
def test_valid_token_is_accepted(login, make):
    """The leeway for times is 30 seconds."""
    assert login(make()).status_code == 200


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_scheme_is_case_insensitive(login, scheme):
    """RFC 9110, section 11.1."""
    assert login(signed(), scheme).status_code == 200


@pytest.mark.parametrize("scheme", ["Basic", "Token", "JWT"])
def test_other_schemes_are_unauthenticated(login, scheme):
    """Only `Bearer` is accepted."""
    assert login(signed(), scheme).status_code == 401


CHALLENGES = {
    "/create": 'Bearer realm="artificien"',
    "/delete": 'Bearer realm="artificien"',
    "/generate_key": 'Bearer realm="artificien"',
    "/get_datasets": 'Bearer realm="artificien"',
    "/rotate_link": 'Bearer realm="artificien"',
    "/info": 'ApiKey realm="artificien"',
    "/model_progress": 'Basic realm="artificien"',
    "/model_upload": 'Basic realm="artificien"',
}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x", "api_key": "x"}, basic("x", "y")])
@pytest.mark.parametrize(("path", "challenge"), CHALLENGES.items())
def test_refusal_names_the_scheme(client, path, challenge, headers):
    """RFC 9110, section 15.5.2. Browsers open a dialog for Basic, so only routes of nodes name it."""
    answer = client.post(path, json={"dataset_id": DATASET}, headers=headers)

    assert answer.status_code == 401
    assert answer.headers.getlist("WWW-Authenticate") == [challenge]


def test_loss_without_a_required_key_names_the_scheme_of_devices(client, shared_app, world):
    """An operator may require the key; the route itself is public."""
    world.put(a_model())
    devices = processes.a_device_service(world, key_required=True)
    replace(services_on(world), devices=devices).bind(shared_app)
    answer = client.post("/model_loss", json={"model_id": MODEL, "loss": 0.5})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'ApiKey realm="artificien"'


def test_other_answers_name_no_scheme(client, login):
    """Neither a success nor another failure."""
    answers = [login(signed()), client.get("/"), client.get("/nope"), client.get("/create")]

    assert [answer.status_code for answer in answers] == [200, 200, 404, 405]
    assert not any("WWW-Authenticate" in answer.headers for answer in answers)


def test_no_token_is_logged(login, logs):
    """Neither valid nor invalid tokens are logged."""
    tokens = [signed(), signed(key="foreign")]
    for token in tokens:
        login(token)

    assert not any(token.split(".")[2] in str(logs) for token in tokens)
