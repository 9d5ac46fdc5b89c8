"""One `curl` for each route, to be pasted where `local.env` was sourced."""

import json
from dataclasses import dataclass

AS_SCIENTIST = '-H "Authorization: Bearer $TOKEN"'
AS_DEVELOPER = '-H "Authorization: Bearer $(artificien local token --as developer)"'
AS_PHONE = '-H "api_key: $API_KEY"'


@dataclass(frozen=True, slots=True)
class Curl:
    """A request that works as it stands, and who may send it."""

    route: str
    caller: str
    command: str


def curls() -> tuple[Curl, ...]:
    """Return the requests, in the order in which they make sense."""
    create = _json(
        dataset_id="$DATASET_ID", model_id="$MODEL_ID", features=["age", "bmi"], labels=["progression"]
    )
    return (
        Curl("GET /", "anybody", "curl $ORCHESTRATION_URL/"),
        _post("/get_datasets", "a data scientist", AS_SCIENTIST, _json(user_id="$DS_USERNAME")),
        _post("/info", "a phone", AS_PHONE, _json(dataset_id="$DATASET_ID")),
        _post("/create", "a data scientist; again until ready", AS_SCIENTIST, create),
        _post("/model_loss", "a phone", "", _json(model_id="$MODEL_ID", loss=0.5, acc=-1)),
        _post(
            "/model_progress",
            "a node only: answers 401 here",
            "-u some-node:its-secret",
            _json(model_id="$MODEL_ID", percent_complete=10),
        ),
        _post(
            "/delete",
            "a data scientist; the node goes with its last model",
            AS_SCIENTIST,
            _json(model_id="$MODEL_ID"),
        ),
        _post("/generate_key", "an app developer", AS_DEVELOPER, _json(user_id="$DEVELOPER_USERNAME")),
    )


def _post(route: str, caller: str, credential: str, body: str) -> Curl:
    parts = ("curl", f"$ORCHESTRATION_URL{route}", credential, "-H 'Content-Type: application/json'", body)
    return Curl(f"POST {route}", caller, " ".join(filter(None, parts)))


def _json(**fields: str | float | list[str]) -> str:
    r"""Write a body for a double-quoted shell word, in which variables are replaced."""
    text = json.dumps(fields).replace('"', '\\"')
    return f'-d "{text}"'
