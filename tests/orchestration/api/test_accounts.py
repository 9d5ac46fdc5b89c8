"""POST /generate_key and /get_datasets, to the letter."""

import pytest

from orchestration.domain.credentials import hash_of
from tests.builders import DATASET, LEGACY_KEY, a_user
from tests.web import API_KEY, bearer


def test_purchases_are_listed(post):
    """The library prints whatever comes."""
    answer = post("/get_datasets", {"user_id": "ada"}, bearer())

    assert answer.status_code == 200
    assert answer.json == {"datasets": [DATASET]}


def test_no_purchases_are_a_sentence(post, world):
    """As callers know it."""
    world.put(a_user(purchased=frozenset()))

    assert post("/get_datasets", {"user_id": "ada"}, bearer()).json == {
        "datasets": "no purchased datasets available"
    }


def test_a_key_is_shown_once(post, world):
    """And opens the developer's datasets."""
    answer = post("/generate_key", {"user_id": "devi@example.org"}, bearer("devi"))
    opened = post("/info", {"dataset_id": DATASET}, {"api_key": answer.json["api_key"]})

    assert answer.status_code == 200
    assert answer.json.keys() == {"api_key"}
    assert world.keys.find(hash_of(answer.json["api_key"]))
    assert opened.status_code == 200


@pytest.mark.parametrize("path", ["/get_datasets", "/generate_key"])
@pytest.mark.parametrize("user_id", ["devi", "devi@example.org", "nobody"])
def test_anybody_elses_row_is_forbidden(post, world, path, user_id):
    """The user came from the body once."""
    answer = post(path, {"user_id": user_id}, bearer("ada"))

    assert answer.status_code == 403
    assert answer.json == {"error": "This account is somebody else's."}
    assert world.dynamodb.items("key_table") == []


@pytest.mark.parametrize("path", ["/get_datasets", "/generate_key", "/create", "/delete"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        API_KEY,
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {LEGACY_KEY}"},
        {"Authorization": "x"},
    ],
)
def test_nobody_gets_in_without_a_token(post, path, headers):
    """An API key is no login."""
    answer = post(path, {"user_id": "ada"}, headers)

    assert answer.status_code == 401
    assert "error" in answer.json
