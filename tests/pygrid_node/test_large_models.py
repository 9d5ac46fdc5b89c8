"""Models of many parts, in a real process: their numbers, and their memory."""

import base64
import json
import sys

import numpy as np
import pytest

from pygrid_node.storage.blobs import PART
from pygrid_wire import decode_state, encode_state
from tests.node_process import NodeProcess
from tests.pygrid_node.helpers import memory, wait_for

pytestmark = pytest.mark.moto

RANDOM = np.random.default_rng(3)
MODEL = RANDOM.normal(0, 0.05, (2000, 2500)).astype(np.float32)  # 20 MB
DIFFS = [RANDOM.normal(0, 1e-3, MODEL.shape).astype(np.float32) for _ in range(2)]
BODY = encode_state([MODEL])
NAME = "fixture-linear"


@pytest.fixture
def process(tmp_path, orchestrator):
    process = NodeProcess(tmp_path, orchestrator.location)
    process.start()
    wait_for(process.answers)
    yield process
    process.kill()


@pytest.fixture
def large(recorded):
    """An upload of 20 MB; its cycles end with two diffs."""
    changes = {"model": BODY.hex(), "averaging_plan": "", "server_config__max_diffs": 2}
    return recorded(**changes, server_config__min_workers=1, server_config__max_workers=4)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_model_takes_a_small_multiple_of_its_size(process, client_of, large):
    """Upload, download, two reports and their average take less than seven times the model.

    The second report is of Android: its base64 has lines of 76 characters.
    """
    node = client_of(process.address)
    at_rest = memory(process, "VmRSS")
    node.frames(json.dumps(large))
    workers = [node.worker(NAME, over) for over in ("ws", "http")]
    first, second = (encode_state([diff]) for diff in DIFFS)
    for worker, diff in zip(workers, (first, base64.encodebytes(second).decode()), strict=True):
        query = {**worker.proof, "model_id": worker.accepted["model_id"]}
        assert node.http("GET", "/model-centric/get-model", params=query).content == BODY
        assert worker.report(diff) == {"status": "success"}
    wait_for(lambda: node.retrieve("HEAD", params={"name": NAME, "checkpoint": 2}).ok)
    [averaged] = decode_state(node.checkpoint(NAME).content)

    assert np.abs(averaged - (MODEL - np.mean(DIFFS, axis=0, dtype=np.float64))).max() < 1e-7
    assert memory(process, "VmHWM") - at_rest < 7 * len(BODY)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_large_model_is_sent_with_its_length(node, large, method):
    """HEAD sends no body."""
    node.upload(large)
    query = {"name": NAME, "checkpoint": 1}
    answer = node.retrieve(method, params=query)

    assert len(BODY) > PART
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.content == (BODY if method == "GET" else b"")


def test_worker_may_disconnect_during_a_download(node, large):
    """Other downloads are complete."""
    node.upload(large)
    query = {"name": NAME, "checkpoint": 1}
    for _ in range(3):
        answer = node.retrieve(params=query, stream=True)
        answer.raw.read(1000)
        answer.close()

    assert node.checkpoint(NAME).content == BODY
