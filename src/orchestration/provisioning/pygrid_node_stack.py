"""The stack of one PyGrid node. One template serves every dataset: what differs is a parameter.

Imported only where the CDK runs (`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from aws_cdk import BootstraplessSynthesizer, CfnOutput, CfnParameter, Duration, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

NODE_PORT = 5000
NODE_PARAMETERS = {
    "NodeId": "Name of the node, an SQL identifier",
    "NodeImage": "Container image of the node",
    "NodeSecretArn": "Secret with the keys MASTER_NODE_URL and DATABASE_URL",
}
CLUSTER_PARAMETERS = {
    "VpcId": "Network of the cluster",
    "PublicSubnetA": "Of the load balancer, first zone",
    "PublicSubnetB": "Of the load balancer, second zone",
    "NodeSubnetA": "Of the task, first zone",
    "NodeSubnetB": "Of the task, second zone",
    "AssignPublicIp": "ENABLED where tasks run in public subnets, without NAT",
    "ClusterName": "ECS cluster",
    "LoadBalancerSecurityGroup": "Security group of load balancers",
    "NodeSecurityGroup": "Security group of tasks",
    "ExecutionRoleArn": "Role with which ECS starts the task",
    "TaskRoleArn": "Role of the running task",
    "LogGroupName": "Log group of the nodes",
}
"""Filled with the outputs of the same names of `EcsClusterStack`."""

_PATTERNS = {
    "NodeId": "[a-z][a-z0-9]*",  # the original image writes it into SQL without quotes
    "AssignPublicIp": "ENABLED|DISABLED",
}


class PygridNodeStack(Stack):
    """A Fargate service of one task behind a load balancer of its own, on port 5000.

    Everything imported from the cluster is immutable here, so that the template holds five resources and no
    rule of another stack.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        """Declare the stack."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        descriptions = NODE_PARAMETERS | CLUSTER_PARAMETERS
        self._parameters = {
            name: CfnParameter(
                self, name, type="String", description=text, allowed_pattern=_PATTERNS.get(name, ".+")
            ).value_as_string
            for name, text in descriptions.items()
        }
        self._vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=self._parameters["VpcId"],
            availability_zones=["first", "second"],  # demanded, never written: subnets are parameters
        )
        balancer = self._load_balancer()
        service = self._service(self._task(balancer.load_balancer_dns_name))
        self._listen(balancer, service)
        CfnOutput(self, "PyGridNodeLoadBalancerDNS", value=balancer.load_balancer_dns_name)

    def _load_balancer(self) -> elb.ApplicationLoadBalancer:
        return elb.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._vpc,
            internet_facing=True,
            security_group=self._security_group("LoadBalancerSecurityGroup"),
            vpc_subnets=self._subnets("PublicSubnetA", "PublicSubnetB"),
            idle_timeout=Duration.hours(1),  # WebSockets are quiet while a phone trains
        )

    def _task(self, address: str) -> ecs.FargateTaskDefinition:
        """0.5 vCPU and 2 GB. Which secrets are plain environment is decided by the original image."""
        parameters = self._parameters
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=parameters["NodeId"],
            cpu=512,
            memory_limit_mib=2048,
            execution_role=self._role("ExecutionRoleArn"),
            task_role=self._role("TaskRoleArn"),
        )
        task.add_container(
            "Node",
            container_name="node",
            image=ecs.ContainerImage.from_registry(parameters["NodeImage"]),
            environment={"NODE_ID": parameters["NodeId"], "ADDRESS": address, "PORT": str(NODE_PORT)},
            secrets=self._secrets("MASTER_NODE_URL", "DATABASE_URL"),
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix=parameters["NodeId"],
                log_group=logs.LogGroup.from_log_group_name(self, "Logs", parameters["LogGroupName"]),
            ),
            port_mappings=[ecs.PortMapping(container_port=NODE_PORT)],
        )
        return task

    def _service(self, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        """One task, and never two: two copies of a node would average one cycle twice."""
        service = ecs.FargateService(
            self,
            "Service",
            cluster=self._cluster(),
            task_definition=task,
            # The one writer of DesiredCount: nothing scales this service, a node is spun down with its stack.
            desired_count=1,
            min_healthy_percent=0,
            max_healthy_percent=100,
            security_groups=[self._security_group("NodeSecurityGroup")],
            vpc_subnets=self._subnets("NodeSubnetA", "NodeSubnetB"),
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            health_check_grace_period=Duration.minutes(3),  # the database may have to wake up first
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        declared = service.node.default_child
        if isinstance(declared, ecs.CfnService):
            declared.add_property_override(
                "NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp", self._parameters["AssignPublicIp"]
            )
        return service

    def _listen(self, balancer: elb.ApplicationLoadBalancer, service: ecs.FargateService) -> None:
        target = elb.ApplicationTargetGroup(
            self,
            "Target",
            vpc=self._vpc,
            port=NODE_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[service],
            deregistration_delay=Duration.seconds(5),  # a node goes down when nothing is left to train
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

    def _cluster(self) -> ecs.ICluster:
        cluster: ecs.ICluster = ecs.Cluster.from_cluster_attributes(
            self, "Cluster", cluster_name=self._parameters["ClusterName"], vpc=self._vpc, security_groups=[]
        )
        return cluster

    def _security_group(self, parameter: str) -> ec2.ISecurityGroup:
        group: ec2.ISecurityGroup = ec2.SecurityGroup.from_security_group_id(
            self, f"{parameter}Import", self._parameters[parameter], mutable=False
        )
        return group

    def _subnets(self, *parameters: str) -> ec2.SubnetSelection:
        return ec2.SubnetSelection(
            subnets=[
                ec2.Subnet.from_subnet_id(self, f"{name}Import", self._parameters[name])
                for name in parameters
            ]
        )

    def _role(self, parameter: str) -> iam.IRole:
        arn = self._parameters[parameter]
        role: iam.IRole = iam.Role.from_role_arn(self, f"{parameter}Import", arn, mutable=False)
        return role

    def _secrets(self, *keys: str) -> dict[str, ecs.Secret]:
        secret = secretsmanager.Secret.from_secret_complete_arn(
            self, "Secret", self._parameters["NodeSecretArn"]
        )
        return {key: ecs.Secret.from_secrets_manager(secret, key) for key in keys}
