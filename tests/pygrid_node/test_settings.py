"""Settings come from the environment, once, with all that is wrong reported together."""

import pytest

from pygrid_node.settings import MasterNode, SettingsError, read_settings

GOOD = {"NODE_ID": "My-Node", "DATABASE_URL": "sqlite:////data/", "MASTER_NODE_URL": "u:top-secret@h:5001"}


@pytest.fixture
def environment(monkeypatch):
    """Only what a test sets."""
    for name in (*GOOD, "PORT", "ADDRESS", "BIND_HOST", "MAX_MESSAGE_BYTES", "PLACE_LIFETIME"):
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_the_database_is_named_after_the_node(environment):
    """Lower case, without hyphens, `db` behind it: as the original does."""
    environment(**GOOD)
    settings = read_settings()

    assert settings.database == "sqlite:////data/mynodedb"
    assert (settings.port, settings.max_message_bytes, settings.address) == (5000, 2**29, None)
    assert settings.place_lifetime == 300


def test_everything_that_is_missing_or_wrong_is_reported_together(environment):
    """One start shows all of it, and no value, since some are secret."""
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
    """It may be logged."""
    environment(**GOOD)

    assert "top-secret" not in repr(read_settings())
    assert "top-secret" not in repr(read_settings().master)


@pytest.mark.parametrize(
    ("location", "url", "headers"),
    [
        ("h:5001", "http://h:5001/model_progress", {}),
        ("h:5001/a/b", "http://h:5001/a/b/model_progress", {}),
        ("user:secret@h:1", "http://h:1/model_progress", {"Authorization": "Basic dXNlcjpzZWNyZXQ="}),
        ("us%40er:p%2Fw@h:1/x", "http://h:1/x/model_progress", {"Authorization": "Basic dXNAZXI6cC93"}),
        ("h/p?token=abc&x=", "http://h/p?token=abc&x=/model_progress", {}),
    ],
)
def test_the_master_node_is_read_as_the_original_reads_it(location, url, headers):
    """A prefix and a suffix; credentials are percent-decoded and go into a header."""
    master = MasterNode.parse(location)

    assert (master.progress_url, master.headers()) == (url, headers)
