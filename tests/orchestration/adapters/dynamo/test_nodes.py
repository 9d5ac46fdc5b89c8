"""The node table: every write has a condition on the record that it replaces."""

from dataclasses import fields, replace
from decimal import Decimal

import pytest

from orchestration.adapters.dynamo import DynamoNodes
from orchestration.domain.errors import Overtaken, QuotaExceeded
from orchestration.domain.node import OF_A_GENERATION, DesiredState, Node, NodeStatus, Quota, node_id_of
from tests.builders import DATASET, NOON, a_node, node_item

RUNNING, STOPPED = DesiredState

QUOTA = Quota(per_buyer=2, in_all=3)


@pytest.fixture
def table(table_of):
    return table_of("node_table")


@pytest.fixture
def nodes(table):
    return DynamoNodes(table)


@pytest.fixture
def put(table):
    """Write a whole record."""
    return lambda node: table.put(node_item(node))


FULL = a_node(
    desired_state=RUNNING,
    status=NodeStatus.READY,
    generation=3,
    reason="r",
    failure="f",
    failed_generation=2,
    stack_id="arn",
    address="node.test",
    secret_hash="hash",
    requested_at=NOON + 0.123456789,
    requested_by="ada",
    charged_to="ada",
    launched_at=NOON - 1 / 3,
    ready_at=NOON,
    silent_at=NOON + 1 / 7,
    took=1 / 3,
    attempts=1,
    next_at=NOON + 30,
    deletions=2,
    deletion_at=NOON + 2,
    is_refused=True,
    repairs=1,
    failed_at=NOON - 1,
    idle_since=0.1,
    wake_at=NOON + 0.7,
    device_at=NOON - 60,
    progress_at=NOON - 2 / 3,
)

OF_AN_OLDER_VERSION = {
    "node_id": FULL.node_id,
    "dataset_id": DATASET,
    "wish": "up",
    "status": "ready",
    "generation": 3,
    "asked_at": Decimal(int(NOON)),
    "address": "node.test",
}
"""A record of a version that neither counted deletions nor let devices wake nodes."""


def test_stored_record_is_read(put, nodes):
    """Times are read exactly, because conditions compare them."""
    put(FULL)

    assert nodes.get(FULL.node_id) == FULL
    assert list(nodes.all()) == [FULL]


def test_full_record_sets_every_field():
    """So these tests notice a field that DynamoDB can't store."""
    assert not [field.name for field in fields(Node) if getattr(FULL, field.name) == field.default]


def test_missing_record_is_none(nodes):
    """No error is raised."""
    assert nodes.get(a_node().node_id) is None
    assert list(nodes.all()) == []


def test_request_creates_a_record(nodes):
    """It contains only the desired state and the request."""
    requested = nodes.request(DATASET, NOON, "ada")

    assert requested == a_node(desired_state=RUNNING, requested_at=NOON, requested_by="ada")
    assert nodes.get(requested.node_id) == requested


def test_repeated_request_changes_desired_state_and_time(put, nodes):
    """The node's status stays; the node is no longer idle."""
    put(FULL)
    nodes.let_go(FULL)
    requested = nodes.request(DATASET, NOON + 60, "ada")

    assert requested.should_run
    assert (requested.status, requested.generation, requested.address) == (NodeStatus.READY, 3, "node.test")
    assert (requested.requested_at, requested.idle_since) == (NOON + 60, 0.0)


def test_let_go_sets_desired_state_stopped(put, nodes):
    """The record has not been requested since it was read."""
    put(FULL)

    nodes.let_go(FULL)
    assert nodes.get(FULL.node_id).desired_state is STOPPED


@pytest.mark.parametrize("since", ["requested", "claimed", "deleted"])
@pytest.mark.parametrize("wake_at", [None, NOON + 60])
def test_let_go_of_a_changed_record_is_overtaken(nodes, since, wake_at):
    """The caller has to read the record again."""
    node = nodes.request(DATASET, NOON, "ada")
    if since == "requested":
        nodes.request(DATASET, NOON + 0.001, "ada")
    if since == "claimed":
        nodes.claim(node, NOON, QUOTA)
    seen = a_node("unknown") if since == "deleted" else node

    with pytest.raises(Overtaken):
        nodes.let_go(seen, wake_at)
    assert [(node.desired_state, node.wake_at) for node in nodes.all()] == [(RUNNING, 0.0)]


