"""The node table: every write says what it expects to find."""

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
"""What stood in the table before generations counted their deletions and devices woke nodes."""


def test_what_was_written_is_read(put, nodes):
    """Times to the last bit: they are compared."""
    put(FULL)

    assert nodes.get(FULL.node_id) == FULL
    assert list(nodes.all()) == [FULL]


def test_every_field_is_written_in_this_file():
    """So that a field that DynamoDB can't keep is found here."""
    assert not [field.name for field in fields(Node) if getattr(FULL, field.name) == field.default]


def test_nothing_is_there_at_first(nodes):
    """No record, no error."""
    assert nodes.get(a_node().node_id) is None
    assert list(nodes.all()) == []


def test_asking_makes_a_record(nodes):
    """With nothing but the wish."""
    asked = nodes.request(DATASET, NOON, "ada")

    assert asked == a_node(desired_state=RUNNING, requested_at=NOON, requested_by="ada")
    assert nodes.get(asked.node_id) == asked


def test_asking_again_changes_the_wish_and_the_time_only(put, nodes):
    """Whatever the node is doing; it is idle no more."""
    put(FULL)
    nodes.let_go(FULL)
    asked = nodes.request(DATASET, NOON + 60, "ada")

    assert asked.should_run
    assert (asked.status, asked.generation, asked.address) == (NodeStatus.READY, 3, "node.test")
    assert (asked.requested_at, asked.idle_since) == (NOON + 60, 0.0)


def test_letting_go_wishes_it_down(put, nodes):
    """As long as nobody has asked since."""
    put(FULL)

    nodes.let_go(FULL)
    assert nodes.get(FULL.node_id).desired_state is STOPPED


@pytest.mark.parametrize("since", ["asked", "claimed", "deleted"])
@pytest.mark.parametrize("wake_at", [None, NOON + 60])
def test_letting_go_fails_when_something_happened_since(nodes, since, wake_at):
    """Whoever lets go has to look again."""
    node = nodes.request(DATASET, NOON, "ada")
    if since == "asked":
        nodes.request(DATASET, NOON + 0.001, "ada")
    if since == "claimed":
        nodes.claim(node, NOON, QUOTA)
    seen = a_node("never asked") if since == "deleted" else node

    with pytest.raises(Overtaken):
        nodes.let_go(seen, wake_at)
    assert [(node.desired_state, node.wake_at) for node in nodes.all()] == [(RUNNING, 0.0)]


@pytest.mark.parametrize(("wake_at", "then"), [(None, FULL.wake_at), (NOON + 60, NOON + 60), (0.0, 0.0)])
def test_letting_go_may_let_it_sleep(put, nodes, wake_at, then):
    """An owner who retires a node is left alone for a while; without a time, the last one stays."""
    put(FULL)

    nodes.let_go(FULL, wake_at)
    assert nodes.get(FULL.node_id) == replace(FULL, desired_state=STOPPED, wake_at=then)


class TestWake:
    ASLEEP = replace(FULL, desired_state=STOPPED, status=NodeStatus.ABSENT)

    def test_it_wishes_a_sleeping_node_up(self, put, nodes):
        """On the account of whose model it is; the rest stays, and the next one has to wait."""
        put(self.ASLEEP)
        now = self.ASLEEP.wake_at

        nodes.wake(self.ASLEEP, now, "bob", now + 60)
        assert nodes.get(FULL.node_id) == replace(
            self.ASLEEP,
            desired_state=RUNNING,
            requested_at=now,
            requested_by="bob",
            idle_since=0.0,
            wake_at=now + 60,
        )

    def test_not_before_it_may(self, put, nodes):
        """One device after the other must not wake it all day long."""
        put(self.ASLEEP)

        with pytest.raises(Overtaken):
            nodes.wake(self.ASLEEP, self.ASLEEP.wake_at - 0.001, "bob", NOON + 60)
        assert nodes.get(FULL.node_id) == self.ASLEEP

    @pytest.mark.parametrize("since", [{"desired_state": RUNNING}, {"generation": 4}])
    def test_not_when_somebody_was_here_since(self, put, nodes, since):
        """Awake already, or in its next life."""
        now = replace(self.ASLEEP, **since)
        put(now)

        with pytest.raises(Overtaken):
            nodes.wake(self.ASLEEP, NOON + 60, "bob", NOON + 120)
        assert nodes.get(FULL.node_id) == now

    def test_a_node_that_was_given_up_is_woken(self, put, nodes):
        """It is still wished up, and nothing goes on."""
        put(replace(FULL, status=NodeStatus.FAILED))

        nodes.wake(replace(FULL, status=NodeStatus.FAILED), NOON + 60, "bob", NOON + 120)

        assert nodes.get(FULL.node_id).requested_by == "bob"

    def test_of_two_devices_at_once_one_wakes_it(self, put, nodes):
        """Whoever is second finds it awake."""
        put(self.ASLEEP)

        nodes.wake(self.ASLEEP, NOON + 1, "bob", NOON + 60)

        with pytest.raises(Overtaken):
            nodes.wake(self.ASLEEP, NOON + 1, "bob", NOON + 60)

    def test_what_is_not_there_is_not_woken(self, nodes):
        """No record is made of it."""
        with pytest.raises(Overtaken):
            nodes.wake(self.ASLEEP, NOON + 1, "bob", NOON + 60)
        assert list(nodes.all()) == []

    def test_a_node_that_only_devices_have_seen_may_be_woken(self, nodes):
        """Nobody has ever asked for it."""
        nodes.device_seen(DATASET, NOON)
        (seen,) = nodes.all()

        nodes.wake(seen, NOON, "bob", NOON + 60)
        assert nodes.claim(nodes.get(seen.node_id), NOON, QUOTA).charged_to == "bob"


