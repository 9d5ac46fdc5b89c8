"""Logs: one JSON object per line."""

import json

import pytest
import structlog

from orchestration.logs import configure_logs

pytestmark = pytest.mark.usefixtures("own_logs")


def test_line_is_a_json_object_with_level_and_time(capsys):
    """Logs are written to standard output, which ECS reads."""
    configure_logs("info")
    structlog.get_logger().warning("node.silent", node_id="n1")
    line = json.loads(capsys.readouterr().out)

    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "node.silent", "node_id": "n1", "level": "warning"}


def test_traceback_is_part_of_the_line(capsys):
    """An event with a traceback is still one line."""
    configure_logs("info")
    try:
        int("a\nb")
    except ValueError:
        structlog.get_logger().exception("crashed")
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 1
    assert "Traceback" in json.loads(lines[0])["exception"]


@pytest.mark.parametrize(("level", "expected"), [("debug", 2), ("info", 1), ("ERROR", 0)])
def test_events_below_the_level_are_dropped(capsys, level, expected):
    """The level is configurable."""
    configure_logs(level)
    structlog.get_logger().debug("a")
    structlog.get_logger().info("b")

    assert len(capsys.readouterr().out.splitlines()) == expected
