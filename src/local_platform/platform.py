"""Starts and stops the platform: AWS, its stacks and data, the service, the reconciler, the ECS agent."""

import os
import secrets
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from local_platform import LocalPlatformError, seeds
from local_platform.clients import CREDENTIALS, LocalAws, access_token
from local_platform.home import Home
from local_platform.network import LOOPBACK, answers, available_port, direct_session, free_address
from local_platform.supervisor import Program, Supervisor, inherited
from orchestration.provisioning.deploy import deploy_cluster, deploy_data

START_TIMEOUT = 60.0
"""Seconds until a program that doesn't answer counts as failed."""
STOP_TIMEOUT = 1.5
"""Seconds in which all programs stop. Those that take longer are killed, and with the agent its nodes."""
CLUSTER_STACK = "artificien-cluster"
NODE_IMAGE = "artificien/pygrid-node:local"
"""Not a real image: the ECS agent runs a command of this machine in its place."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a platform. A port of 0 stands for any free one."""

    directory: Path = Path(".artificien")
    port: int = 5001
    aws_port: int = 5055
    workers: int = 2
    region: str = "us-east-1"


class Platform:
    """A context manager: the platform runs inside `with`.

    Its processes are named `aws`, `service`, `reconciler` and `agent`.
    Entering raises LocalPlatformError or StackFailed, and then leaves nothing running. Enter it in the main
    thread: the kernel kills the processes when the thread that started them ends.
    """

    environment: dict[str, str]
    """The variables in `local.env`."""
    aws: LocalAws
    url: str
    """URL of the service."""

    def __init__(self, options: Options | None = None) -> None:
        """Prepare a platform without starting it."""
        self.options = options or Options()
        self.home = Home(self.options.directory.absolute())
        self.processes = Supervisor(stop_within=STOP_TIMEOUT)
        self.scientist = _user("ada", "data scientist")
        self.developer = _user("grace", "app developer")
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        """Start everything; write `local.env` last."""
        with ExitStack() as stack:
            stack.enter_context(self.home.locked())
            self._choose_ports()
            stack.enter_context(self.processes)
            self._start_aws()
            bucket = self._deploy()
            users = (self.scientist, self.developer)
            self._pool = seeds.create_pool(self.aws, users)
            seeds.write_items(self.aws, *users, legacy_key=secrets.token_urlsafe(24))
            settings = service_settings(self.aws, self._pool, bucket, self.url, self.home.nodes)
            self._start_service(settings)
            self._start_agent()
            # With the settings, so that commands for operators work in a shell that has sourced the file.
            self.environment = settings | exported_variables(
                self.aws, self._pool, self._key_set(), self.url, users, self._new_api_key()
            )
            stack.callback(self.home.remove_exports)
            self.home.write_exports(self.environment)
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove `local.env`, then stop all processes in reverse order of their start."""
        self._exit_stack.close()

    def token(self, user: seeds.User) -> str:
        """Log a user in and return the access token."""
        return access_token(self.aws, self._pool.client_id, user.username, user.password)

    def _choose_ports(self) -> None:
        free_address(())  # fail now, and not when the first node is launched
        self.url = f"http://{LOOPBACK}:{available_port(self.options.port, '--port')}"
        aws_url = f"http://{LOOPBACK}:{available_port(self.options.aws_port, '--aws-port')}"
        self.aws = LocalAws(aws_url, self.options.region)

    def _start_aws(self) -> None:
        port = self.aws.url.rpartition(":")[2]
        command = (sys.executable, "-m", "local_platform.moto_server", "--port", port)
        # moto keeps all state in memory, so a restarted one would be an empty AWS.
        # It is killed: nothing of that state is to be saved, and its orderly end takes a second.
        self._start("aws", command, inherited(os.environ), stop_timeout=0, restart=False)
        self.processes.wait_for("aws", lambda: answers(f"{self.aws.url}/moto-api/"), START_TIMEOUT)

    def _deploy(self) -> str:
        """Deploy the cluster and data stacks with the code that does it on AWS; return the bucket's name."""
        client = self.aws.client("cloudformation")
        deploy_cluster(client, CLUSTER_STACK, deadline=START_TIMEOUT)
        return deploy_data(client, deadline=START_TIMEOUT)["ModelBucketName"]

    def _start_service(self, settings: dict[str, str]) -> None:
        environment = inherited(os.environ) | self.aws.environment() | settings
        of_gunicorn = {"BIND": self.url.removeprefix("http://"), "WEB_CONCURRENCY": str(self.options.workers)}
        gunicorn = (sys.executable, "-m", "gunicorn", "-c", "python:orchestration.gunicorn_conf")
        artificien = str(Path(sysconfig.get_path("scripts"), "artificien"))
        self._start("service", (*gunicorn, "orchestration.wsgi:app"), environment | of_gunicorn)
        self._start("reconciler", (artificien, "reconcile"), environment)
        self.processes.wait_for("service", lambda: answers(self.url), START_TIMEOUT)

    def _start_agent(self) -> None:
        agent = (sys.executable, "-m", "local_platform.ecs_agent", "--aws", self.aws.url)
        command = (*agent, "--region", self.aws.region, "--logs", str(self.home.logs))
        self._start("agent", command, inherited(os.environ))

    def _start(
        self,
        name: str,
        command: tuple[str, ...],
        environment: dict[str, str],
        *,
        stop_timeout: float = 5.0,
        restart: bool = True,
    ) -> None:
        log = self.home.logs / f"{name}.log"
        self.processes.start(Program(name, command, environment, log, stop_timeout, restart))

    def _new_api_key(self) -> str:
        """Have the service create the developer's API key, as the marketplace does."""
        with direct_session() as session:
            answer = session.post(
                f"{self.url}/generate_key",
                json={"user_id": self.developer.username},
                headers={"Authorization": f"Bearer {self.token(self.developer)}"},
                timeout=30,
            )
        if not answer.ok:
            raise LocalPlatformError(f"POST /generate_key failed: {answer.status_code} {answer.text}")
        return str(answer.json()["api_key"])

    def _key_set(self) -> str:
        with direct_session() as session:
            return session.get(self.aws.url + self._pool.key_set_path(), timeout=10).text


