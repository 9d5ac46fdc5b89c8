"""The cluster stack, shared by all nodes: network, ECS cluster, database, log group and roles."""

from aws_cdk import Aws, BootstraplessSynthesizer, CfnOutput, Duration, Fn, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from constructs import Construct

from orchestration.domain.node import NODE_PORT
from orchestration.provisioning.names import CLUSTER_NAME_OUTPUT, DATABASE_PORT, SERVICE_PORT
from orchestration.stacks.policies import (
    HTTPS_PORT,
    NODE_SECRETS,
    STARS_OF_NODE_SECRETS,
    STARS_OF_STARTING,
    acknowledge,
    allow,
    arn,
    for_tasks,
    start_tasks,
)


class EcsClusterStack(Stack):
    """One per deployment. Its outputs have the names of the parameters of `PygridNodeStack` that they fill.

    It contains no ECS service: only a node's own stack writes that node's `DesiredCount`.
    """

    def __init__(self, scope: Construct, construct_id: str, *, nat: bool = False) -> None:
        """Declare the stack. With `nat`, tasks run in private subnets behind one NAT gateway."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        self._nat = nat
        self.vpc = self._network()
        self.load_balancer_group, self.node_group, self.database_group = self._security_groups()
        # Each node's service selects one of Fargate's two capacity providers.
        self.cluster = ecs.Cluster(self, "Cluster", vpc=self.vpc, enable_fargate_capacity_providers=True)
        acknowledge(
            self.cluster,
            {"ECS4": "Container Insights costs some dollars a month for every node."},
        )
        self.database = self._database()
        self.log_group = self._logs("NodeLogs", _masked_credentials())
        self._log_rejected_traffic()
        self.boundary = self._boundary()
        self.execution_role = self._role("ExecutionRole", [self.boundary])
        # A role without any permission: a running node calls nothing of AWS.
        self.task_role = self._role("TaskRole")
        self._export()

    def _network(self) -> ec2.Vpc:
        public = ec2.SubnetConfiguration(
            name="Public",
            subnet_type=ec2.SubnetType.PUBLIC,
            cidr_mask=20,
            # A task without NAT requests its public address itself; nothing else should get one by accident.
            map_public_ip_on_launch=False,
        )
        node = ec2.SubnetConfiguration(
            name="Node", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20
        )
        database = ec2.SubnetConfiguration(
            name="Database", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24
        )
        return ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=1 if self._nat else 0,
            subnet_configuration=[public, node, database] if self._nat else [public, database],
            # Emptying the default group would take a Lambda function, whose code is an asset.
            restrict_default_security_group=False,
        )

    def _security_groups(self) -> tuple[ec2.SecurityGroup, ec2.SecurityGroup, ec2.SecurityGroup]:
        """Allow load balancer -> node -> database, and the outgoing calls of a node."""
        balancer = self._closed_group("LoadBalancerGroup", "Load balancers of the nodes")
        node = self._closed_group("NodeGroup", "PyGrid nodes")
        database = self._closed_group("DatabaseGroup", "Database of the nodes")
        balancer.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(NODE_PORT), "Phones and data scientists")
        acknowledge(balancer, {"EC23": "Phones and data scientists call from anywhere."})
        balancer.add_egress_rule(node, ec2.Port.tcp(NODE_PORT), "To the nodes")
        node.add_ingress_rule(balancer, ec2.Port.tcp(NODE_PORT), "From the load balancers")
        node.add_egress_rule(database, ec2.Port.tcp(DATABASE_PORT), "To the database")
        node.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS_PORT), "Image, secrets and logs")
        node.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(SERVICE_PORT), "Progress to the orchestration")
        database.add_ingress_rule(node, ec2.Port.tcp(DATABASE_PORT), "From the nodes")
        return balancer, node, database

    def _closed_group(self, construct_id: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, construct_id, vpc=self.vpc, description=description, allow_all_outbound=False
        )

    def _database(self) -> rds.DatabaseCluster:
        """Aurora that pauses at 0 capacity units: while no node runs, only storage is paid for."""
        version = rds.AuroraPostgresEngineVersion.VER_16_11
        database = rds.DatabaseCluster(
            self,
            "Database",
            engine=rds.DatabaseClusterEngine.aurora_postgres(version=version),
            credentials=rds.Credentials.from_generated_secret("artificien"),
            default_database_name="artificien",
            writer=rds.ClusterInstance.serverless_v2("Writer", publicly_accessible=False),
            serverless_v2_min_capacity=0,
            serverless_v2_max_capacity=4,
            serverless_v2_auto_pause_duration=Duration.minutes(10),
            vpc=self.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            security_groups=[self.database_group],
            port=DATABASE_PORT,
            enable_data_api=True,
            storage_encrypted=True,
            parameters={"rds.force_ssl": "1"},
            backup=rds.BackupProps(retention=Duration.days(7)),
            copy_tags_to_snapshot=True,
            # Not RETAIN: a retained cluster would prevent the deletion of the network.
            removal_policy=RemovalPolicy.SNAPSHOT,
        )
        acknowledge(
            database,
            {
                "RDS6": "The original node can only log in with a password in a URL.",
                "RDS10": "Deletion protection would also protect the network; a snapshot is taken instead.",
                "SMG4": "Rotation takes a Lambda function inside the network, and a way out for it. The "
                "password is used through the Data API only, by two roles.",
            },
        )
        return database

    def _logs(self, construct_id: str, masks: logs.DataProtectionPolicy | None = None) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            construct_id,
            retention=logs.RetentionDays.ONE_MONTH,
            data_protection_policy=masks,
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _log_rejected_traffic(self) -> None:
        """Log rejected traffic only: logs are priced by size, and accepted traffic is that of every phone."""
        group = self._logs("RejectedTraffic")
        writer = iam.Role(self, "FlowLogRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        writer.add_to_policy(allow(actions, [group.log_group_arn]))
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=self.vpc.vpc_id,
            resource_type="VPC",
            traffic_type="REJECT",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=writer.role_arn,
        )

    def _boundary(self) -> iam.ManagedPolicy:
        """Limit the roles of nodes to what starts a task, even if policies are attached to them later."""
        secrets = [arn(self, "secretsmanager", f"secret:{NODE_SECRETS}")]
        boundary = iam.ManagedPolicy(
            self,
            "NodeBoundary",
            description="The most that any role of a PyGrid node can do",
            statements=start_tasks(self, self.log_group.log_group_arn, secrets),
        )
        acknowledge(boundary, STARS_OF_STARTING | STARS_OF_NODE_SECRETS)
        return boundary

    def _role(self, construct_id: str, policies: list[iam.IManagedPolicy] | None = None) -> iam.Role:
        return iam.Role(
            self,
            construct_id,
            assumed_by=for_tasks(self),
            managed_policies=policies,
            permissions_boundary=self.boundary,
        )

    def _export(self) -> None:
        """Write the outputs; those that nodes need have the names of the node template's parameters."""
        public = self.vpc.public_subnets
        nodes = self.vpc.private_subnets if self._nat else public
        outputs = {
            "VpcId": self.vpc.vpc_id,
            "PublicSubnetA": public[0].subnet_id,
            "PublicSubnetB": public[1].subnet_id,
            "NodeSubnetA": nodes[0].subnet_id,
            "NodeSubnetB": nodes[1].subnet_id,
            "AssignPublicIp": "DISABLED" if self._nat else "ENABLED",
            CLUSTER_NAME_OUTPUT: self.cluster.cluster_name,
            "LoadBalancerSecurityGroup": self.load_balancer_group.security_group_id,
            "NodeSecurityGroup": self.node_group.security_group_id,
            "ExecutionRoleArn": self.execution_role.role_arn,
            "TaskRoleArn": self.task_role.role_arn,
            "LogGroupName": self.log_group.log_group_name,
            "DatabaseEndpoint": self.database.cluster_endpoint.hostname,
            "DatabaseClusterArn": self.database.cluster_arn,
        }
        if self.database.secret is not None:
            outputs["DatabaseSecretArn"] = self.database.secret.secret_arn
        for name, value in outputs.items():
            # The orchestration stack imports them. CloudFormation neither deletes nor changes an imported
            # output.
            CfnOutput(self, name, value=value, export_name=Fn.join("-", [Aws.STACK_NAME, name]))


def _masked_credentials() -> logs.DataProtectionPolicy:
    """Mask passwords in URLs, `:<password>@`, for users without the permission `logs:Unmask`.

    The original node logs the URL of its callback, including its credential, at INFO. The passwords of nodes
    and databases have at least 32 characters of base64url.
    """
    password = logs.CustomDataIdentifier("PasswordInUrl", "[A-Za-z0-9_-]{30,64}@")
    return logs.DataProtectionPolicy(name="MaskedCredentials", identifiers=[password])
