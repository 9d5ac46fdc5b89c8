"""The port Nodes, on the fake and on DynamoDB: every write says what it expects to find."""

import pytest

from orchestration.adapters.dynamo import DynamoNodes
from orchestration.domain.errors import QuotaExceeded
from orchestration.domain.node import NodeStatus, Quota, Wish, node_id_of
from tests.builders import DATASET, NOON, a_node
from tests.fakes import FakeNodes

QUOTA = Quota(per_buyer=2, in_all=3)


def item_of(node):
    names = [name for name in node.__slots__ if getattr(node, name) is not None]
    return {name: getattr(node, name) for name in names}


@pytest.fixture
def shelf(shelf_of):
    return shelf_of(FakeNodes, DynamoNodes, "node_table", item_of)


@pytest.fixture
def nodes(shelf):
    return shelf.port


FULL = a_node(
    wish=Wish.UP,
    status=NodeStatus.READY,
    generation=3,
    reason="r",
    failure="f",
    stack_id="arn",
    address="node.test",
    secret_hash="hash",
    asked_at=NOON + 0.123456789,
    launched_at=NOON - 1 / 3,
    ready_at=NOON,
    idle_since=0.1,
)


def test_what_was_written_is_read(shelf, nodes):
    """Times to the last bit: they are compared."""
    shelf.add(FULL)

    assert nodes.get(FULL.node_id) == FULL
    assert list(nodes.all()) == [FULL]


def test_nothing_is_there_at_first(nodes):
    """No record, no error."""
    assert nodes.get(a_node().node_id) is None
    assert list(nodes.all()) == []


def test_asking_makes_a_record(nodes):
    """With nothing but the wish."""
    asked = nodes.ask(DATASET, NOON, "ada")

    assert asked == a_node(wish=Wish.UP, asked_at=NOON, asked_by="ada")
    assert nodes.get(asked.node_id) == asked


def test_asking_again_changes_the_wish_and_the_time_only(shelf, nodes):
    """Whatever the node is doing; it is idle no more."""
    shelf.add(FULL)
    nodes.let_go(FULL)
    asked = nodes.ask(DATASET, NOON + 60, "ada")

    assert asked.wish is Wish.UP
    assert (asked.status, asked.generation, asked.address) == (NodeStatus.READY, 3, "node.test")
    assert (asked.asked_at, asked.idle_since) == (NOON + 60, 0.0)


def test_letting_go_wishes_it_down(shelf, nodes):
    """As long as nobody has asked since."""
    shelf.add(FULL)

    assert nodes.let_go(FULL) is True
    assert nodes.get(FULL.node_id).wish is Wish.DOWN


@pytest.mark.parametrize("since", ["asked", "claimed", "deleted"])
def test_letting_go_fails_when_something_happened_since(shelf, nodes, since):
    """Whoever lets go has to look again."""
    node = nodes.ask(DATASET, NOON, "ada")
    if since == "asked":
        nodes.ask(DATASET, NOON + 0.001, "ada")
    if since == "claimed":
        nodes.claim(node, NOON, QUOTA)
    seen = a_node("never asked") if since == "deleted" else node

    assert nodes.let_go(seen) is False
    assert [node.wish for node in nodes.all()] == [Wish.UP]


def test_a_claim_begins_the_next_generation(nodes):
    """And says since when."""
    claimed = nodes.claim(nodes.ask(DATASET, NOON, "ada"), NOON + 1, QUOTA)

    assert (claimed.generation, claimed.status, claimed.launched_at) == (1, NodeStatus.DEPLOYING, NOON + 1)
    assert nodes.get(claimed.node_id) == claimed


def test_of_two_claims_one_succeeds(nodes):
    """Two requests at once must not both launch."""
    seen = nodes.ask(DATASET, NOON, "ada")
    claims = [nodes.claim(seen, NOON, QUOTA), nodes.claim(seen, NOON, QUOTA)]

    assert claims[0] is not None
    assert claims[1] is None


def test_what_is_not_wished_for_is_not_claimed(nodes):
    """Its owner has given it up meanwhile."""
    seen = nodes.ask(DATASET, NOON, "ada")
    nodes.let_go(seen)

    assert nodes.claim(seen, NOON, QUOTA) is None


def test_a_change_writes_and_removes(shelf, nodes):
    """None takes a value away."""
    shelf.add(FULL)
    changed = nodes.change(FULL, {"reason": "new", "address": None, "idle_since": 0.25})

    assert (changed.reason, changed.address, changed.idle_since) == ("new", None, 0.25)
    assert nodes.get(FULL.node_id) == changed


@pytest.mark.parametrize(
    "seen",
    [{"generation": 2}, {"status": NodeStatus.DEPLOYING}, {"generation": 4, "status": NodeStatus.ABSENT}],
)
def test_a_change_of_what_is_no_longer_so_fails(shelf, nodes, seen):
    """Somebody else was faster; nothing is written."""
    shelf.add(FULL)
    outdated = a_node(**{"generation": 3, "status": NodeStatus.READY} | seen)

    assert nodes.change(outdated, {"reason": "new"}) is None
    assert nodes.get(FULL.node_id) == FULL


def test_a_change_makes_no_record(nodes):
    """A record that was never asked for isn't anybody's."""
    assert nodes.change(a_node(), {"reason": "new"}) is None
    assert list(nodes.all()) == []


@pytest.mark.moto
def test_what_others_write_is_ignored(table_of):
    """An attribute of a later version doesn't stop this one."""
    table = table_of("node_table")
    table.put(item_of(FULL) | {"colour": "red"})

    assert DynamoNodes(table).get(FULL.node_id) == FULL


def awake(nodes, number, buyer="ada"):
    """Ask for a node and begin its life."""
    return nodes.claim(nodes.ask(f"dataset {number}", NOON, buyer), NOON, QUOTA)


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
        assert nodes.release(first, {"reason": ""}) is None
        assert awake(nodes, 2).charged_to == "ada"
        with pytest.raises(QuotaExceeded):
            awake(nodes, 3)

    def test_counters_are_no_nodes(self, nodes):
        """They stand in the same table."""
        awake(nodes, 0)

        assert [node.dataset_id for node in nodes.all()] == ["dataset 0"]
