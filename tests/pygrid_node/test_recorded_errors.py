"""Every recorded answer to a wrong request is given as recorded, or as in `BETTER`, which has the reasons."""

import json
from pathlib import Path

import pytest

from pygrid_wire import syft_pb2 as pb

pytestmark = pytest.mark.moto

DATA = Path(__file__).parents[1] / "data" / "pygrid"
ENTRIES = json.loads((DATA / "errors.json").read_text())
CREDENTIAL = ("us@er", "p/w")
TRACE = "Traceback (most recent call last):"
NOT_JSON = "Expecting value: line 1 column 1 (char 0)"
NO_PROCESS = "Not found any process related with this cycle and worker ID."

# A model without a minimum speed needs no speeds. PyGrid requires them for a minimum of 0 as well.
_SPEEDS = {"minimum_upload_speed": 1, "minimum_download_speed": 1}
# what -> (status, error text or None for a success, why not as recorded)
BETTER = {
    "authenticate: body is not JSON": (400, NOT_JSON, "HTML 500 for the client's own mistake"),
    "authenticate: empty body": (400, NOT_JSON, "HTML 500 for the client's own mistake"),
    "get-model: model id not a number": (400, "Model ID not found!", "500 with the text of the SQL"),
    "retrieve-model: unknown name": (404, NO_PROCESS, "500 for what is only absent"),
    "retrieve-model: unknown version": (404, NO_PROCESS, "500 for what is only absent"),
    "retrieve-model: no parameters": (404, NO_PROCESS, "500 for what is only absent"),
    "speed-test: no parameters": (400, "'worker_id' is required", "500 with the text of a TypeError"),
    "speed-test: random missing": (400, "'random' is required", "500 with the text of a TypeError"),
    "unknown path": (404, "Not Found", "HTML to a client that reads JSON"),
    "trailing slash": (404, "Not Found", "HTML to a client that reads JSON"),
    "report: diff missing": (200, "'diff' is required", "the text of an AttributeError"),
    "report: empty data": (None, "Worker ID not found!", "the text of an AttributeError"),
    "authenticate: no data": (None, "'data' is required", "the text of an AttributeError"),
    "host-training: empty data": (None, "'client_config' is required", "the text of an AttributeError"),
    "host-training: averaging_plan absent": (
        None,
        "'averaging_plan' is required",
        "an AttributeError's text",
    ),
    "host-training: the same again after that refusal (the refused process row stays)": (
        None,
        None,
        "a refused upload leaves nothing, so artificienlib's second try succeeds",
    ),
    "host-training: model is valid hex but no State (NOT detected)": (
        None,
        "The model can't be read: these bytes are not a state",
        "success for garbage",
    ),
    "report: diff is not base64 (accepted as success, stored as an empty diff)": (
        200,
        "The diff is not base64: Only base64 data is allowed",
        "success for garbage, which then wedged the model",
    ),
    "report: garbage diff (accepted as success; the cycle can then never be averaged on the original node)": (
        200,
        "The diff can't be read: these bytes are not a state",
        "success for garbage, which then wedged the model",
    ),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory, orchestrator_of_module, recorded, running_node):
    """A node in the state of the recording, and the values of the placeholders in the requests."""
    node = running_node(tmp_path_factory.mktemp("errors"), orchestrator_of_module)
    for name, changes in {
        "fixture-errors": _SPEEDS,
        "fixture-errors-done": {"max_diffs": 1, "num_cycles": 1},
        "fixture-errors-slow": {"minimum_upload_speed": 1000, "minimum_download_speed": 1000},
        "fixture-errors-auth": {"authentication": {"secret": "s3cret"}},
        "fixture-linear": {},
    }.items():
        config = {f"server_config__{key}": value for key, value in changes.items()}
        assert node.upload(recorded(client_config__name=name, **config)) == {"status": "success"}
    worker, done = node.worker("fixture-errors"), node.worker("fixture-errors-done")
    done.report((DATA / "linear" / "diff-1.bin").read_bytes())
    while not node.checkpoint("fixture-errors-done", 2).ok:
        pass
    plan_id = worker.accepted["plans"]["training_plan"]
    values = {
        **worker.proof,
        "model_id": worker.accepted["model_id"],
        "plan_id": plan_id,
        "plan_id-1": plan_id - 1,
        "other_worker_id": authenticated(node, "fixture-errors"),
        "slow_worker_id": authenticated(node, "fixture-errors-slow"),
        "finished_worker_id": done.id,
        "finished_request_key": done.accepted["request_key"],
        "finished_model_id": done.accepted["model_id"],
        "finished_plan_id": done.accepted["plans"]["training_plan"],
    }
    yield node, values
    node.close()


def authenticated(node, name):
    return node.ask("authenticate", {"model_name": name, "model_version": "0.1"})["worker_id"]


def filled(value, values):
    text = json.dumps(value)
    for key, number in values.items():
        text = text.replace("{" + key + "}", str(number))
    return json.loads(text)


def changed_frame(request, recorded):
    """Return the frame `websocket_frame_from` with `changes_to_data`."""
    changes = {}
    for path, value in request["changes_to_data"].items():
        if isinstance(value, str) and value.startswith("Plan with"):
            changes["plans"] = {"training_plan": without(recorded, value)}
        else:
            changes[path.replace(".", "__")] = None if value == "<absent>" else value
    return recorded(request["websocket_frame_from"].partition("/")[0], **changes)


def without(recorded, description):
    plan = pb.Plan.FromString(bytes.fromhex(recorded()["data"]["plans"]["training_plan"]))
    if "tfjs" in description:
        del plan.roles["tfjs"]
    else:
        plan.ClearField("torchscript")
    return plan.SerializeToString().hex()


def perform(node, request, recorded):
    """Send a request; return status (None over WebSocket) and body of the answer."""
    if "websocket_frame_from" in request:
        return None, node.frames(changed_frame(request, recorded))[0]
    if "websocket_frame" in request:
        return None, node.frames(request["websocket_frame"])[0]
    body = request.get("raw_body", json.dumps(request.get("body")))
    # Like the orchestration service. The original node requires no credential.
    options = {"params": request.get("query"), "data": body, "auth": CREDENTIAL}
    answer = node.http(request["method"], request["path"], **options)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    return answer.status_code, answer.json()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["what"])
def test_error_is_answered_as_recorded_or_better(scene, recorded, entry):
    """Status, keys and text are the recorded ones, without tracebacks; exceptions are in the table."""
    node, values = scene
    request = filled(entry["request"], values)
    if entry["what"].startswith("host-training: the same again"):
        node.frames(
            changed_frame(
                request | {"changes_to_data": request["changes_to_data"] | {"model": "zz"}}, recorded
            )
        )
    status, body = perform(node, request, recorded)
    data = body.get("data", body)

    if entry["what"] in BETTER:
        want_status, want_error, _ = BETTER[entry["what"]]
        assert (status, data.get("error")) == (want_status, want_error)
        return
    want = entry["body"].get("data", entry["body"])
    assert status == entry["status"]
    assert body.get("type") == entry["body"].get("type")
    assert list(data) == list(want)
    assert data.get("status") == want.get("status")
    assert bool(data.get("error")) == ("error" in want)
    # A sentence may go on where the original had only a key's name in quotes, or nothing.
    assert data.get("error", "").startswith(want.get("error", "").removesuffix(TRACE))


def test_every_deviation_is_one_of_a_recorded_answer():
    """The table has no entry that is not in the recording."""
    assert BETTER.keys() <= {entry["what"] for entry in ENTRIES}