class TestSeen:
    def test_the_first_device_makes_the_record(self, nodes):
        """With nothing but its time: nobody has asked for a node."""
        nodes.device_seen(DATASET, NOON)

        assert list(nodes.all()) == [a_node(device_at=NOON)]

    def test_asking_completes_what_a_device_has_begun(self, nodes):
        """And a node that a device has made known is like any other."""
        nodes.device_seen(DATASET, NOON)
        asked = nodes.request(DATASET, NOON + 1, "ada")

        assert asked == a_node(
            desired_state=RUNNING, requested_at=NOON + 1, requested_by="ada", device_at=NOON
        )
        assert nodes.claim(asked, NOON + 2, QUOTA).device_at == NOON

    def test_what_a_device_has_made_known_can_be_let_go(self, nodes):
        """Though nobody has asked for it."""
        nodes.device_seen(DATASET, NOON)
        (seen,) = nodes.all()

        nodes.let_go(seen, NOON + 60)
        assert nodes.get(seen.node_id) == replace(seen, wake_at=NOON + 60)

    @pytest.mark.parametrize("what", ["device_at", "progress_at"])
    def test_only_its_time_changes(self, put, nodes, what):
        """Whatever the node is doing."""
        put(FULL)
        see(nodes, what, NOON + 0.5)

        assert nodes.get(FULL.node_id) == replace(FULL, **{what: NOON + 0.5})

    @pytest.mark.parametrize("what", ["device_at", "progress_at"])
    def test_an_earlier_time_changes_nothing(self, put, nodes, what):
        """Two processes may write in either order."""
        put(FULL)
        for when in (getattr(FULL, what), NOON - 3600):
            see(nodes, what, when)

        assert nodes.get(FULL.node_id) == FULL


def see(nodes, what, now):
    """Let a device, or a closed cycle, be seen."""
    if what == "device_at":
        nodes.device_seen(DATASET, now)
    else:
        nodes.progress_seen(FULL, now)


def test_a_claim_begins_the_next_generation(nodes):
    """And says since when."""
    claimed = nodes.claim(nodes.request(DATASET, NOON, "ada"), NOON + 1, QUOTA)

    assert (claimed.generation, claimed.status, claimed.launched_at) == (1, NodeStatus.DEPLOYING, NOON + 1)
    assert nodes.get(claimed.node_id) == claimed


def test_a_claim_begins_at_nothing(put, nodes):
    """What the last generation went through is over; what is of the node stays."""
    put(replace(FULL, status=NodeStatus.ABSENT))
    seen = nodes.get(FULL.node_id)
    claimed = nodes.claim(seen, NOON + 1, QUOTA)
    begun = {"generation": 4, "status": NodeStatus.DEPLOYING, "launched_at": NOON + 1, "attempts": 2}

    assert {name: getattr(claimed, name) for name in OF_A_GENERATION} == OF_A_GENERATION
    assert claimed == replace(seen, **begun | OF_A_GENERATION)