@pytest.mark.parametrize(("wake_at", "then"), [(None, FULL.wake_at), (NOON + 60, NOON + 60), (0.0, 0.0)])
def test_let_go_may_set_the_wake_time(put, nodes, wake_at, then):
    """Without one, the former wake time stays."""
    put(FULL)

    nodes.let_go(FULL, wake_at)
    assert nodes.get(FULL.node_id) == replace(FULL, desired_state=STOPPED, wake_at=then)


class TestWake:
    STOPPED_NODE = replace(FULL, desired_state=STOPPED, status=NodeStatus.ABSENT)

    def test_wake_sets_desired_state_running(self, put, nodes):
        """It records the model's owner as requester, and the next wake time; the rest stays."""
        put(self.STOPPED_NODE)
        now = self.STOPPED_NODE.wake_at

        nodes.wake(self.STOPPED_NODE, now, "bob", now + 60)
        assert nodes.get(FULL.node_id) == replace(
            self.STOPPED_NODE,
            desired_state=RUNNING,
            requested_at=now,
            requested_by="bob",
            idle_since=0.0,
            wake_at=now + 60,
        )

    def test_wake_before_the_wake_time_is_overtaken(self, put, nodes):
        """Otherwise devices could keep a node running all day."""
        put(self.STOPPED_NODE)

        with pytest.raises(Overtaken):
            nodes.wake(self.STOPPED_NODE, self.STOPPED_NODE.wake_at - 0.001, "bob", NOON + 60)
        assert nodes.get(FULL.node_id) == self.STOPPED_NODE

    @pytest.mark.parametrize("since", [{"desired_state": RUNNING}, {"generation": 4}])
    def test_wake_of_a_changed_record_is_overtaken(self, put, nodes, since):
        """The node is requested already, or has another generation."""
        now = replace(self.STOPPED_NODE, **since)
        put(now)

        with pytest.raises(Overtaken):
            nodes.wake(self.STOPPED_NODE, NOON + 60, "bob", NOON + 120)
        assert nodes.get(FULL.node_id) == now

    def test_failed_node_is_woken(self, put, nodes):
        """Its desired state is still RUNNING, but it is not launched again."""
        put(replace(FULL, status=NodeStatus.FAILED))

        nodes.wake(replace(FULL, status=NodeStatus.FAILED), NOON + 60, "bob", NOON + 120)

        assert nodes.get(FULL.node_id).requested_by == "bob"

    def test_concurrent_wakes_succeed_once(self, put, nodes):
        """The second call is overtaken."""
        put(self.STOPPED_NODE)

        nodes.wake(self.STOPPED_NODE, NOON + 1, "bob", NOON + 60)

        with pytest.raises(Overtaken):
            nodes.wake(self.STOPPED_NODE, NOON + 1, "bob", NOON + 60)

    def test_missing_record_is_not_woken(self, nodes):
        """No record is created."""
        with pytest.raises(Overtaken):
            nodes.wake(self.STOPPED_NODE, NOON + 1, "bob", NOON + 60)
        assert list(nodes.all()) == []

    def test_record_created_by_a_device_can_be_woken(self, nodes):
        """No user has requested the node yet."""
        nodes.device_seen(DATASET, NOON)
        (seen,) = nodes.all()

        nodes.wake(seen, NOON, "bob", NOON + 60)
        assert nodes.claim(nodes.get(seen.node_id), NOON, QUOTA).charged_to == "bob"


