"""Settings: read once, all that is missing reported together."""

import pytest
from pydantic import ValidationError

from orchestration.provisioning.node_shape import SIZES
from orchestration.settings import Settings

COMPLETE = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "USER_POOL_ID": "eu-west-1_Abc",
    "APP_CLIENT_IDS": "one, two,",
    "MODEL_BUCKET": "models",
    "NODE_IMAGE": "pygrid:1",
    "NODE_DATABASE_URL": "postgres://u:hunter2@db/",
    "CALLBACK_ADDRESS": "orchestration.test:5001",
    "PUBLIC_URL": "https://orchestration.test",
    "DOWNLOAD_SECRET": "hunter3" * 6,
}


@pytest.fixture
def environment(monkeypatch):
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_a_complete_environment_is_read():
    """Lists are separated by commas; the rest has its default."""
    settings = Settings.from_environment()

    assert settings.app_client_ids == {"one", "two"}
    assert settings.issuer == "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc"
    assert settings.model_table == "model_table"
    assert settings.local_mode is False


def test_all_that_is_missing_is_reported_together(environment):
    """An operator doesn't want to find out one by one."""
    for name in COMPLETE:
        environment.delenv(name)
    with pytest.raises(ValidationError) as failed:
        Settings.from_environment()

    assert {str(fault["loc"][0]).upper() for fault in failed.value.errors()} == COMPLETE.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALLBACK_ADDRESS", "http://orchestration.test:5001"),
        ("CALLBACK_ADDRESS", "orchestration.test"),
        ("CALLBACK_ADDRESS", "user:secret@host:5001"),
        ("PUBLIC_URL", "orchestration.test"),
        ("PUBLIC_URL", "https://orchestration.test/"),
        ("DOWNLOAD_SECRET", "short"),
        ("APP_CLIENT_IDS", " , "),
        ("NODE_STACK_PREFIX", "9-node"),
        ("NODE_GRACE", "-1"),
        ("NODE_DEADLINE", "0"),
        ("RECONCILE_INTERVAL", "0"),
        ("READY_INTERVAL", "0"),
        ("MODEL_STALE_DAYS", "0"),
        ("LEGACY_KEY_DAYS", "many"),
        ("LOG_LEVEL", "loud"),
        ("NODE_CPU", "300"),
        ("NODE_CPU", "8192"),
        ("NODE_MEMORY", "512"),
        ("NODE_MEMORY", "2049"),
        ("NODE_SPOT", "perhaps"),
        ("MAX_BODY_BYTES", "0"),
    ],
)
def test_what_can_not_work_is_refused_at_start(environment, name, value):
    """And named."""
    environment.setenv(name, value)
    with pytest.raises(ValidationError) as failed:
        Settings.from_environment()

    assert [str(fault["loc"][0]).upper() for fault in failed.value.errors()] == [name]


@pytest.mark.parametrize(("cpu", "memory"), [(cpu, memory) for cpu in SIZES for memory in SIZES[cpu]])
def test_every_size_that_fargate_has_can_be_set(environment, cpu, memory):
    """In pairs."""
    environment.setenv("NODE_CPU", str(cpu))
    environment.setenv("NODE_MEMORY", str(memory))
    settings = Settings.from_environment()

    assert (settings.node_cpu, settings.node_memory) == (cpu, memory)


def test_the_usual_memory_is_held_against_another_cpu_too(environment):
    """An operator who sets the CPU alone is told which memory goes with it."""
    environment.setenv("NODE_CPU", "4096")
    with pytest.raises(ValidationError, match=r"With 4096 CPU units go 8192, 9216, .* MiB") as failed:
        Settings.from_environment()

    assert [fault["loc"] for fault in failed.value.errors()] == [("node_memory",)]


@pytest.mark.usefixtures("environment")
def test_secrets_are_not_shown():
    """Neither in a log nor in a trace."""
    assert "hunter" not in repr(Settings.from_environment())


@pytest.mark.usefixtures("environment")
def test_settings_do_not_change():
    """They are read once."""
    with pytest.raises(ValidationError):
        Settings.from_environment().local_mode = True
