"""The stack of one PyGrid node. All nodes share one template; their differences are parameters."""

from aws_cdk import BootstraplessSynthesizer, CfnOutput, CfnParameter, Duration, Fn, Stack, Token
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from orchestration.domain.node import NODE_PORT
from orchestration.provisioning.names import CLUSTER_NAME_OUTPUT, NODE_ADDRESS_OUTPUT, NODE_STACK
from orchestration.provisioning.node_shape import MEMORIES, ON_DEMAND, SIZES, SPOT
from orchestration.stacks.imported_cluster import ImportedCluster
from orchestration.stacks.policies import acknowledge

_NODE_PARAMETERS = {
    "NodeId": "Name of the node, an SQL identifier",
    "NodeImage": "Container image of the node",
    "NodeReadOnly": "Whether the task's files can't be written; the original image writes some",
    "NodeMinReports": "How many reports a cycle has at least; the original image ignores it",
    "NodeCpu": "Of the task, in 1/1024 of a CPU",
    "NodeMemory": "Of the task, in MiB",
    "CapacityProvider": "Of the cluster, on which the task runs",
    "NodeSecretArn": "Secret with the keys MASTER_NODE_URL and DATABASE_URL",
}
_CLUSTER_PARAMETERS = {
    "VpcId": "Network of the cluster",
    "PublicSubnetA": "Of the load balancer, first zone",
    "PublicSubnetB": "Of the load balancer, second zone",
    "NodeSubnetA": "Of the task, first zone",
    "NodeSubnetB": "Of the task, second zone",
    "AssignPublicIp": "ENABLED where tasks run in public subnets, without NAT",
    CLUSTER_NAME_OUTPUT: "ECS cluster",
    "LoadBalancerSecurityGroup": "Security group of load balancers",
    "NodeSecurityGroup": "Security group of tasks",
    "ExecutionRoleArn": "Role with which ECS starts the task",
    "TaskRoleArn": "Role of the running task",
    "LogGroupName": "Log group of the nodes",
}
"""Their values are the outputs of `EcsClusterStack` with the same names."""

_PATTERNS = {
    "NodeId": "[a-z][a-z0-9]*",  # the original node writes it into SQL without quotes
}
_ALLOWED = {
    "AssignPublicIp": ["ENABLED", "DISABLED"],
    "NodeReadOnly": ["true", "false"],
    "NodeCpu": [str(cpu) for cpu in SIZES],
    "NodeMemory": [str(memory) for memory in MEMORIES],
    "CapacityProvider": [ON_DEMAND, SPOT],
}