class TestSeen:
    def test_first_device_creates_the_record(self, nodes):
        """It contains only the device's time."""
        nodes.device_seen(DATASET, NOON)

        assert list(nodes.all()) == [a_node(device_at=NOON)]

    def test_request_completes_a_record_created_by_a_device(self, nodes):
        """The node can be claimed like any other."""
        nodes.device_seen(DATASET, NOON)
        requested = nodes.request(DATASET, NOON + 1, "ada")

        assert requested == a_node(
            desired_state=RUNNING, requested_at=NOON + 1, requested_by="ada", device_at=NOON
        )
        assert nodes.claim(requested, NOON + 2, QUOTA).device_at == NOON

    def test_record_created_by_a_device_can_be_let_go(self, nodes):
        """No user has requested the node yet."""
        nodes.device_seen(DATASET, NOON)
        (seen,) = nodes.all()

        nodes.let_go(seen, NOON + 60)
        assert nodes.get(seen.node_id) == replace(seen, wake_at=NOON + 60)

    @pytest.mark.parametrize("what", ["device_at", "progress_at"])
    def test_only_the_time_changes(self, put, nodes, what):
        """The node's status doesn't matter."""
        put(FULL)
        see(nodes, what, NOON + 0.5)

        assert nodes.get(FULL.node_id) == replace(FULL, **{what: NOON + 0.5})

    @pytest.mark.parametrize("what", ["device_at", "progress_at"])
    def test_earlier_time_changes_nothing(self, put, nodes, what):
        """Two processes may write in either order."""
        put(FULL)
        for when in (getattr(FULL, what), NOON - 3600):
            see(nodes, what, when)

        assert nodes.get(FULL.node_id) == FULL


def see(nodes, what, now):
    """Record a device's request or a closed cycle."""
    if what == "device_at":
        nodes.device_seen(DATASET, now)
    else:
        nodes.progress_seen(FULL, now)


def test_claim_begins_the_next_generation(nodes):
    """It sets the time of the launch."""
    claimed = nodes.claim(nodes.request(DATASET, NOON, "ada"), NOON + 1, QUOTA)

    assert (claimed.generation, claimed.status, claimed.launched_at) == (1, NodeStatus.DEPLOYING, NOON + 1)
    assert nodes.get(claimed.node_id) == claimed


def test_claim_resets_the_fields_of_a_generation(put, nodes):
    """Fields of the node itself stay."""
    put(replace(FULL, status=NodeStatus.ABSENT))
    seen = nodes.get(FULL.node_id)
    claimed = nodes.claim(seen, NOON + 1, QUOTA)
    begun = {"generation": 4, "status": NodeStatus.DEPLOYING, "launched_at": NOON + 1, "attempts": 2}

    assert {name: getattr(claimed, name) for name in OF_A_GENERATION} == OF_A_GENERATION
    assert claimed == replace(seen, **begun | OF_A_GENERATION)


def test_concurrent_claims_succeed_once(nodes):
    """Two requests at once must not both launch."""
    seen = nodes.request(DATASET, NOON, "ada")
    nodes.claim(seen, NOON, QUOTA)

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_claim_of_a_node_let_go_meanwhile_is_overtaken(nodes):
    """The owner has retired the node since the record was read."""
    seen = nodes.request(DATASET, NOON, "ada")
    nodes.let_go(seen)

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_claim_of_a_stopped_node_is_overtaken(nodes):
    """The current record has the desired state STOPPED."""
    nodes.let_go(nodes.request(DATASET, NOON, "ada"))
    (seen,) = nodes.all()

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_change_sets_and_removes_attributes(put, nodes):
    """None removes an attribute."""
    put(FULL)
    changed = nodes.change(FULL, {"reason": "new", "address": None, "idle_since": 0.25})

    assert (changed.reason, changed.address, changed.idle_since) == ("new", None, 0.25)
    assert nodes.get(FULL.node_id) == changed


OUTDATED = [
    {"generation": 2},
    {"generation": 4, "status": NodeStatus.ABSENT},
    {"status": NodeStatus.DEPLOYING},
    {"desired_state": STOPPED},
    {"deletions": 1},
    {"deletions": 0},
]


