"""Logs: one JSON object a line."""

import json

import pytest
import structlog

from orchestration.logs import configure_logs

pytestmark = pytest.mark.usefixtures("own_logs")


def test_a_line_is_a_json_object_with_its_level_and_time(capsys):
    """On standard output, where ECS picks it up."""
    configure_logs("info")
    structlog.get_logger().warning("node.silent", node_id="n1")
    line = json.loads(capsys.readouterr().out)

    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "node.silent", "node_id": "n1", "level": "warning"}


def test_a_trace_stays_on_its_line(capsys):
    """One event, one line."""
    configure_logs("info")
    try:
        int("a\nb")
    except ValueError:
        structlog.get_logger().exception("crashed")
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 1
    assert "Traceback" in json.loads(lines[0])["exception"]


@pytest.mark.parametrize(("level", "heard"), [("debug", 2), ("info", 1), ("ERROR", 0)])
def test_a_level_keeps_quiet_what_is_below_it(capsys, level, heard):
    """A setting."""
    configure_logs(level)
    structlog.get_logger().debug("a")
    structlog.get_logger().info("b")

    assert len(capsys.readouterr().out.splitlines()) == heard
