"""As `test_kill_everywhere.py`, with the real adapters: the process dies after any call to AWS.

moto provides tables, bucket and secrets, the fakes provide stacks and tasks. There is one scenario, from
submission to download, because each call to moto takes milliseconds.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import boto3
import numpy as np
import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.errors import OrchestrationError
from orchestration.domain.node import NodeStatus
from orchestration.pygrid_orchestration import Parts
from pygrid_wire.state import encode_state
from tests.builders import DATASET, MODEL, dataset_item, submitted_item, user_item
from tests.cloud import NODE, Cloud, a_cloud, node_stacks
from tests.fakes import Crash, Wire
from tests.fakes.table import table_definitions
from tests.fakes.world import tapped
from tests.processes import request_node
from tests.web import settings

pytestmark = [pytest.mark.moto, pytest.mark.usefixtures("own_logs", "no_logs")]

SETTINGS = settings(node_grace=100.0, reconcile_interval=1.0)
PASS = 60.0
LONGEST = 60
EVERY = int(os.environ.get("KILL_EVERY_CALL", "15"))
"""Kill the process at every n-th point; 1 means all of them."""


class Deployment:
    """An AWS with tables, bucket and cluster, on which processes are started."""

    def __init__(self, session: boto3.Session, cloud: Cloud) -> None:
        self.session = session
        self.cloud = cloud
        cloud.server.state = encode_state([np.ones((2, 3), np.float32)])
        dynamo, s3 = session.client("dynamodb"), session.client("s3")
        for definition in table_definitions().values():
            dynamo.create_table(**definition)
        s3.create_bucket(Bucket=SETTINGS.model_bucket)
        table = session.resource("dynamodb").Table
        table("model_table").put_item(Item=submitted_item())
        table("dataset_table").put_item(Item=dataset_item())
        table("user_table").put_item(Item=user_item())

    def process(self, wire: Wire) -> Parts:
        """Start a process whose calls to AWS are recorded on the wire."""
        parts = Parts(SETTINGS)
        session = boto3.Session(region_name="us-east-1")
        session.events.register("after-call", lambda model, **_: wire.passed(f"{model.name}"))
        cloud = self.cloud
        clients = (tapped(cloud.cloudformation, "cloudformation", wire), tapped(cloud.ecs, "ecs", wire))
        stacks = node_stacks(*clients, cloud.clock)
        parts.__dict__.update(_session=session, stacks=stacks, server=cloud.server)
        return parts


def scenario(parts: Parts, deployment: Deployment) -> None:
    """Request the node, complete the model, and wait until it is retrieved and the node is stopped.

    The scenario can be repeated from any point.
    """
    until(lambda: is_ready(parts), parts, deployment)
    node = parts.nodes.get(NODE)
    if node is not None and node.status is NodeStatus.READY:
        with suppress(OrchestrationError):
            parts.progress.record(MODEL, Progress(100, 10), node=node)
    until(lambda: is_finished(parts, deployment), parts, deployment)


def is_ready(parts: Parts) -> bool:
    if not parts.models.get(MODEL).is_active:
        return True
    with suppress(OrchestrationError):
        return request_node(parts.services.nodes).address is not None
    return False


def is_finished(parts: Parts, deployment: Deployment) -> bool:
    node = parts.nodes.get(NODE)
    stacks = deployment.cloud.census.of_node(NODE)
    return bool(parts.models.get(MODEL).download_key) and node.status is NodeStatus.ABSENT and not stacks


def until(is_complete: Callable[[], bool], parts: Parts, deployment: Deployment) -> None:
    for _ in range(LONGEST):
        if is_complete():
            return
        parts.reconciler.attend()
        parts.reconciler.run_pass()
        deployment.cloud.clock.tick(PASS)
    pytest.fail("The scenario did not complete.")


@contextmanager
def empty_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Yield an empty AWS. Each point gets its own."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        cloud = a_cloud(validate=False)
        clock = SimpleNamespace(time=cloud.clock)
        monkeypatch.setattr("orchestration.pygrid_orchestration.time", clock)
        yield Deployment(boto3.Session(region_name="us-east-1"), cloud)


def die() -> None:
    raise Crash


def state_of(deployment: Deployment) -> dict[str, Any]:
    """Return what stacks, secrets, files and tables show at the end of the scenario."""
    session = deployment.session
    table = session.resource("dynamodb").Table
    files = session.client("s3").list_objects_v2(Bucket=SETTINGS.model_bucket).get("Contents", [])
    model = table("model_table").get_item(Key={"model_id": MODEL})["Item"]
    dataset = table("dataset_table").get_item(Key={"dataset_id": DATASET})["Item"]
    record = table("training_table").get_item(Key={"name": MODEL})["Item"]
    quota = table("node_table").get_item(Key={"node_id": "quota:all"}).get("Item", {})
    return {
        "stacks": deployment.cloud.census.of_node(NODE),
        "most at once": deployment.cloud.census.most_at_once(NODE),
        "secrets": session.client("secretsmanager").list_secrets()["SecretList"],
        "files": len(files),
        "cycles": (len(record["history"]), len(model["history"])),
        "link": model["download_link"] == record["download_link"],
        "due": record.get("retrieval_due"),
        "shown": (model["active_status"], model["percent_complete"]),
        "node_URL": (record.get("node_URL"), record.get("shown_on"), model.get("node_URL")),
        "nodeURL": dataset.get("nodeURL"),
        "awake": int(quota.get("awake", 0)),
    }


EXPECTED = {
    "stacks": [],
    "most at once": 1,
    "secrets": [],
    "files": 3,
    "cycles": (1, 1),
    "link": True,
    "due": None,
    "shown": (0, 100),
    "node_URL": (None, None, None),
    "nodeURL": None,
    "awake": 0,
}


def run_killed_at(point: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """Run the scenario in a process that is killed at a point, then in one that is not.

    Return the final state and the calls of the first process.
    """
    with empty_aws(monkeypatch) as deployment:
        wire = Wire(point, die)
        with suppress(Crash):
            scenario(deployment.process(wire), deployment)
        if point is not None:
            scenario(deployment.process(Wire()), deployment)
            deployment.cloud.clock.tick(2 * 3600.0)
            deployment.process(Wire()).reconciler.run_pass()
        return state_of(deployment), wire.calls


def test_scenario_killed_after_any_call_to_aws_is_completed(monkeypatch):
    """The model is in the bucket in two forms with one closed cycle, and nothing is left of the node."""
    undisturbed, calls = run_killed_at(None, monkeypatch)
    points = range(1, len(calls) + 1, EVERY)
    faults = {}
    for point in points:
        state, _ = run_killed_at(point, monkeypatch)
        faults |= {point: (calls[point - 1], state)} if state != EXPECTED else {}

    assert undisturbed == EXPECTED
    assert len(calls) > 60
    assert faults == {}