@pytest.mark.parametrize("seen", OUTDATED)
@pytest.mark.parametrize("how", ["change", "release"])
def test_change_of_an_outdated_record_is_overtaken(put, nodes, seen, how):
    """Another process was faster; nothing is written."""
    put(FULL)

    with pytest.raises(Overtaken):
        getattr(nodes, how)(replace(FULL, **seen), {"reason": "new"})
    assert nodes.get(FULL.node_id) == FULL


@pytest.mark.parametrize("seen", [{"generation": 2}, {"status": NodeStatus.FAILED}, {"deletions": 0}])
def test_claim_of_an_outdated_record_is_overtaken(put, nodes, seen):
    """No buyer is charged."""
    absent = replace(FULL, status=NodeStatus.ABSENT, charged_to=None)
    put(absent)

    with pytest.raises(Overtaken):
        nodes.claim(replace(absent, **seen), NOON, QUOTA)
    assert nodes.get(FULL.node_id) == absent
    assert [claim_node(nodes, number).charged_to for number in range(QUOTA.per_buyer)] == [
        "ada",
        "ada",
    ]


@pytest.mark.parametrize(
    "same", [{"reason": "other"}, {"requested_at": 0.0}, {"repairs": 7}, {"attempts": 9}]
)
def test_change_ignores_fields_without_a_condition(put, nodes, same):
    """Otherwise two processes could keep each other from writing."""
    put(FULL)

    assert nodes.change(replace(FULL, **same), {"address": "new"}) == replace(FULL, address="new")


def test_change_creates_no_record(nodes):
    """Only a request or a device creates one."""
    with pytest.raises(Overtaken):
        nodes.change(a_node(), {"reason": "new"})
    assert list(nodes.all()) == []


def test_unknown_attribute_is_ignored(table, nodes):
    """A later version may write one."""
    table.put(node_item(FULL) | {"colour": "red"})

    assert nodes.get(FULL.node_id) == FULL


class TestOlderRecord:
    """A record of an older version, without the newer attributes."""

    @pytest.fixture(autouse=True)
    def _older(self, table):
        table.put(OF_AN_OLDER_VERSION)

    @pytest.fixture
    def seen(self, nodes, _older):
        return nodes.get(FULL.node_id)

    def test_older_record_is_read(self, nodes, seen):
        """Missing attributes have their defaults."""
        usual = {"desired_state": RUNNING, "status": NodeStatus.READY, "generation": 3, "requested_at": NOON}

        assert seen == a_node(address="node.test", **usual)
        assert list(nodes.all()) == [seen]

    def test_older_record_is_changed(self, nodes, seen):
        """A missing number of deletions counts as 0."""
        assert nodes.change(seen, {"deletions": 1}) == replace(seen, deletions=1)
        with pytest.raises(Overtaken):
            nodes.change(seen, {"deletions": 1})

    def test_older_record_is_released_and_claimed_again(self, nodes, seen):
        """No buyer was charged for it."""
        gone = nodes.release(seen, {"address": None})

        assert nodes.claim(gone, NOON, QUOTA).generation == 4

    def test_older_record_is_let_go_and_woken(self, nodes, seen):
        """Without a wake time, the node can be woken at once."""
        nodes.let_go(seen)
        nodes.wake(seen, NOON, "ada", NOON + 60)

    def test_older_record_gets_a_device_time(self, nodes, seen):
        """The older version did not record one."""
        nodes.device_seen(DATASET, NOON)

        assert nodes.get(seen.node_id) == replace(seen, device_at=NOON)


def claim_node(nodes, number, buyer="ada"):
    """Request a node and claim its first generation."""
    return nodes.claim(nodes.request(f"dataset {number}", NOON, buyer), NOON, QUOTA)


