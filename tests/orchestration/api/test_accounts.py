"""POST /generate_key and /get_datasets: exact responses."""

import pytest

from orchestration.domain.credentials import hash_of
from tests.builders import DATASET, LEGACY_KEY, a_user
from tests.web import API_KEY, bearer


def test_purchases_are_listed(post):
    """The response contains the ids of the purchased datasets."""
    answer = post("/get_datasets", {"user_id": "ada"}, bearer())

    assert answer.status_code == 200
    assert answer.json == {"datasets": [DATASET]}


def test_no_purchases_return_a_sentence(post, world):
    """Callers expect a sentence instead of an empty list."""
    world.put(a_user(purchased=frozenset()))

    assert post("/get_datasets", {"user_id": "ada"}, bearer()).json == {
        "datasets": "no purchased datasets available"
    }


def test_new_key_is_returned_and_valid(post, world):
    """It is valid for the developer's datasets, and only its hash is stored."""
    answer = post("/generate_key", {"user_id": "devi@example.org"}, bearer("devi"))
    info = post("/info", {"dataset_id": DATASET}, {"api_key": answer.json["api_key"]})

    assert answer.status_code == 200
    assert answer.json.keys() == {"api_key"}
    assert world.keys.find(hash_of(answer.json["api_key"]))
    assert info.status_code == 200


@pytest.mark.parametrize("path", ["/get_datasets", "/generate_key"])
@pytest.mark.parametrize("user_id", ["devi", "devi@example.org", "unknown"])
def test_row_of_another_user_is_forbidden(post, world, path, user_id):
    """`user_id` must be that of the caller."""
    answer = post(path, {"user_id": user_id}, bearer("ada"))

    assert answer.status_code == 403
    assert answer.json == {"error": "This account belongs to another user."}
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
def test_request_without_token_is_unauthenticated(post, path, headers):
    """An API key is not accepted in place of an access token."""
    answer = post(path, {"user_id": "ada"}, headers)

    assert answer.status_code == 401
    assert "error" in answer.json