class PygridNodeStack(Stack):
    """A Fargate service of one task behind its own load balancer; five resources."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        """Declare the stack."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        descriptions = _NODE_PARAMETERS | _CLUSTER_PARAMETERS
        self._parameters = {name: self._parameter(name, text) for name, text in descriptions.items()}
        self._cluster = ImportedCluster(self, self._parameters.__getitem__)
        self._unique_name = _unique_name(self.stack_id)
        balancer = self._load_balancer()
        service = self._service(self._task(balancer.load_balancer_dns_name))
        self._listen(balancer, service)
        CfnOutput(self, NODE_ADDRESS_OUTPUT, value=balancer.load_balancer_dns_name)

    def _parameter(self, name: str, description: str) -> str:
        allowed = _ALLOWED.get(name)
        pattern = None if allowed else _PATTERNS.get(name, ".+")
        declared = CfnParameter(
            self, name, description=description, allowed_values=allowed, allowed_pattern=pattern
        )
        return str(declared.value_as_string)

    def _load_balancer(self) -> elb.ApplicationLoadBalancer:
        balancer = elb.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            load_balancer_name=self._unique_name,
            vpc=self._cluster.vpc,
            internet_facing=True,
            security_group=self._cluster.security_group("LoadBalancerSecurityGroup"),
            vpc_subnets=self._cluster.public_subnets,
            idle_timeout=Duration.hours(1),  # WebSockets are quiet while a phone trains
        )
        acknowledge(
            balancer,
            {"ELB2": "Access logs contain URLs, and a device's request key is in the query of its URLs."},
        )
        return balancer

    def _task(self, address: str) -> ecs.FargateTaskDefinition:
        """Declare the container; the original node reads its secrets from environment variables, too."""
        parameters = self._parameters
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=f"{NODE_STACK}-{parameters['NodeId']}",
            cpu=Token.as_number(parameters["NodeCpu"]),
            memory_limit_mib=Token.as_number(parameters["NodeMemory"]),
            execution_role=self._cluster.role("ExecutionRoleArn"),
            task_role=self._cluster.role("TaskRoleArn"),
        )
        task.add_container(
            "Node",
            container_name="node",
            image=ecs.ContainerImage.from_registry(parameters["NodeImage"]),
            environment={
                "NODE_ID": parameters["NodeId"],
                "ADDRESS": address,
                "PORT": str(NODE_PORT),
                "TRUSTED_PROXIES": "1",  # the load balancer, which adds the client's address
                "MIN_REPORTS": parameters["NodeMinReports"],
            },
            secrets=self._secrets("MASTER_NODE_URL", "DATABASE_URL"),
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix=parameters["NodeId"],
                log_group=logs.LogGroup.from_log_group_name(self, "Logs", parameters["LogGroupName"]),
            ),
            port_mappings=[ecs.PortMapping(container_port=NODE_PORT)],
        )
        # The construct accepts a Python bool only, not a parameter.
        definition = task.node.default_child
        definition.add_property_override(
            "ContainerDefinitions.0.ReadonlyRootFilesystem", parameters["NodeReadOnly"]
        )
        acknowledge(
            task,
            {"ECS2": "The environment has name, address, port and two numbers; secrets are ECS secrets."},
        )
        return task

    def _service(self, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        """Run at most one task: two copies of a node would average a cycle twice."""
        service = ecs.FargateService(
            self,
            "Service",
            cluster=self._cluster.cluster,
            task_definition=task,
            # One provider: ECS would not use a second one where the first has no capacity.
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider=self._parameters["CapacityProvider"], weight=1)
            ],
            # The only writer of DesiredCount: a node stops when its stack is deleted, nothing scales it.
            desired_count=1,
            min_healthy_percent=0,
            max_healthy_percent=100,
            security_groups=[self._cluster.security_group("NodeSecurityGroup")],
            vpc_subnets=self._cluster.task_subnets,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            health_check_grace_period=Duration.minutes(3),  # a paused database takes a while to resume
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        self._cluster.set_public_ip(service)
        return service

    def _listen(self, balancer: elb.ApplicationLoadBalancer, service: ecs.FargateService) -> None:
        target = elb.ApplicationTargetGroup(
            self,
            "Target",
            target_group_name=self._unique_name,
            vpc=self._cluster.vpc,
            port=NODE_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[service],
            deregistration_delay=Duration.seconds(5),  # a node stops when nothing is left to train
            health_check=elb.HealthCheck(
                path="/data-centric/status/",
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=5,
            ),
        )
        balancer.add_listener(
            "Listener",
            port=NODE_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            default_target_groups=[target],
            open=False,  # the cluster's security group is open for this port already
        )

    def _secrets(self, *keys: str) -> dict[str, ecs.Secret]:
        secret = secretsmanager.Secret.from_secret_complete_arn(
            self, "Secret", self._parameters["NodeSecretArn"]
        )
        return {key: ecs.Secret.from_secrets_manager(secret, key) for key in keys}


def _unique_name(stack_id: str) -> str:
    """Return the name of load balancer and target group; it has 29 characters, 32 are allowed.

    `ProvisioningRole` may only touch resources whose names start with `NODE_STACK`. Without a given name,
    CloudFormation would use only the first six letters of the stack's name. The 12 hex digits are the first
    of the UUID in the stack's id, so that two generations of a node can exist at the same time.
    """
    uuid = Fn.split("-", Fn.select(2, Fn.split("/", stack_id)))
    return f"{NODE_STACK}-{Fn.select(0, uuid)}-{Fn.select(1, uuid)}"