class TestQuota:
    def test_quota_of_a_buyer_is_enforced(self, nodes):
        """A stolen token can't cause unlimited costs; nothing is claimed beyond the quota."""
        for number in range(2):
            claim_node(nodes, number)
        with pytest.raises(QuotaExceeded, match="No more than 2"):
            claim_node(nodes, 2)

        assert nodes.get(node_id_of("dataset 2")).status is NodeStatus.ABSENT

    def test_quota_of_all_buyers_is_enforced(self, nodes):
        """It limits the costs of any number of tokens."""
        for number, buyer in enumerate(("ada", "ada", "bob")):
            claim_node(nodes, number, buyer)
        with pytest.raises(QuotaExceeded, match="No more than 3"):
            claim_node(nodes, 3, "eve")

    def test_released_node_is_no_longer_charged(self, nodes):
        """Releasing it again changes nothing."""
        first, _ = claim_node(nodes, 0), claim_node(nodes, 1)
        gone = nodes.release(first, {"reason": ""})

        assert (gone.status, gone.charged_to) == (NodeStatus.ABSENT, None)
        with pytest.raises(Overtaken):
            nodes.release(first, {"reason": ""})
        assert claim_node(nodes, 2).charged_to == "ada"
        with pytest.raises(QuotaExceeded):
            claim_node(nodes, 3)

    def test_released_node_is_removed_from_the_total(self, nodes):
        """Another buyer can claim a node then."""
        first, *_ = [claim_node(nodes, number, buyer) for number, buyer in enumerate(("ada", "bob", "eve"))]
        nodes.release(first, {"reason": ""})

        assert claim_node(nodes, 3, "dan").charged_to == "dan"

    def test_counters_are_not_listed(self, nodes):
        """They are items of the same table."""
        claim_node(nodes, 0)

        assert [node.dataset_id for node in nodes.all()] == ["dataset 0"]

    @pytest.mark.parametrize(("buyer", "whose"), [("ada", "for one user"), ("bob", None), ("eve", None)])
    def test_check_quota_refuses_what_a_claim_would(self, nodes, buyer, whose):
        """It runs before anything is written; the claim itself is decisive."""
        for number in range(QUOTA.per_buyer):
            claim_node(nodes, number)

        if whose is None:
            nodes.check_quota(buyer, QUOTA)
        else:
            with pytest.raises(QuotaExceeded, match=whose):
                nodes.check_quota(buyer, QUOTA)

    def test_check_quota_counts_all_buyers(self, nodes):
        """The buyer's own nodes may be few."""
        for number, buyer in enumerate(("ada", "ada", "bob")):
            claim_node(nodes, number, buyer)

        with pytest.raises(QuotaExceeded, match="in all"):
            nodes.check_quota("eve", QUOTA)


class TestAttention:
    @pytest.fixture
    def marked(self, nodes):
        return nodes.request(DATASET, NOON, "ada").node_id

    def test_requested_node_is_marked_until_one_reconciler_takes_it(self, nodes, marked):
        """A second reconciler is overtaken."""
        before = list(nodes.needing_attention())
        nodes.take_attention(marked)

        assert before == [marked]
        assert list(nodes.needing_attention()) == []
        with pytest.raises(Overtaken):
            nodes.take_attention(marked)

    @pytest.mark.usefixtures("marked")
    def test_later_request_marks_the_node_again(self, nodes, marked):
        """The first mark has been taken."""
        nodes.take_attention(marked)
        nodes.request(DATASET, NOON + 1, "ada")

        assert list(nodes.needing_attention()) == [marked]

    def test_node_that_is_let_go_or_woken_is_marked(self, put, nodes):
        """The reconciler acts without waiting for its next pass."""
        put(FULL)
        nodes.let_go(FULL)
        let_go = list(nodes.needing_attention())
        nodes.take_attention(FULL.node_id)
        nodes.wake(replace(FULL, desired_state=STOPPED), NOON + 60, "bob", NOON + 120)

        assert let_go == list(nodes.needing_attention()) == [FULL.node_id]

    def test_steps_of_the_reconciler_do_not_mark_a_node(self, put, nodes):
        """Otherwise each step would cause another one."""
        put(FULL)
        nodes.change(FULL, {"reason": "new"})
        nodes.release(FULL, {})
        nodes.device_seen(DATASET, NOON + 1)

        assert list(nodes.needing_attention()) == []

    def test_mark_of_a_missing_node_cannot_be_taken(self, nodes):
        """No record is created."""
        with pytest.raises(Overtaken):
            nodes.take_attention("n0")
        assert nodes.get("n0") is None
