"""Settings come from the environment; all faults are reported together."""

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from orchestration.adapters.node_databases_sql import DatabaseNames
from pygrid_node.settings import OrchestratorLocation, Settings, SettingsError, read_settings
from pygrid_node.transport.intake import Intake

GOOD = {"NODE_ID": "My-Node", "DATABASE_URL": "sqlite:////data/", "MASTER_NODE_URL": "u:top-secret@h:5001"}


@pytest.fixture
def environment(monkeypatch):
    """Contains only what a test sets."""
    for name in (
        *GOOD,
        "PORT",
        "ADDRESS",
        "BIND_HOST",
        "MAX_BYTES_IN_FLIGHT",
        "MAX_CONNECTIONS",
        "MAX_MESSAGE_BYTES",
        "PLACE_LIFETIME",
        "SPARE_WORKERS",
        "TRUSTED_PROXIES",
        "MIN_REPORTS",
    ):
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_database_is_named_after_the_node(environment):
    """PyGrid's name is in lower case, without hyphens, with the suffix `db`."""
    environment(**GOOD)
    settings = read_settings()

    assert settings.database == "sqlite:////data/mynodedb"
    assert (settings.port, settings.address) == (5000, None)
    assert (settings.max_message_bytes, settings.max_connections) == (256 * 2**20, 1000)
    # The longest message passes when it is alone.
    assert Intake(settings.max_bytes_in_flight, max_message=2**40).largest >= settings.max_message_bytes
    assert (settings.place_lifetime, settings.spare_workers) == (120, 25)
    assert (settings.trusted_proxies, settings.min_reports) == (0, 1)


def test_everything_that_is_missing_or_wrong_is_reported_together(environment):
    """The report of the first start has no values, because some are secret."""
    environment(DATABASE_URL="postgresql://u:top-secret@h", MASTER_NODE_URL="http://u:top-secret@h", PORT="x")
    with pytest.raises(SettingsError) as refusal:
        read_settings()

    lines = str(refusal.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "NODE_ID",
        "DATABASE_URL",
        "MASTER_NODE_URL",
        "PORT",
    ]
    assert "top-secret" not in str(refusal.value)


def test_no_secret_is_shown_by_a_settings_object(environment):
    """The object may be logged."""
    environment(**GOOD)

    assert "top-secret" not in repr(read_settings())
    assert "top-secret" not in repr(read_settings().orchestrator)


@pytest.mark.parametrize(
    ("location", "url", "authorization"),
    [
        ("h:5001", "http://h:5001", None),
        ("h:5001/a/b", "http://h:5001/a/b", None),
        ("user:secret@h:1", "http://h:1", "Basic dXNlcjpzZWNyZXQ="),
        ("us%40er:p%2Fw@h:1/x", "http://h:1/x", "Basic dXNAZXI6cC93"),
        ("h/p?token=abc&x=", "http://h/p?token=abc&x=", None),
    ],
)
def test_location_of_the_orchestrator_is_parsed_as_pygrid_parses_it(location, url, authorization):
    """A prefix to which a path is appended; a percent-encoded credential becomes a header."""
    parsed = OrchestratorLocation.parse(location)

    assert (parsed.url, parsed.authorization) == (url, authorization)


@examples(max_examples=30)
@given(st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,40}", fullmatch=True))
def test_service_creates_the_database_that_the_node_uses(node_id):
    """Both derive its name from the node's id."""
    settings = Settings(node_id=node_id, database_url="sqlite:///x/")

    assert settings.database == f"sqlite:///x/{DatabaseNames.of(node_id).database}"