def test_of_two_claims_one_succeeds(nodes):
    """Two requests at once must not both launch."""
    seen = nodes.request(DATASET, NOON, "ada")
    nodes.claim(seen, NOON, QUOTA)

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_what_is_not_wished_for_is_not_claimed(nodes):
    """Its owner has given it up meanwhile."""
    seen = nodes.request(DATASET, NOON, "ada")
    nodes.let_go(seen)

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_what_its_owner_has_given_up_is_not_claimed(nodes):
    """Also by a process that knows it."""
    nodes.let_go(nodes.request(DATASET, NOON, "ada"))
    (seen,) = nodes.all()

    with pytest.raises(Overtaken):
        nodes.claim(seen, NOON, QUOTA)


def test_a_change_writes_and_removes(put, nodes):
    """None takes a value away."""
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
def test_a_change_of_what_is_no_longer_so_fails(put, nodes, seen, how):
    """Somebody else was faster, or this process slept; nothing is written."""
    put(FULL)

    with pytest.raises(Overtaken):
        getattr(nodes, how)(replace(FULL, **seen), {"reason": "new"})
    assert nodes.get(FULL.node_id) == FULL


@pytest.mark.parametrize("seen", [{"generation": 2}, {"status": NodeStatus.FAILED}, {"deletions": 0}])
def test_a_claim_of_what_is_no_longer_so_fails(put, nodes, seen):
    """And nobody is charged."""
    absent = replace(FULL, status=NodeStatus.ABSENT, charged_to=None)
    put(absent)

    with pytest.raises(Overtaken):
        nodes.claim(replace(absent, **seen), NOON, QUOTA)
    assert nodes.get(FULL.node_id) == absent
    assert [awake(nodes, number).charged_to for number in range(QUOTA.per_buyer)] == ["ada", "ada"]


@pytest.mark.parametrize(
    "same", [{"reason": "other"}, {"requested_at": 0.0}, {"repairs": 7}, {"attempts": 9}]
)
def test_what_no_decision_rests_on_may_have_changed(put, nodes, same):
    """Else two processes would keep each other from writing."""
    put(FULL)

    assert nodes.change(replace(FULL, **same), {"address": "new"}) == replace(FULL, address="new")


def test_a_change_makes_no_record(nodes):
    """A record that was never asked for isn't anybody's."""
    with pytest.raises(Overtaken):
        nodes.change(a_node(), {"reason": "new"})
    assert list(nodes.all()) == []


def test_what_others_write_is_ignored(table, nodes):
    """An attribute of a later version doesn't stop this one."""
    table.put(node_item(FULL) | {"colour": "red"})

    assert nodes.get(FULL.node_id) == FULL


class TestOlderRecord:
    """A record that an older version has written, without what this one adds."""

    @pytest.fixture(autouse=True)
    def _older(self, table):
        table.put(OF_AN_OLDER_VERSION)

    @pytest.fixture
    def seen(self, nodes, _older):
        return nodes.get(FULL.node_id)

    def test_it_is_read(self, nodes, seen):
        """What is missing never was."""
        usual = {"desired_state": RUNNING, "status": NodeStatus.READY, "generation": 3, "requested_at": NOON}

        assert seen == a_node(address="node.test", **usual)
        assert list(nodes.all()) == [seen]

    def test_it_is_changed(self, nodes, seen):
        """No deletion is as good as none counted."""
        assert nodes.change(seen, {"deletions": 1}) == replace(seen, deletions=1)
        with pytest.raises(Overtaken):
            nodes.change(seen, {"deletions": 1})

    def test_it_is_released_and_claimed_again(self, nodes, seen):
        """Nobody was charged for it."""
        gone = nodes.release(seen, {"address": None})

        assert nodes.claim(gone, NOON, QUOTA).generation == 4

    def test_it_is_let_go_and_woken(self, nodes, seen):
        """It never had a time to wait for."""
        nodes.let_go(seen)
        nodes.wake(seen, NOON, "ada", NOON + 60)

    def test_a_device_is_seen(self, nodes, seen):
        """For the first time, as far as we know."""
        nodes.device_seen(DATASET, NOON)

        assert nodes.get(seen.node_id) == replace(seen, device_at=NOON)


def awake(nodes, number, buyer="ada"):
    """Ask for a node and begin its life."""
    return nodes.claim(nodes.request(f"dataset {number}", NOON, buyer), NOON, QUOTA)


