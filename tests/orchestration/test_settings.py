"""Settings: read once from the environment; all errors are reported together."""

import pytest
from pydantic import ValidationError

from orchestration.adapters.node_databases import OneDirectory, SharedCluster
from orchestration.provisioning.node_shape import SIZES
from orchestration.pygrid_orchestration import Parts
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
def test_complete_environment_is_read():
    """Lists are separated by commas; other settings have defaults."""
    settings = Settings.from_environment()

    assert settings.app_client_ids == {"one", "two"}
    assert settings.issuer == "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Abc"
    assert (settings.model_table, settings.training_table) == ("model_table", "training_table")
    assert settings.local_mode is False


def test_all_missing_settings_are_reported_together(environment):
    """An operator sees them in one start of the service."""
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
        ("LOSS_BOUND", "0"),
        ("LOSS_BOUND", "1e16"),
        ("LOSS_BOUND", "nan"),
        ("RATE_PER_NODE", "often"),
        ("RATE_PER_CALLER", "120"),
        ("NODE_CPU", "300"),
        ("NODE_CPU", "8192"),
        ("NODE_MEMORY", "512"),
        ("NODE_MEMORY", "2049"),
        ("NODE_SPOT", "perhaps"),
        ("MAX_BODY_BYTES", "0"),
    ],
)
def test_invalid_value_is_refused(environment, name, value):
    """The error names the setting."""
    environment.setenv(name, value)
    with pytest.raises(ValidationError) as failed:
        Settings.from_environment()

    assert [str(fault["loc"][0]).upper() for fault in failed.value.errors()] == [name]


@pytest.mark.parametrize(("cpu", "memory"), [(cpu, memory) for cpu in SIZES for memory in SIZES[cpu]])
def test_every_fargate_size_is_valid(environment, cpu, memory):
    """Each CPU value allows certain memory values."""
    environment.setenv("NODE_CPU", str(cpu))
    environment.setenv("NODE_MEMORY", str(memory))
    settings = Settings.from_environment()

    assert (settings.node_cpu, settings.node_memory) == (cpu, memory)


def test_default_memory_is_checked_with_another_cpu(environment):
    """If only the CPU is set, the error lists the memory values that it allows."""
    environment.setenv("NODE_CPU", "4096")
    with pytest.raises(ValidationError, match=r"With 4096 CPU units go 8192, 9216, .* MiB") as failed:
        Settings.from_environment()

    assert [fault["loc"] for fault in failed.value.errors()] == [("node_memory",)]


@pytest.mark.usefixtures("environment")
def test_secrets_are_not_shown():
    """Their repr appears in logs and tracebacks."""
    assert "hunter" not in repr(Settings.from_environment())


@pytest.mark.usefixtures("environment")
def test_settings_are_immutable():
    """Settings are read once, when a process starts."""
    with pytest.raises(ValidationError):
        Settings.from_environment().local_mode = True


CLUSTER = {
    "database_cluster_arn": "arn:aws:rds:us-east-1:1:cluster:c",
    "database_secret_arn": "arn:aws:secretsmanager:us-east-1:1:secret:s",
    "database_endpoint": "cluster.test",
}
FILES = {"node_database_url": "sqlite:////data/"}


def settings_with(**database):
    return Settings(
        aws_default_region="us-east-1",
        user_pool_id="us-east-1_Pool",
        app_client_ids="client",
        model_bucket="models",
        node_image="pygrid:1",
        callback_address="orchestration.test:5001",
        public_url="http://orchestration.test:5001",
        download_secret="s" * 32,
        **database,
    )


@pytest.mark.parametrize(
    "database", [{}, CLUSTER | FILES, FILES | {"database_endpoint": "c"}, CLUSTER | {"database_endpoint": ""}]
)
def test_databases_are_either_a_cluster_or_a_directory(database):
    """Neither, both or an incomplete cluster is an error, and the error doesn't show the URL."""
    with pytest.raises(ValidationError) as refusal:
        settings_with(**database)
    faults = [(fault["loc"], fault["msg"]) for fault in refusal.value.errors()]

    assert faults == [
        (
            ("node_database_url",),
            "Value error, Either this must be given, or all of DATABASE_CLUSTER_ARN, DATABASE_SECRET_ARN, "
            "DATABASE_ENDPOINT; never both.",
        )
    ]


def test_database_errors_are_reported_with_all_others():
    """An operator sees them in one start of the service."""
    with pytest.raises(ValidationError) as refusal:
        Settings(
            aws_default_region="us-east-1",
            **CLUSTER | {"database_cluster_arn": "no ARN", "public_url": "no URL"},
        )
    names = {fault["loc"][0] for fault in refusal.value.errors()}

    assert {"database_cluster_arn", "node_database_url", "public_url", "model_bucket"} <= names


def test_cluster_settings_select_the_shared_cluster():
    """Its client makes one attempt: retries would sleep inside a pass of the reconciler."""
    node_databases = Parts(settings_with(**CLUSTER)).node_databases

    assert isinstance(node_databases, SharedCluster)
    assert node_databases.endpoint == "cluster.test:5432"
    assert node_databases.executor.cluster_arn == CLUSTER["database_cluster_arn"]
    assert node_databases.executor.client.meta.config.retries["total_max_attempts"] == 1


def test_database_url_selects_one_directory():
    """All nodes of one machine share it."""
    assert Parts(settings_with(**FILES)).node_databases == OneDirectory("sqlite:////data/")
