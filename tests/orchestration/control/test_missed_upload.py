"""A model that was accepted but not uploaded keeps its node running for an hour."""

import pytest

from orchestration.control.collect import MISSED as SENTENCE
from orchestration.domain.node import node_id_of
from tests.builders import DATASET, MODEL, NOON, a_submission
from tests.processes import IDLE_TIMEOUT, PASS, a_node_service, a_reconciler, reconcile, request_node

NODE = node_id_of(DATASET)
HOUR = 3600.0


@pytest.fixture
def ready(world):
    """The node is ready for a model that is not uploaded; return the world."""
    world.put(a_submission())
    request_node(a_node_service(world))
    return reconcile(world, passes=4)


def run_for(world, seconds, reconciler=None):
    reconciler = reconciler or a_reconciler(world)
    end = world.clock() + seconds
    while world.clock() < end:
        reconciler.run_pass()
        world.clock.tick(PASS)


def entries(world):
    items = world.dynamodb.items("audit_table")
    return [(e["actor"], e["subject"], e["result"]) for e in items if e["action"] == "model.upload"]


def test_model_that_is_not_uploaded_keeps_its_node_for_an_hour(ready):
    """Then the idle time-out starts."""
    run_for(ready, HOUR - 10 * PASS)
    before = ready.nodes.get(NODE)
    run_for(ready, 10 * PASS + IDLE_TIMEOUT + 10 * PASS)

    assert (before.should_run, before.idle_since) == (True, 0)
    assert not ready.nodes.get(NODE).should_run
    assert ready.stacks.standing(NODE) == []


def test_owner_is_told_once(ready):
    """In the audit log, and in each answer of `/create` until the upload."""
    ready.put(a_submission(model_id="other"))
    run_for(ready, HOUR / 2)
    request_node(a_node_service(ready), model_id="other")  # keeps the node running
    run_for(ready, HOUR)
    told = entries(ready)
    answer = request_node(a_node_service(ready))

    assert told == [("service", f"model:{MODEL}", SENTENCE)]
    assert answer.address
    assert answer.reason == SENTENCE


def test_owner_is_told_while_the_node_is_launched_again(ready):
    """The next answer of `/create` has no address."""
    run_for(ready, HOUR + 2 * IDLE_TIMEOUT)
    answer = request_node(a_node_service(ready))

    assert answer.address is None
    assert SENTENCE in answer.reason


def test_request_starts_a_new_hour(ready):
    """Also a request within the first hour, to ten minutes; each hour that ends is told once."""
    run_for(ready, HOUR - 10 * PASS)
    request_node(a_node_service(ready))
    run_for(ready, HOUR - 10 * PASS)
    request_node(a_node_service(ready))
    told = len(entries(ready))
    run_for(ready, HOUR - 10 * PASS)
    kept = ready.nodes.get(NODE)
    run_for(ready, HOUR)

    assert (told, kept.should_run, kept.idle_since) == (0, True, 0)
    assert len(entries(ready)) == 1
    assert not ready.nodes.get(NODE).should_run


def test_request_after_the_hour_launches_the_node_for_another(ready):
    """The model is on the node after it."""
    run_for(ready, HOUR + 2 * IDLE_TIMEOUT)
    request_node(a_node_service(ready))
    reconcile(ready, passes=4)
    run_for(ready, HOUR / 2)
    ready.models.record_hosted(ready.models.get(MODEL), ready.clock())
    run_for(ready, 2 * HOUR)

    assert ready.nodes.get(NODE).should_run
    assert request_node(a_node_service(ready)).reason == ""


def test_hour_starts_when_the_node_is_ready(world):
    """The launch takes some minutes."""
    world.put(a_submission())
    request_node(a_node_service(world))
    world.server.silent = True
    reconcile(world, passes=15)
    world.server.silent = False
    reconcile(world, passes=2)
    at = world.nodes.get(NODE).ready_at
    run_for(world, at + HOUR - world.clock() - PASS)

    assert at > NOON + 14 * PASS
    assert world.models.get(MODEL).released_at == 0
    run_for(world, 4 * PASS)
    assert world.models.get(MODEL).released_at > at + HOUR - PASS


@pytest.mark.parametrize("minutes", [4, 30, 55])
def test_model_on_an_original_node_is_found_soon(ready, minutes):
    """Such a node doesn't tell of an upload, and devices are not sent to it before."""
    reconciler = a_reconciler(ready)
    run_for(ready, minutes * 60, reconciler)
    ready.server.uploaded.add(MODEL)
    run_for(ready, 90, reconciler)

    assert ready.models.get(MODEL).is_hosted


def test_hosted_model_is_found_before_its_node_is_let_go(ready):
    """The original node doesn't tell of an upload."""
    run_for(ready, HOUR - 4 * PASS)
    ready.server.uploaded.add(MODEL)
    run_for(ready, 2 * HOUR)

    assert ready.models.get(MODEL).is_hosted
    assert ready.nodes.get(NODE).should_run
    assert entries(ready) == []


def test_node_that_does_not_say_keeps_running(ready):
    """The model may be on it."""
    ready.secrets.passwords.clear()
    run_for(ready, 2 * HOUR)

    assert ready.nodes.get(NODE).should_run
    assert entries(ready) == []


def test_upload_after_the_hour_keeps_the_node(ready):
    """Within the idle time-out the node still runs."""
    run_for(ready, HOUR + PASS)
    released = ready.models.get(MODEL)
    ready.models.record_hosted(released, ready.clock())
    run_for(ready, HOUR)

    assert released.released_at
    assert ready.models.get(MODEL).released_at == 0
    assert ready.nodes.get(NODE).should_run


def test_refused_upload_stays_in_the_reason(ready):
    """It is why the model is not on the node."""
    ready.models.upload_failed(ready.models.get(MODEL), "An upload was refused.", ready.clock())
    run_for(ready, HOUR + PASS)

    assert ready.models.get(MODEL).upload_failure == f"An upload was refused. {SENTENCE}"


def test_request_in_the_same_moment_wins(ready):
    """The record has changed since the reconciler has read it."""
    seen = ready.models.get(MODEL)
    ready.clock.tick(HOUR)
    request_node(a_node_service(ready))

    assert not ready.models.release(seen, SENTENCE, ready.clock())
    assert ready.models.get(MODEL).released_at == 0
    assert ready.models.get(MODEL).upload_failure == ""
