"""Invalid input on every route: a JSON error, the right status, never a 500, and no change."""

import json
import re
from io import BytesIO

import pytest
from gunicorn.http.errors import InvalidChunkSize

from orchestration.api.errors import STATUS
from orchestration.domain import errors
from tests.builders import DATASET, MODEL, a_model, a_node
from tests.web import API_KEY, basic, bearer

NODE = basic(a_node().node_id)
ROUTES = {
    "/create": (
        bearer(),
        {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["progression"]},
    ),
    "/delete": (bearer("devi"), {"dataset_id": DATASET}),
    "/info": (API_KEY, {"dataset_id": DATASET}),
    "/model_loss": ({}, {"model_id": MODEL, "loss": 0.5, "acc": -1}),
    "/model_progress": (NODE, {"model_id": MODEL, "percent_complete": 10}),
    "/model_upload": (NODE, {"model_id": MODEL, "version": "1", "address": "127.0.0.1"}),
    "/generate_key": (bearer("devi"), {"user_id": "devi"}),
    "/get_datasets": (bearer(), {"user_id": "ada"}),
}
BODIES = {
    "no body": b"",
    "a space": b" ",
    "an empty object": b"{}",
    "a list": b"[]",
    "a list of an object": b'[{"dataset_id": "x"}]',
    "null": b"null",
    "true": b"true",
    "a number": b"1e400",
    "a text": b'"dataset_id"',
    "half an object": b'{"dataset_id": "x"',
    "two objects": b"{}{}",
    "a form": b"dataset_id=x&model_id=y&user_id=z",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"dataset_id":' * 15_000,
    "invalid UTF-8": b'{"dataset_id": "\xff\xfe", "model_id": "\xff", "user_id": "\xff"}',
    "UTF-16": '{"dataset_id": "x"}'.encode("utf-16"),
    "a NUL": b"\x00",
    "NaN": b"NaN",
    "200 kB of letters": b"x" * 200_000,
    "a name of 5,000 digits": b'{"dataset_id": ' + b"9" * 5000 + b"}",
}
VALUES = {
    "null": None,
    "true": True,
    "false": False,
    "a number": 7,
    "a negative number": -1,
    "a huge number": 10**400,
    "a fraction": 1.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "an empty text": "",
    "a text": "50",
    "a long text": "x" * 5000,
    "a lone surrogate": "\ud800",
    "an empty list": [],
    "a list": [1, 2],
    "a list of nothing": [None],
    "a list of an empty text": [""],
    "lists in lists": [["a"]],
    "an object": {"a": "b"},
    "an empty object": {},
}
OPTIONAL = ("acc", "address")
NUMBERS = {"a number", "a negative number", "a fraction"}
FITTING = {"loss": NUMBERS, "acc": NUMBERS, "percent_complete": {"a number"}, "address": {"null"}}


@pytest.fixture
def send(client, world, node):
    world.put(a_model())

    def sender(path, body):
        before = world.snapshot()
        answer = client.post(path, data=body, headers=ROUTES[path][0], content_type="application/json")
        assert answer.status_code < 500
        return answer, world.snapshot() == before

    return sender


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ROUTES)
def test_unreadable_body_is_a_400(send, path, body):
    """Every route returns a JSON error."""
    answer, is_unchanged = send(path, body)

    assert answer.status_code == 400
    assert answer.content_type == "application/json"
    assert answer.json["error"]
    assert is_unchanged


MISFITS = [
    (path, field, value)
    for path, (_, body) in ROUTES.items()
    for field in body
    for value in VALUES
    if value not in FITTING.get(field, ())
]


@pytest.mark.parametrize(("path", "field", "value"), MISFITS)
def test_field_of_a_wrong_type_is_refused(send, path, field, value):
    """Values are not converted; an unknown id may be answered 401, 403 or 404."""
    body = json.dumps(ROUTES[path][1] | {field: VALUES[value]}).encode()
    answer, is_unchanged = send(path, body)
    may_be_unknown = value == "a text" and field.endswith(("_id", "version"))

    assert answer.status_code in ((400, 401, 403, 404) if may_be_unknown else (400,))
    assert answer.json["error"]
    assert is_unchanged


@pytest.mark.parametrize(
    ("path", "field"),
    [(path, field) for path, (_, body) in ROUTES.items() for field in body if field not in OPTIONAL],
)
def test_missing_field_is_named(send, path, field):
    """The error contains the field's name."""
    body = {name: value for name, value in ROUTES[path][1].items() if name != field}
    answer, is_unchanged = send(path, json.dumps(body).encode())

    assert answer.status_code == 400
    assert field in answer.json["error"]
    assert is_unchanged


@pytest.mark.parametrize(
    "body",
    [
        {"dataset_id": DATASET, "model_id": MODEL},
        {"force": True},
        {"dataset_id": DATASET, "force": "yes"},
        {"dataset_id": DATASET, "force": 1},
        {"dataset_id": DATASET, "force": None},
    ],
)
def test_delete_requires_exactly_one_id(send, body):
    """The body contains a dataset's or a model's id, and `force` is a boolean."""
    answer, is_unchanged = send("/delete", json.dumps(body).encode())

    assert answer.status_code == 400
    assert is_unchanged


