"""Everything on one machine: AWS, the stacks, people and data, the service, the reconciler, the agent."""

import os
import secrets
import sys
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from local_platform import seeds
from local_platform.clients import LocalAws, kept
from local_platform.environments import CLUSTER_STACK, exports, service_environment
from local_platform.home import Home
from local_platform.logins import access_token, make_pool
from local_platform.network import LOOPBACK, answers, claim_port, direct, free_address
from local_platform.supervisor import NotStartedError, Program, Supervisor
from orchestration.provisioning.deploy import deploy_cluster, deploy_data

PATIENCE = 60.0
"""Seconds until a program that gives no answer counts as failed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What can be chosen; a port of 0 is any free one."""

    directory: Path = Path(".artificien")
    port: int = 5001
    aws_port: int = 5055
    workers: int = 2
    region: str = "us-east-1"


class Platform:
    """A context: up inside `with`, gone after it. Processes: `aws`, `service`, `reconciler`, `agent`.

    Entering raises HomeError, PortTakenError, NoAddressError, NotStartedError or StackFailed; nothing
    stays up then.
    Enter it in the main thread, to which its processes are tied.
    """

    environment: dict[str, str]
    """What `local.env` exports."""
    aws: LocalAws
    url: str
    """Of the service."""

    def __init__(self, options: Options | None = None) -> None:
        """Choose where and how; nothing starts yet."""
        self.options = options or Options()
        self.home = Home(self.options.directory.absolute())
        self.processes = Supervisor()
        self.scientist = _person("ada", "data scientist")
        self.developer = _person("grace", "app developer")
        self._leaving = ExitStack()

    def __enter__(self) -> Self:
        """Bring everything up; the exports come last."""
        with ExitStack() as leaving:
            self._claim(leaving)
            leaving.enter_context(self.processes)
            self._start_aws()
            bucket = self._deploy()
            people = (self.scientist, self.developer)
            self._pool = make_pool(self.aws, people)
            seeds.plant(self.aws, *people, legacy_key=secrets.token_urlsafe(24))
            self._start_service(bucket)
            self._start_agent()
            self.environment = exports(self.aws, self._pool, self.url, people, self._new_api_key())
            leaving.callback(self.home.withdraw)
            self.home.publish(self.environment)
            self._leaving = leaving.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the exports back, then stop everything, the last one first."""
        self._leaving.close()

    def token(self, person: seeds.Person) -> str:
        """Log somebody in and return the access token."""
        return access_token(self.aws, self._pool.client_id, person.username, person.password)

    def _claim(self, leaving: ExitStack) -> None:
        leaving.enter_context(self.home.occupied())
        free_address(())  # a node would find none either, and much later
        self.url = f"http://{LOOPBACK}:{claim_port(self.options.port, '--port')}"
        aws_url = f"http://{LOOPBACK}:{claim_port(self.options.aws_port, '--aws-port')}"
        self.aws = LocalAws(aws_url, self.options.region)

    def _start_aws(self) -> None:
        port = self.aws.url.rpartition(":")[2]
        command = (sys.executable, "-m", "local_platform.aws", "--port", port)
        program = Program("aws", command, kept(os.environ), self._log("aws"), is_replaceable=False)
        self.processes.start(program)
        self.processes.wait_for("aws", lambda: answers(f"{self.aws.url}/moto-api/"), PATIENCE)

    def _deploy(self) -> str:
        """Put up cluster and data by the code that does it on AWS; return the name of the models' bucket."""
        client = self.aws.client("cloudformation")
        deploy_cluster(client, CLUSTER_STACK, deadline=PATIENCE)
        return deploy_data(client, deadline=PATIENCE)["ModelBucketName"]

    def _start_service(self, bucket: str) -> None:
        environment = kept(os.environ) | service_environment(
            self.aws, self._pool, bucket, self.url, self.home.nodes, self.options.workers
        )
        gunicorn = (sys.executable, "-m", "gunicorn", "-c", "python:orchestration.gunicorn_conf")
        reconciler = str(Path(sysconfig.get_path("scripts"), "artificien"))
        web = Program("service", (*gunicorn, "orchestration.wsgi:app"), environment, self._log("service"))
        self.processes.start(web)
        self.processes.start(
            Program("reconciler", (reconciler, "reconcile"), environment, self._log("reconciler"))
        )
        self.processes.wait_for("service", lambda: answers(self.url), PATIENCE)

    def _start_agent(self) -> None:
        agent = (sys.executable, "-m", "local_platform.ecs_agent", "--aws", self.aws.url)
        where = ("--region", self.aws.region, "--logs", str(self.home.logs))
        # It stops its nodes first, each of which may take its time.
        self.processes.start(
            Program("agent", (*agent, *where), kept(os.environ), self._log("agent"), patience=20)
        )

    def _new_api_key(self) -> str:
        """Have the service make the developer's key, as the marketplace does."""
        with direct() as session:
            answer = session.post(
                f"{self.url}/generate_key",
                json={"user_id": self.developer.username},
                headers={"Authorization": f"Bearer {self.token(self.developer)}"},
                timeout=30,
            )
        if not answer.ok:
            raise NotStartedError(f"The service made no API key: {answer.status_code} {answer.text}")
        return str(answer.json()["api_key"])

    def _log(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"


def _person(username: str, role: str) -> seeds.Person:
    """Make somebody with a random password that Cognito's policy takes."""
    return seeds.Person(username, f"{secrets.token_urlsafe(15)}aA1-", role)
