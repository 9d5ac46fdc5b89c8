"""Numbers of `client_config` that phones decode strictly."""

import math

import pytest

from pygrid_node.client_config import with_numbers
from pygrid_node.errors import InvalidRequest
from pygrid_node.uploads import read_upload

GIVEN = {"name": "m", "batch_size": 2, "lr": 0.05, "max_updates": 10}


@pytest.mark.parametrize(
    ("key", "given", "number"),
    [
        ("lr", "0.05", 0.05),  # artificienlib
        ("lr", "1e-3", 0.001),
        ("lr", 1, 1),
        ("lr", 0, 0),
        ("lr", -0.5, -0.5),
        ("batch_size", "1", 1),
        ("batch_size", "64.0", 64),
        ("batch_size", 3.0, 3),
        ("max_updates", " 10 ", 10),
        ("max_updates", 2**31 - 1, 2**31 - 1),
    ],
)
def test_text_of_a_number_becomes_a_number(key, given, number):
    """Swift decodes Int and Float, and neither from a string. All other fields stay as they are."""
    config = with_numbers(GIVEN | {key: given, "more": ["0.05"]})

    assert config == GIVEN | {key: number, "more": ["0.05"]}
    assert type(config[key]) is type(number)
    assert list(config) == [*GIVEN, "more"]


WHOLE = "needs to be a whole number from 1 to 2147483647"
NOT_WHOLE = [0, -1, 1.5, "1.5", "0", 2**31, 10**400, "9" * 5000, True, [], {}, "", "two", math.nan, "inf"]
NO_FLOAT = [1e39, "1e39", 10**400, -(10**400), "9" * 5000, math.nan, math.inf, "nan", True, [], "", "fast"]


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in ("batch_size", "max_updates") for value in NOT_WHOLE]
    + [("lr", value) for value in NO_FLOAT],
)
def test_what_no_phone_decodes_is_refused(key, value):
    """The pod divides by `batch_size`. The sentence names the field."""
    want = "needs to be a number that fits into a float32" if key == "lr" else WHOLE
    with pytest.raises(InvalidRequest, match=f"^'{key}' {want}$"):
        with_numbers(GIVEN | {key: value})


@pytest.mark.parametrize("key", ["batch_size", "lr", "max_updates"])
@pytest.mark.parametrize("present", [False, True], ids=["absent", "null"])
def test_field_that_every_phone_needs_is_required(recorded, key, present):
    """SwiftSyft decodes none as optional."""
    upload = recorded(**{f"client_config__{key}": None})["data"]
    if present:
        upload["client_config"][key] = None

    with pytest.raises(InvalidRequest, match=f"^'{key}' is required$"):
        read_upload(upload)


@pytest.mark.moto
def test_phones_get_the_numbers(node, recorded):
    """What is stored is what is handed out with an assignment."""
    texts = {"lr": "0.05", "batch_size": "2", "max_updates": "10", "learning_rate": "0.05"}
    upload = recorded(**{f"client_config__{key}": value for key, value in texts.items()})
    assert node.upload(upload) == {"status": "success"}
    config = node.worker("fixture-linear").accepted["client_config"]

    assert config == recorded()["data"]["client_config"] | {"learning_rate": "0.05"}
    assert [type(config[key]) for key in ("lr", "batch_size", "max_updates")] == [float, int, int]
