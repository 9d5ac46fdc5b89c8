"""The record of a node, and its name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.node import DesiredState, Node, NodeStatus, node_id_of
from tests.builders import a_node

RUNNING, STOPPED = DesiredState


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_node_id_is_an_unquoted_sql_identifier(dataset_id):
    """The original image lower-cases the id and drops hyphens, which must not change it."""
    node_id = node_id_of(dataset_id)

    assert re.fullmatch(r"n[0-9a-f]{20}", node_id)
    assert node_id.lower().replace("-", "") == node_id


@pytest.mark.parametrize(
    ("one", "other"), [("ds-main", "dsmain"), ("Heart", "heart"), ("a b", "ab"), ("é", "e"), ("é", "e\u0301")]
)
def test_node_ids_of_different_datasets_differ(one, other):
    """Two datasets with the same node id would share a database."""
    assert node_id_of(one) != node_id_of(other)


def test_node_id_has_the_first_20_digits_of_sha256():
    """Other programs derive the id as well, so it must not change."""
    assert node_id_of("heart-rate") == "n2620d9183f1b08318e0b"


def test_new_record_is_stopped_and_absent():
    """A new record means the same as a missing one."""
    node = Node("n1", "ds")

    assert (node.desired_state, node.status, node.generation) == (STOPPED, NodeStatus.ABSENT, 0)


@pytest.mark.parametrize(
    ("launched", "ready", "was_ready"), [(0, 0, False), (10, 0, False), (10, 5, False), (10, 15, True)]
)
def test_node_was_ready_if_it_answered_since_its_launch(launched, ready, was_ready):
    """An answer of an earlier generation does not count."""
    assert a_node(launched_at=launched, ready_at=ready).was_ready is was_ready