@pytest.mark.parametrize("cycle", [0, -1, 1.5, "1", True, 10**10, [1]])
def test_invalid_cycle_is_refused(send, cycle):
    """`cycle` is a whole number from 1, or absent."""
    body = {"model_id": MODEL, "percent_complete": 10, "cycle": cycle}
    answer, is_unchanged = send("/model_progress", json.dumps(body).encode())

    assert answer.status_code == 400
    assert is_unchanged


@pytest.mark.parametrize("path", ROUTES)
def test_body_of_a_megabyte_is_too_large(send, path):
    """Every route returns 413 in JSON."""
    answer, is_unchanged = send(path, b"x" * (1 << 20))

    assert answer.status_code == 413
    assert answer.json["error"]
    assert is_unchanged


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_method_is_a_405(client, path, method):
    """The header Allow contains POST, also without a credential."""
    answer = client.open(path, method=method)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert answer.json["error"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/create/", "/Create", "/download/", "/static/x", "/%ff", "/.env"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_a_404(client, path, method):
    """The response is JSON, because the library fails on anything else."""
    answer = client.open(path, method=method)

    assert answer.status_code == 404
    assert answer.json["error"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "a/b; charset=x"]
)
def test_content_type_is_ignored(client, world, node, path, content_type):
    """Not every caller sends one."""
    world.put(a_model())
    headers, body = ROUTES[path]
    answer = client.post(path, data=json.dumps(body), headers=headers, content_type=content_type)

    assert answer.status_code < 300 or (path, answer.status_code) == ("/delete", 409)


@pytest.mark.parametrize("path", ["/", *ROUTES, "/nowhere"])
def test_cors_allows_every_origin(client, path):
    """Errors have the header, too."""
    answer = client.get(path, headers={"Origin": "https://marketplace.test"})

    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://marketplace.test")


def test_preflight_allows_authorization_and_json(client):
    """Browsers send both."""
    answer = client.options(
        "/create",
        headers={
            "Origin": "https://marketplace.test",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )

    assert answer.status_code == 200
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("error", [RuntimeError, KeyError, ValueError, RecursionError, MemoryError])
def test_unexpected_error_is_a_500(client, world, logs, monkeypatch, error):
    """The traceback is in the log, not in the response."""

    def crash(*_):
        raise error("password=hunter2")

    monkeypatch.setattr(type(world.users), "named", crash)
    answer = client.post("/get_datasets", json={"user_id": "ada"}, headers=bearer())

    assert answer.status_code == 500
    assert answer.json == {"error": "Something went wrong here; it has been logged."}
    assert [entry["event"] for entry in logs] == ["request.crashed"]


def test_every_domain_error_has_a_status():
    """A domain error without a status would become a 500."""
    declared = {
        error
        for error in vars(errors).values()
        if isinstance(error, type)
        and issubclass(error, errors.OrchestrationError)
        and error is not errors.OrchestrationError
    }

    assert STATUS.keys() == declared


def test_error_is_a_sentence(send):
    """Callers show it to their users."""
    answer, _ = send("/create", b'{"dataset_id": 1, "features": "x"}')

    assert re.search(r"dataset_id: .+; model_id: .+; features: .+\.$", answer.json["error"])


class Broken:
    """The input of a request whose chunks gunicorn can't parse."""

    def read(self, _size: int = -1) -> bytes:
        raise InvalidChunkSize(b"zz")


@pytest.mark.parametrize("path", ROUTES)
def test_malformed_chunks_are_a_bad_request(client, world, node, logs, path):
    """They are the caller's fault: no 500, no trace in the log."""
    environ = {"wsgi.input": Broken(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client.post(path, headers=ROUTES[path][0], environ_overrides=environ)

    assert answer.status_code == 400
    assert answer.json.keys() == {"error"}
    assert logs == []


@pytest.mark.parametrize(
    ("sent", "length", "status"), [(b"{}", 3, 400), (b"[]", 2**18 + 1, 413), (b" " * 2**18, None, 413)]
)
def test_body_must_have_the_length_it_claims(client, sent, length, status):
    """gunicorn ends a body where the connection ends; what arrived may happen to be valid."""
    environ = {"wsgi.input": BytesIO(sent), "wsgi.input_terminated": True}
    environ |= {"CONTENT_LENGTH": str(length)} if length else {"HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client.post("/model_loss", environ_overrides=environ)

    assert answer.status_code == status
    assert answer.json.keys() == {"error"}


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, identity", "x"])
@pytest.mark.parametrize("path", ROUTES)
def test_compressed_body_is_refused(client, node, path, coding):
    """The service does not decompress: a small body may become a large one."""
    headers = ROUTES[path][0] | {"Content-Encoding": coding}
    answer = client.post(path, json=ROUTES[path][1], headers=headers)

    assert answer.status_code == 415
    assert answer.json == {"error": "Send the body without a Content-Encoding."}


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" * 512, MODEL + "\0"])
@pytest.mark.parametrize("path", ROUTES)
def test_nul_in_a_string_is_no_other_name(client, world, node, path, text):
    """JSON allows it; no data has such a name."""
    world.put(a_model())
    before = world.snapshot()
    body = {name: text if isinstance(value, str) else value for name, value in ROUTES[path][1].items()}
    answer = client.post(path, json=body, headers=ROUTES[path][0])

    assert 400 <= answer.status_code < 500
    assert answer.json.keys() == {"error"}
    assert world.snapshot() == before
