"""The service's processes on Fargate: one image, one environment, a role for each."""

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager

from orchestration.provisioning.names import SERVICE_PORT
from orchestration.stacks.imported_cluster import ImportedCluster
from orchestration.stacks.policies import STARS_OF_STARTING, acknowledge, for_tasks, start_tasks


@dataclass(frozen=True, slots=True)
class Process:
    """A kind of process; `cpu` in 1/1024 of a CPU, `memory` in MiB.

    Without a command, the image runs gunicorn, which listens on `SERVICE_PORT`.
    """

    name: str
    count: int
    cpu: int
    memory: int
    role: iam.Role
    group: ec2.SecurityGroup
    command: tuple[str, ...] = ()


class ServiceTasks:
    """Declares the services. They share a log group, an execution role and one secret."""

    def __init__(
        self,
        stack: Stack,
        cluster: ImportedCluster,
        *,
        image: str,
        environment: Mapping[str, str],
        download_secret_arn: str,
    ) -> None:
        """Declare what the processes share. `environment` must contain no secret."""
        self._stack = stack
        self._cluster = cluster
        self._image = ecs.ContainerImage.from_registry(image)
        self._environment = environment
        secret = secretsmanager.Secret.from_secret_complete_arn(stack, "DownloadSecret", download_secret_arn)
        self._secrets = {"DOWNLOAD_SECRET": ecs.Secret.from_secrets_manager(secret)}
        self.log_group = logs.LogGroup(
            stack, "Logs", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        self._execution_role = iam.Role(stack, "ExecutionRole", assumed_by=for_tasks(stack))
        for statement in start_tasks(stack, self.log_group.log_group_arn, [download_secret_arn]):
            self._execution_role.add_to_policy(statement)
        acknowledge(self._execution_role, STARS_OF_STARTING)

    def service(self, process: Process) -> ecs.FargateService:
        """Declare the service of one kind of process."""
        service = ecs.FargateService(
            self._stack,
            process.name,
            cluster=self._cluster.cluster,
            task_definition=self._task(process),
            desired_count=process.count,
            # Old and new tasks may run at the same time: every call is idempotent or conditional.
            min_healthy_percent=100,
            max_healthy_percent=200,
            security_groups=[process.group],
            vpc_subnets=self._cluster.task_subnets,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            health_check_grace_period=None if process.command else Duration.minutes(1),
        )
        self._cluster.set_public_ip(service)
        # Tasks that start before the role has its policy can't read their secret.
        service.node.add_dependency(self._execution_role)
        return service

    def _task(self, process: Process) -> ecs.FargateTaskDefinition:
        task = ecs.FargateTaskDefinition(
            self._stack,
            f"{process.name}Task",
            cpu=process.cpu,
            memory_limit_mib=process.memory,
            # Their policies are complete; the CDK would add permissions that no task needs.
            execution_role=self._execution_role.without_policy_updates(),
            task_role=process.role.without_policy_updates(),
        )
        task.add_container(
            process.name,
            container_name=process.name.lower(),
            image=self._image,
            command=list(process.command) or None,
            environment=dict(self._environment),
            secrets=self._secrets,
            logging=ecs.LogDrivers.aws_logs(stream_prefix=process.name.lower(), log_group=self.log_group),
            port_mappings=[] if process.command else [ecs.PortMapping(container_port=SERVICE_PORT)],
        )
        acknowledge(
            task, {"ECS2": "The environment contains names and addresses; the only secret is an ECS secret."}
        )
        return task