class TestQuota:
    def test_a_buyer_gets_no_more_than_their_share(self, nodes):
        """A stolen token can't spend without bound; nothing is claimed beyond it."""
        for number in range(2):
            awake(nodes, number)
        with pytest.raises(QuotaExceeded, match="No more than 2"):
            awake(nodes, 2)

        assert nodes.get(node_id_of("dataset 2")).status is NodeStatus.ABSENT

    def test_all_together_get_no_more_than_there_is(self, nodes):
        """However many tokens there are."""
        for number, buyer in enumerate(("ada", "ada", "bob")):
            awake(nodes, number, buyer)
        with pytest.raises(QuotaExceeded, match="No more than 3"):
            awake(nodes, 3, "eve")

    def test_what_is_gone_counts_no_more(self, nodes):
        """Charged once, released once; releasing again changes nothing."""
        first, _ = awake(nodes, 0), awake(nodes, 1)
        gone = nodes.release(first, {"reason": ""})

        assert (gone.status, gone.charged_to) == (NodeStatus.ABSENT, None)
        with pytest.raises(Overtaken):
            nodes.release(first, {"reason": ""})
        assert awake(nodes, 2).charged_to == "ada"
        with pytest.raises(QuotaExceeded):
            awake(nodes, 3)

    def test_what_is_gone_makes_room_for_all(self, nodes):
        """Whoever it was charged to."""
        first, *_ = [awake(nodes, number, buyer) for number, buyer in enumerate(("ada", "bob", "eve"))]
        nodes.release(first, {"reason": ""})

        assert awake(nodes, 3, "dan").charged_to == "dan"

    def test_counters_are_no_nodes(self, nodes):
        """They stand in the same table."""
        awake(nodes, 0)

        assert [node.dataset_id for node in nodes.all()] == ["dataset 0"]

    @pytest.mark.parametrize(("buyer", "whose"), [("ada", "you have"), ("bob", None), ("eve", None)])
    def test_check_refuses_what_a_claim_would(self, nodes, buyer, whose):
        """Before anything is written; the claim itself is what counts."""
        for number in range(QUOTA.per_buyer):
            awake(nodes, number)

        if whose is None:
            nodes.check_quota(buyer, QUOTA)
        else:
            with pytest.raises(QuotaExceeded, match=whose):
                nodes.check_quota(buyer, QUOTA)

    def test_check_counts_all_buyers(self, nodes):
        """However few nodes this one has."""
        for number, buyer in enumerate(("ada", "ada", "bob")):
            awake(nodes, number, buyer)

        with pytest.raises(QuotaExceeded, match="all together have"):
            nodes.check_quota("eve", QUOTA)


class TestAttention:
    @pytest.fixture
    def marked(self, nodes):
        return nodes.request(DATASET, NOON, "ada").node_id

    def test_requested_node_is_marked_until_one_reconciler_takes_it(self, nodes, marked):
        """Another one finds that it was overtaken."""
        before = list(nodes.needing_attention())
        nodes.take_attention(marked)

        assert before == [marked]
        assert list(nodes.needing_attention()) == []
        with pytest.raises(Overtaken):
            nodes.take_attention(marked)

    @pytest.mark.usefixtures("marked")
    def test_later_request_marks_the_node_again(self, nodes, marked):
        """Whatever came of the first."""
        nodes.take_attention(marked)
        nodes.request(DATASET, NOON + 1, "ada")

        assert list(nodes.needing_attention()) == [marked]

    def test_node_that_is_let_go_or_woken_is_marked(self, put, nodes):
        """It goes down, or comes up, without waiting for the next pass."""
        put(FULL)
        nodes.let_go(FULL)
        let_go = list(nodes.needing_attention())
        nodes.take_attention(FULL.node_id)
        nodes.wake(replace(FULL, desired_state=STOPPED), NOON + 60, "bob", NOON + 120)

        assert let_go == list(nodes.needing_attention()) == [FULL.node_id]

    def test_steps_of_the_reconciler_do_not_mark_a_node(self, put, nodes):
        """Else it would never come to rest."""
        put(FULL)
        nodes.change(FULL, {"reason": "new"})
        nodes.release(FULL, {})
        nodes.device_seen(DATASET, NOON + 1)

        assert list(nodes.needing_attention()) == []

    def test_mark_of_a_missing_node_can_not_be_taken(self, nodes):
        """No record is made of it."""
        with pytest.raises(Overtaken):
            nodes.take_attention("n0")
        assert nodes.get("n0") is None