def _user(username: str, role: str) -> seeds.User:
    """Return a user with a random password that satisfies Cognito's policy."""
    return seeds.User(username, f"{secrets.token_urlsafe(15)}aA1-", role)


def service_settings(aws: LocalAws, pool: seeds.Pool, bucket: str, url: str, nodes: Path) -> dict[str, str]:
    """Return the settings of the service beside those of AWS. `url` is the service's own."""
    return {
        "LOCAL_MODE": "true",
        "USER_POOL_ID": pool.pool_id,
        "APP_CLIENT_IDS": pool.client_id,
        "JWKS_URL": aws.url + pool.key_set_path(),
        "MODEL_BUCKET": bucket,
        "CLUSTER_STACK": CLUSTER_STACK,
        "NODE_IMAGE": NODE_IMAGE,
        "NODE_DATABASE_URL": f"sqlite:///{nodes}/",
        "CALLBACK_ADDRESS": url.removeprefix("http://"),
        "PUBLIC_URL": url,
        "DOWNLOAD_SECRET": secrets.token_urlsafe(32),
        "NODE_MIN_REPORTS": "1",  # the demo trains on a few phones
        # Seconds instead of minutes, because a person watches.
        "NODE_GRACE": "2",
        # Sixty nodes launched at once on two cores take two minutes; a shorter deadline would relaunch them.
        "NODE_DEADLINE": "300",
        "RECONCILE_INTERVAL": "0.5",
        "READY_INTERVAL": "1",
    }


def exported_variables(
    aws: LocalAws, pool: seeds.Pool, key_set: str, url: str, users: Sequence[seeds.User], api_key: str
) -> dict[str, str]:
    """Return what the programs of data scientists and devices need.

    `users` are the scientist and the developer, `key_set` is the pool's JSON Web Key Set, `url` the
    service's.
    """
    scientist, developer = users
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
        # artificienlib reads the username from the first; its login library, warrant, the pool's keys from
        # the second.
        "JUPYTERHUB_USER": scientist.username,
        "COGNITO_JWKS": key_set,
    }
