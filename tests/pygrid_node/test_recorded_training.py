"""The three recorded processes: upload, six workers in two cycles, two progress messages."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pygrid_wire import decode_state
from pygrid_wire import syft_pb2 as pb
from tests.pygrid_node.helpers import wait_for

pytestmark = pytest.mark.moto

DATA = Path(__file__).parents[1] / "data" / "pygrid"
RECORDED = ["linear", "mlp", "linear-noavg"]


def train(node, process, workers, over):
    """Report the recorded diffs of one cycle."""
    for number in workers:
        worker = node.worker(f"fixture-{process}", over)
        assert worker.report((DATA / process / f"diff-{number}.bin").read_bytes()) == {"status": "success"}


@pytest.mark.parametrize("process", RECORDED)
def test_recorded_process_ends_in_the_recorded_checkpoints(node, orchestrator, process):
    """`new = old - mean(diffs)`, to 1e-6 of what PyGrid calculated; 50 and 100 % are sent."""
    expected = json.loads((DATA / process / "expected.json").read_text())
    frame = (DATA / process / "upload.request.json").read_text()
    answer = node.frames(frame)[0]
    train(node, process, (1, 2, 3), over="http")
    train(node, process, (4, 5, 6), over="ws")
    wait_for(lambda: len(orchestrator.calls) == 2)

    assert answer == json.loads((DATA / process / "upload.response.json").read_text())
    for number in (1, 2, 3):
        arrays = decode_state(node.checkpoint(f"fixture-{process}", number).content)
        for array, want in zip(arrays, expected[f"checkpoint_{number}"], strict=True):
            assert np.abs(array - np.array(want)).max() <= 1e-6
    assert node.checkpoint(f"fixture-{process}").content == node.checkpoint(f"fixture-{process}", 3).content
    assert orchestrator.calls == [
        {"percent_complete": 50, "model_id": f"fixture-{process}", "cycle": 1, "cycles": 2},
        {"percent_complete": 100, "model_id": f"fixture-{process}", "cycle": 2, "cycles": 2},
    ]
    assert node.worker(f"fixture-{process}").accepted == {"status": "rejected"}


@pytest.mark.parametrize("over", ["http", "ws"])
def test_answers_have_the_recorded_keys_and_types(node, recorded, over):
    """Only ids, keys and times differ, and that no speed test is required for a minimum speed of 0."""
    name = {"http": "worker-1.http.json", "ws": "worker-4.ws.json"}[over]
    record = json.loads((DATA / "linear" / name).read_text())
    node.upload(recorded())
    worker = node.worker("fixture-linear", over)

    def answer(step):
        entry = record[step]
        return entry["response"]["body"] if over == "http" else entry["received"]["data"]

    mine = worker.authenticated
    assert list(mine) == list(answer("authenticate"))
    assert mine | {"worker_id": ""} == answer("authenticate") | {
        "worker_id": "",
        "requires_speed_test": False,
    }
    ids = {"request_key": "", "model_id": 0, "plans": {}}
    assert list(worker.accepted) == list(answer("cycle_request"))
    assert worker.accepted | ids == answer("cycle_request") | ids
    assert len(bytes.fromhex(worker.accepted["request_key"])) == 32
    assert [*map(type, worker.accepted["plans"].values())] == [int]


def test_rejected_worker_gets_whole_seconds(node, recorded):
    """The keys are as recorded; the time is a number, because SwiftSyft cannot decode the recorded text."""
    node.upload(recorded())
    rejection = node.worker("fixture-linear").ask_again()
    record = json.loads((DATA / "linear" / "rejected.json").read_text())["response"]["body"]

    assert list(rejection) == list(record)
    assert rejection | {"timeout": 0} == record | {"timeout": 0}
    assert 590 < rejection["timeout"] <= 600


def test_phone_that_never_reports_does_not_block_the_only_place(node, orchestrator, recorded):
    """By default a quarter more workers are assigned than the upload says, here one, for two minutes."""
    node.upload(recorded(server_config__max_diffs=1, server_config__max_workers=1))
    node.worker("fixture-linear")
    second, third = node.worker("fixture-linear"), node.worker("fixture-linear")

    assert (second.accepted["status"], third.accepted["status"]) == ("accepted", "rejected")
    assert 110 < third.accepted["timeout"] <= 120
    assert second.report((DATA / "linear" / "diff-1.bin").read_bytes()) == {"status": "success"}
    wait_for(lambda: orchestrator.calls)


def test_worker_gets_the_uploaded_model_and_each_form_of_the_plan(node, recorded):
    """The model byte for byte; no proxy may cache it, because the next cycle has another one."""
    node.upload(recorded())
    worker = node.worker("fixture-linear")
    query = worker.proof | {"model_id": worker.accepted["model_id"]}
    model = node.http("GET", "/model-centric/get-model", params=query)
    query = worker.proof | {"plan_id": worker.accepted["plans"]["training_plan"]}
    plans = {
        form: node.http("GET", "/model-centric/get-plan", params=query | {"receive_operations_as": form})
        for form in ("torchscript", "tfjs", "list", "else")
    }

    assert model.content == (DATA / "linear" / "model.checkpoint-1.bin").read_bytes()
    assert model.headers["Cache-Control"] == "no-store"
    assert model.headers["Content-Type"] == "application/octet-stream"
    assert pb.Plan.FromString(plans["torchscript"].content).torchscript.startswith(b"PK")
    assert pb.Plan.FromString(plans["tfjs"].content).base_framework == "tfjs"
    assert plans["list"].content == plans["else"].content


def test_form_that_a_plan_does_not_have_is_an_error(node, recorded):
    """PyGrid answers a plan without operations, at which the iOS pod ends the app."""
    upload = recorded()
    plan = pb.Plan.FromString(bytes.fromhex(upload["data"]["plans"]["training_plan"]))
    plan.ClearField("torchscript")
    upload["data"]["plans"]["training_plan"] = plan.SerializeToString().hex()
    assert node.upload(upload) == {"status": "success"}
    worker = node.worker("fixture-linear")
    query = worker.proof | {"plan_id": worker.accepted["plans"]["training_plan"]}
    answers = {
        form: node.http("GET", "/model-centric/get-plan", params=query | {"receive_operations_as": form})
        for form in ("torchscript", "tfjs", "list")
    }

    assert answers["torchscript"].status_code == 400
    assert answers["torchscript"].json() == {
        "error": "This plan has no TorchScript; ask for its operations as 'list' or 'tfjs'."
    }
    assert [bool(pb.Plan.FromString(answers[form].content).role.actions) for form in ("tfjs", "list")] == [
        True,
        True,
    ]


def test_worker_of_a_former_cycle_gets_nothing_of_the_next(node, recorded, orchestrator):
    """Its key is for a cycle that is over. Its report is a success, as in PyGrid, but one that isn't counted.

    Some clients stop at an error, and the worker did nothing wrong.
    """
    node.upload(recorded(server_config__max_diffs=1))
    late, early = node.worker("fixture-linear"), node.worker("fixture-linear")
    diff = (DATA / "linear" / "diff-1.bin").read_bytes()
    early.report(diff)
    wait_for(lambda: orchestrator.calls)
    query = late.proof | {"model_id": late.accepted["model_id"]}

    assert node.http("GET", "/model-centric/get-model", params=query).json() == {"error": "Cycle not found!"}
    assert late.report(diff) == {
        "status": "success",
        "counted": False,
        "detail": "The cycle is over; this report came too late to be counted.",
    }
    assert early.report(diff) == {"status": "success"}
    assert node.checkpoint("fixture-linear", 3).status_code == 404


def test_worker_that_asks_while_a_cycle_is_averaged_enters_the_next(node, recorded):
    """One request is enough: the answer waits for the averaging."""
    node.upload(recorded(server_config__max_diffs=1, server_config__num_cycles=5))
    for _ in range(5):
        worker = node.worker("fixture-linear")
        assert worker.report((DATA / "linear" / "diff-1.bin").read_bytes()) == {"status": "success"}

    wait_for(lambda: node.checkpoint("fixture-linear", 6).ok)


def test_reports_at_the_same_time_all_count(node, recorded):
    """No report is lost, and the cycle is closed once."""
    size = 8
    node.upload(recorded(server_config__max_diffs=size, server_config__max_workers=size, averaging_plan=""))
    workers = [node.worker("fixture-linear") for _ in range(size)]
    diff = (DATA / "linear" / "diff-1.bin").read_bytes()
    with ThreadPoolExecutor(size) as threads:
        answers = list(threads.map(lambda worker: worker.report(diff), workers))
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)
    before, after = (decode_state(node.checkpoint("fixture-linear", number).content) for number in (1, 2))

    assert answers == [{"status": "success"}] * size
    for old, new, step in zip(before, after, decode_state(diff), strict=True):
        assert np.abs(old - step - new).max() <= 1e-6
