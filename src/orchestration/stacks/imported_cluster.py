"""The cluster stack's resources, imported into other stacks by the values of its outputs.

They are imported as immutable, so that the CDK writes no rule or policy for a resource of another stack.
"""

from collections.abc import Callable

from aws_cdk import CfnResource
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from orchestration.provisioning.names import CLUSTER_NAME_OUTPUT


class ImportedCluster:
    """Resources of `EcsClusterStack`; `value_of` returns the value of one of its outputs."""

    def __init__(self, scope: Construct, value_of: Callable[[str], str]) -> None:
        """Import into `scope`, each resource once, with its output's name as construct id."""
        self._scope = scope
        self._value_of = value_of
        self.vpc = ec2.Vpc.from_vpc_attributes(
            scope,
            "Vpc",
            vpc_id=value_of("VpcId"),
            availability_zones=[
                "first",
                "second",
            ],  # required here, but not in the template: subnets are outputs
        )
        self.cluster: ecs.ICluster = ecs.Cluster.from_cluster_attributes(
            scope, "Cluster", cluster_name=value_of(CLUSTER_NAME_OUTPUT), vpc=self.vpc, security_groups=[]
        )
        self.public_subnets = self._subnets("PublicSubnetA", "PublicSubnetB")
        self.task_subnets = self._subnets("NodeSubnetA", "NodeSubnetB")

    def security_group(self, output: str) -> ec2.ISecurityGroup:
        """Import a security group."""
        group: ec2.ISecurityGroup = ec2.SecurityGroup.from_security_group_id(
            self._scope, f"{output}Import", self._value_of(output), mutable=False
        )
        return group

    def role(self, output: str) -> iam.IRole:
        """Import a role."""
        role: iam.IRole = iam.Role.from_role_arn(
            self._scope, f"{output}Import", self._value_of(output), mutable=False
        )
        return role

    def set_public_ip(self, service: ecs.FargateService) -> None:
        """Give the service's tasks public addresses if the cluster has no NAT gateway."""
        declared = service.node.default_child
        if isinstance(declared, CfnResource):
            declared.add_property_override(
                "NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp", self._value_of("AssignPublicIp")
            )

    def _subnets(self, *outputs: str) -> ec2.SubnetSelection:
        return ec2.SubnetSelection(
            subnets=[
                ec2.Subnet.from_subnet_id(self._scope, f"{name}Import", self._value_of(name))
                for name in outputs
            ]
        )
