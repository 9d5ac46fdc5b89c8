"""The record of a node, and its name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.node import DesiredState, Node, NodeStatus, node_id_of
from tests.builders import a_node

RUNNING, STOPPED = DesiredState


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_node_id_is_an_unquoted_sql_identifier(dataset_id):
    """Lower-casing it and dropping hyphens, as the original image does, leaves it as it is."""
    node_id = node_id_of(dataset_id)

    assert re.fullmatch(r"n[0-9a-f]{20}", node_id)
    assert node_id.lower().replace("-", "") == node_id


@pytest.mark.parametrize(
    ("one", "other"), [("ds-main", "dsmain"), ("Heart", "heart"), ("a b", "ab"), ("é", "e"), ("é", "e\u0301")]
)
def test_datasets_that_differ_have_nodes_that_differ(one, other):
    """Else two datasets would share a database."""
    assert node_id_of(one) != node_id_of(other)


def test_a_node_id_is_the_first_20_digits_of_sha256():
    """Other programs derive it as well; it may not change."""
    assert node_id_of("heart-rate") == "n2620d9183f1b08318e0b"


def test_a_new_record_wishes_nothing_and_stands_for_nothing():
    """What a table without a row means."""
    node = Node("n1", "ds")

    assert (node.desired_state, node.status, node.generation) == (STOPPED, NodeStatus.ABSENT, 0)


@pytest.mark.parametrize(
    ("launched", "ready", "was_ready"), [(0, 0, False), (10, 0, False), (10, 5, False), (10, 15, True)]
)
def test_a_node_was_ready_if_it_answered_since_its_launch(launched, ready, was_ready):
    """What a life before this one answered doesn't count."""
    assert a_node(launched_at=launched, ready_at=ready).was_ready is was_ready
