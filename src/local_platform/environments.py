"""The environment of the service's processes, and what the platform exports to a shell."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from local_platform import seeds
from local_platform.clients import CREDENTIALS, LocalAws
from local_platform.logins import Pool
from local_platform.network import direct

NODE_IMAGE = "artificien/pygrid-node:local"
"""No image: the agent knows the command that stands in for it."""

CLUSTER_STACK = "artificien-cluster"


def service_environment(
    aws: LocalAws, pool: Pool, bucket: str, url: str, nodes: Path, workers: int
) -> dict[str, str]:
    """Return exactly what the service's settings and its gunicorn configuration read; `url` is its own."""
    address = url.removeprefix("http://")
    return {
        **aws.environment(),
        "BIND": address,
        "WEB_CONCURRENCY": str(workers),
        "LOCAL_MODE": "true",
        "USER_POOL_ID": pool.pool_id,
        "APP_CLIENT_IDS": pool.client_id,
        "JWKS_URL": aws.url + pool.key_set_path(),
        "MODEL_BUCKET": bucket,
        "CLUSTER_STACK": CLUSTER_STACK,
        "NODE_IMAGE": NODE_IMAGE,
        "NODE_DATABASE_URL": f"sqlite:///{nodes}/",
        "CALLBACK_ADDRESS": address,
        "PUBLIC_URL": url,
        "DOWNLOAD_SECRET": secrets.token_urlsafe(32),
        # Seconds instead of minutes: one sits and watches.
        "NODE_GRACE": "2",
        # Sixty nodes that start at once on two cores take two minutes; given up earlier, they start again.
        "NODE_DEADLINE": "300",
        "RECONCILE_INTERVAL": "0.5",
        "READY_INTERVAL": "1",
    }


def exports(
    aws: LocalAws, pool: Pool, url: str, people: Sequence[seeds.Person], api_key: str
) -> dict[str, str]:
    """Return what the programs of a data scientist and a phone need; `people` are scientist and developer."""
    scientist, developer = people
    return {
        "ORCHESTRATION_URL": url,
        "AWS_ENDPOINT_URL": aws.url,
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": aws.region,
        "USER_POOL_ID": pool.pool_id,
        "APP_CLIENT_ID": pool.client_id,
        "DS_USERNAME": scientist.username,
        "DS_PASSWORD": scientist.password,
        "DATASET_ID": seeds.DATASET_ID,
        "API_KEY": api_key,
        "DEVELOPER_USERNAME": developer.username,
        "DEVELOPER_PASSWORD": developer.password,
        "MODEL_ID": seeds.model_id(scientist.username),
        # artificienlib takes its user's name from the one; warrant, in it, the pool's keys from the other.
        "JUPYTERHUB_USER": scientist.username,
        "COGNITO_JWKS": _key_set(aws.url + pool.key_set_path()),
    }


def _key_set(url: str) -> str:
    with direct() as session:
        return session.get(url, timeout=10).text
