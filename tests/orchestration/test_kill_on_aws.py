"""The same as `test_kill_everywhere.py` with the real adapters: killed after every call that goes out to AWS.

Tables, bucket and secrets are moto's, stacks and tasks the fake's. One story, from submission to download,
since each call takes moto milliseconds.
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
"""Every how many points; 1 is all of them."""


class Deployment:
    """An AWS with tables, bucket and cluster; processes come and go."""

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
        """Start one; every call of it to AWS is noted."""
        parts = Parts(SETTINGS)
        session = boto3.Session(region_name="us-east-1")
        session.events.register("after-call", lambda model, **_: wire.passed(f"{model.name}"))
        cloud = self.cloud
        clients = (tapped(cloud.cloudformation, "cloudformation", wire), tapped(cloud.ecs, "ecs", wire))
        stacks = node_stacks(*clients, cloud.clock)
        parts.__dict__.update(_session=session, stacks=stacks, server=cloud.server)
        return parts


def story(parts: Parts, deployment: Deployment) -> None:
    """Asked for until it is up, trained, home, and its node gone. It can be begun again."""
    until(lambda: is_ready(parts), parts, deployment)
    node = parts.nodes.get(NODE)
    if node is not None and node.status is NodeStatus.READY:
        with suppress(OrchestrationError):
            parts.progress.record(MODEL, Progress(100, 10), node=node)
    until(lambda: is_home(parts, deployment), parts, deployment)


def is_ready(parts: Parts) -> bool:
    if not parts.models.get(MODEL).is_active:
        return True
    with suppress(OrchestrationError):
        return request_node(parts.services.nodes).address is not None
    return False


def is_home(parts: Parts, deployment: Deployment) -> bool:
    node = parts.nodes.get(NODE)
    stands = deployment.cloud.census.of_node(NODE)
    return bool(parts.models.get(MODEL).download_key) and node.status is NodeStatus.ABSENT and not stands


def until(is_over: Callable[[], bool], parts: Parts, deployment: Deployment) -> None:
    for _ in range(LONGEST):
        if is_over():
            return
        parts.reconciler.attend()
        parts.reconciler.run_pass()
        deployment.cloud.clock.tick(PASS)
    pytest.fail("It never came to its end.")


@contextmanager
def empty_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """One for each point: nothing of the run before is in it."""
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


def left_of(deployment: Deployment) -> dict[str, Any]:
    """What the end of the story should look like, and what it does."""
    session = deployment.session
    table = session.resource("dynamodb").Table
    files = session.client("s3").list_objects_v2(Bucket=SETTINGS.model_bucket).get("Contents", [])
    model = table("model_table").get_item(Key={"model_id": MODEL})["Item"]
    dataset = table("dataset_table").get_item(Key={"dataset_id": DATASET})["Item"]
    quota = table("node_table").get_item(Key={"node_id": "quota:all"}).get("Item", {})
    return {
        "stacks": deployment.cloud.census.of_node(NODE),
        "most at once": deployment.cloud.census.most_at_once(NODE),
        "secrets": session.client("secretsmanager").list_secrets()["SecretList"],
        "files": len(files),
        "cycles": len(model["history"]),
        "link": bool(model.get("download_link")),
        "due": model.get("retrieval_due"),
        "node_URL": model.get("node_URL"),
        "nodeURL": dataset.get("nodeURL"),
        "awake": int(quota.get("awake", 0)),
    }


WELL = {
    "stacks": [],
    "most at once": 1,
    "secrets": [],
    "files": 2,
    "cycles": 1,
    "link": True,
    "due": None,
    "node_URL": None,
    "nodeURL": None,
    "awake": 0,
}


def run_killed_at(point: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    """Run the story, in a process that is killed there, and then in one that isn't."""
    with empty_aws(monkeypatch) as deployment:
        wire = Wire(point, die)
        with suppress(Crash):
            story(deployment.process(wire), deployment)
        if point is not None:
            story(deployment.process(Wire()), deployment)
            deployment.cloud.clock.tick(2 * 3600.0)
            deployment.process(Wire()).reconciler.run_pass()
        return left_of(deployment), wire.calls


def test_killed_after_any_call_to_aws_the_model_still_comes_home(monkeypatch):
    """One stack, one file in two forms, one closed cycle, one quota; nothing is left of the node."""
    undisturbed, calls = run_killed_at(None, monkeypatch)
    points = range(1, len(calls) + 1, EVERY)
    faults = {}
    for point in points:
        left, _ = run_killed_at(point, monkeypatch)
        faults |= {point: (calls[point - 1], left)} if left != WELL else {}

    assert undisturbed == WELL
    assert len(calls) > 60
    assert faults == {}
