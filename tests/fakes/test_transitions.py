"""A stack of the fake changes its status only as CloudFormation allows."""

import contextlib
import random
from itertools import pairwise

import pytest
from botocore.exceptions import ClientError

from tests.fakes import Creation, Deletion, Fate, Import, Operator, Update

DELETED = {"DELETE_IN_PROGRESS"}
CHANGED = {"UPDATE_IN_PROGRESS", "IMPORT_IN_PROGRESS"} | DELETED
ALLOWED = {
    "": {"CREATE_IN_PROGRESS"},
    "CREATE_IN_PROGRESS": {"CREATE_COMPLETE", "CREATE_FAILED", "ROLLBACK_IN_PROGRESS"} | DELETED,
    "CREATE_COMPLETE": CHANGED,
    "CREATE_FAILED": {"ROLLBACK_IN_PROGRESS"} | CHANGED,
    "ROLLBACK_IN_PROGRESS": {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED"},
    "ROLLBACK_COMPLETE": DELETED,
    "ROLLBACK_FAILED": DELETED,
    "DELETE_IN_PROGRESS": {"DELETE_COMPLETE", "DELETE_FAILED"},
    "DELETE_FAILED": DELETED,
    "DELETE_COMPLETE": set(),
    "UPDATE_IN_PROGRESS": {
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_IN_PROGRESS",
    },
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": {"UPDATE_COMPLETE"},
    "UPDATE_COMPLETE": CHANGED,
    "UPDATE_FAILED": {"UPDATE_ROLLBACK_IN_PROGRESS"} | CHANGED,
    "UPDATE_ROLLBACK_IN_PROGRESS": {
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_FAILED",
    },
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": {"UPDATE_ROLLBACK_COMPLETE"},
    "UPDATE_ROLLBACK_COMPLETE": CHANGED,
    "UPDATE_ROLLBACK_FAILED": {"UPDATE_ROLLBACK_IN_PROGRESS"} | DELETED,
    "IMPORT_IN_PROGRESS": {"IMPORT_COMPLETE", "IMPORT_ROLLBACK_IN_PROGRESS"},
    "IMPORT_COMPLETE": CHANGED,
    "IMPORT_ROLLBACK_IN_PROGRESS": {"IMPORT_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_FAILED"},
    "IMPORT_ROLLBACK_COMPLETE": CHANGED,
    "IMPORT_ROLLBACK_FAILED": DELETED,
}


def interfere(client, arn, rng):
    """Call a random operation on the stack, whether CloudFormation allows it or not."""
    operator = Operator(client)
    service = {"RetainResources": ["ServiceD69D759B"]}
    act = rng.choice(
        [
            lambda: client.delete_stack(StackName=arn),
            lambda: client.delete_stack(StackName=arn, **service),
            lambda: client.delete_stack(StackName=arn, DeletionMode="FORCE_DELETE_STACK"),
            lambda: client.cancel_update_stack(StackName=arn),
            lambda: client.rollback_stack(StackName=arn),
            lambda: client.continue_update_rollback(StackName=arn),
            lambda: operator.update(arn, rng.choice(list(Update))),
            lambda: operator.import_into(arn, rng.choice(list(Import))),
        ]
    )
    with contextlib.suppress(ClientError):
        act()


@pytest.mark.parametrize("seed", range(40))
def test_status_changes_only_as_cloudformation_allows(account, launch, clock, seed):
    """Operations interfere at any moment; botocore's model validates every response."""
    rng = random.Random(seed)
    fate = Fate(
        creation=rng.choice(list(Creation)),
        fails_at=rng.choice(["LoadBalancer", "Target", "Task", "Service"]),
        deletion=rng.choice(list(Deletion)),
        stuck=rng.choice(["LoadBalancer", "Task", "Service"]),
    )
    client = account(fate)
    arn = launch(client, OnFailure=rng.choice(["ROLLBACK", "DO_NOTHING", "DELETE"]))
    for _ in range(30):
        clock.tick(rng.choice([1, 30, 90, 700]))
        interfere(client, arn, rng)
        client.describe_stacks(StackName=arn)
        client.describe_stack_events(StackName=arn)

    stack = client.account.by_arn[arn]
    seen = ["", *(snapshot.status for snapshot in stack.history)]
    assert [pair for pair in pairwise(seen) if pair[1] not in ALLOWED[pair[0]]] == []
    times = [snapshot.at for snapshot in stack.history]
    assert times == sorted(times)
    events = [event.step.at for event in stack.events]
    assert events == sorted(events)
    if not stack.exists:
        left = {stack.resources[id_].status for id_ in stack.made()}
        assert left <= {"DELETE_SKIPPED", "DELETE_FAILED"}, "only retained or skipped resources are left"
