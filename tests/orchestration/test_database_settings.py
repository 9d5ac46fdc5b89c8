"""Where nodes keep their state is said in exactly one way."""

import pytest
from pydantic import ValidationError

from orchestration.adapters.node_databases import OneDirectory, SharedCluster
from orchestration.pygrid_orchestration import Parts
from orchestration.settings import Settings

CLUSTER = {
    "database_cluster_arn": "arn:aws:rds:us-east-1:1:cluster:c",
    "database_secret_arn": "arn:aws:secretsmanager:us-east-1:1:secret:s",
    "database_endpoint": "cluster.test",
}
FILES = {"node_database_url": "sqlite:////data/"}


def settings(**database):
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
def test_a_deployment_says_where_nodes_keep_their_state_in_one_way(database):
    """Neither, both, or half of one is a fault that is told at the start; the URL is not shown."""
    with pytest.raises(ValidationError) as refusal:
        settings(**database)
    faults = [(fault["loc"], fault["msg"]) for fault in refusal.value.errors()]

    assert faults == [
        (
            ("node_database_url",),
            "Value error, Either this must be given, or all of DATABASE_CLUSTER_ARN, DATABASE_SECRET_ARN, "
            "DATABASE_ENDPOINT; never both.",
        )
    ]


def test_what_is_wrong_with_the_database_is_told_with_everything_else():
    """One start shows all of it."""
    with pytest.raises(ValidationError) as refusal:
        Settings(
            aws_default_region="us-east-1",
            **CLUSTER | {"database_cluster_arn": "no ARN", "public_url": "no URL"},
        )
    names = {fault["loc"][0] for fault in refusal.value.errors()}

    assert {"database_cluster_arn", "node_database_url", "public_url", "model_bucket"} <= names


def test_a_cluster_gives_each_node_a_login_of_its_own():
    """Over the Data API, without retries that would sleep in a request."""
    node_databases = Parts(settings(**CLUSTER)).node_databases

    assert isinstance(node_databases, SharedCluster)
    assert node_databases.endpoint == "cluster.test:5432"
    assert node_databases.executor.cluster_arn == CLUSTER["database_cluster_arn"]
    assert node_databases.executor.client.meta.config.retries["total_max_attempts"] == 1


def test_a_url_is_what_every_node_is_given():
    """On one machine."""
    assert Parts(settings(**FILES)).node_databases == OneDirectory("sqlite:////data/")
