"""This service on Fargate: web behind a load balancer on 5001, and the reconciler beside it.

Imported only where the CDK runs (`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from aws_cdk import (
    BootstraplessSynthesizer,
    CfnCondition,
    CfnOutput,
    Duration,
    Fn,
    Stack,
)
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from constructs import Construct

from orchestration.provisioning import orchestration_parameters
from orchestration.provisioning.provisioning_role import ProvisioningRole
from orchestration.stacks.imported_cluster import ImportedCluster
from orchestration.stacks.policies import acknowledge
from orchestration.stacks.roles import Surroundings, reconciler_role, web_role
from orchestration.stacks.service_tasks import PORT, Process, ServiceTasks

HTTPS_PORT = 443
NODE_PORT = 5000


class OrchestrationStack(Stack):
    """One per deployment, after the data and the cluster stack, whose outputs it imports."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        """Declare the stack."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        self._parameters = orchestration_parameters.declared(self)
        self._cluster = ImportedCluster(self, self._of_cluster)
        self._balancer_group = self._group("BalancerGroup", "Load balancer of the orchestration")
        self.balancer = self._load_balancer()
        self.provisioning_role = ProvisioningRole(self, "ProvisioningRole", self._of_cluster)
        self.web, self.reconciler = self._services()
        self._listen()
        self._tell()

    def _of_cluster(self, output: str) -> str:
        return _exported(self._parameters["ClusterStack"], output)

    def _of_data(self, output: str) -> str:
        return _exported(self._parameters["DataStack"], output)

    def _group(self, construct_id: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, construct_id, vpc=self._cluster.vpc, description=description, allow_all_outbound=False
        )

    def _load_balancer(self) -> elb.ApplicationLoadBalancer:
        self._balancer_group.add_ingress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(PORT), "Phones, data scientists and nodes"
        )
        acknowledge(self._balancer_group, {"EC23": "Phones and data scientists call from anywhere."})
        balancer = elb.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._cluster.vpc,
            internet_facing=True,
            security_group=self._balancer_group,
            vpc_subnets=self._cluster.public_subnets,
            idle_timeout=Duration.seconds(60),  # shorter than gunicorn's 75: gunicorn never closes first
            # Phones send their key in a header called `api_key`. A name with an underscore counts as invalid;
            # with such headers dropped, no phone that is out there would be known any more.
            drop_invalid_header_fields=False,
        )
        acknowledge(
            balancer,
            {"ELB2": "Access logs keep whole URLs, and a download link's key is in the query of its URL."},
        )
        return balancer

    def _services(self) -> tuple[ecs.FargateService, ecs.FargateService]:
        """Web behind the balancer, and the reconciler, which nobody can reach."""
        around = Surroundings(
            cluster_stack=self._parameters["ClusterStack"],
            cluster_name=self._of_cluster("ClusterName"),
            model_bucket=self._of_data("ModelBucketName"),
            database_arn=self._of_cluster("DatabaseClusterArn"),
            database_secret_arn=self._of_cluster("DatabaseSecretArn"),
            provisioning_role=self.provisioning_role.role_arn,
        )
        tasks = ServiceTasks(
            self,
            self._cluster,
            image=self._parameters["ServiceImage"],
            environment=self._environment(),
            download_secret_arn=self._of_data("DownloadSecretArn"),
        )
        web = Process(
            name="Web",
            count=2,
            cpu=512,
            memory=1024,
            role=web_role(self, around),
            group=self._outgoing("WebGroup", "Web tasks of the orchestration"),
        )
        reconciler = Process(
            name="Reconciler",
            count=1,
            cpu=256,
            memory=1024,
            role=reconciler_role(self, around),
            group=self._outgoing("ReconcilerGroup", "Reconciler of the orchestration"),
            command=("python", "-m", "orchestration", "reconcile"),
        )
        return tasks.service(web), tasks.service(reconciler)

    def _outgoing(self, construct_id: str, description: str) -> ec2.SecurityGroup:
        """Make a group that lets nobody in. Nodes are called by the public address of their balancers."""
        group = self._group(construct_id, description)
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS_PORT), "AWS, and the image")
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(NODE_PORT), "Nodes")
        return group

    def _environment(self) -> dict[str, str]:
        """Return what `settings.py` reads and is no secret; a test feeds it to the settings."""
        return {
            "AWS_DEFAULT_REGION": self.region,
            "USER_POOL_ID": self._parameters["UserPoolId"],
            "APP_CLIENT_IDS": self._parameters["AppClientIds"],
            "MODEL_BUCKET": self._of_data("ModelBucketName"),
            "CLUSTER_STACK": self._parameters["ClusterStack"],
            "NODE_IMAGE": self._parameters["NodeImage"],
            "NODE_CPU": self._parameters["NodeCpu"],
            "NODE_MEMORY": self._parameters["NodeMemory"],
            "NODE_SPOT": self._parameters["NodeSpot"],
            "NODE_READ_ONLY": self._parameters["NodeReadOnly"],
            "NODE_STACK_ROLE_ARN": self.provisioning_role.role_arn,
            "CALLBACK_ADDRESS": f"{self.balancer.load_balancer_dns_name}:{PORT}",
            "PUBLIC_URL": self._public_url(),
            "TRUSTED_PROXIES": "1",  # the balancer, which says whose address a request came from
            "DATABASE_CLUSTER_ARN": self._of_cluster("DatabaseClusterArn"),
            "DATABASE_SECRET_ARN": self._of_cluster("DatabaseSecretArn"),
            "DATABASE_ENDPOINT": self._of_cluster("DatabaseEndpoint"),
        }

    def _public_url(self) -> str:
        own = f"http://{self.balancer.load_balancer_dns_name}:{PORT}"
        is_given = self._is_given("PublicUrl").logical_id
        return str(Fn.condition_if(is_given, self._parameters["PublicUrl"], own).to_string())

    def _is_given(self, parameter: str) -> CfnCondition:
        empty = Fn.condition_equals(self._parameters[parameter], "")
        return CfnCondition(self, f"Has{parameter}", expression=Fn.condition_not(empty))

    def _listen(self) -> None:
        """Plain http on 5001, since phones and the library can't do otherwise; https beside it."""
        target = elb.ApplicationTargetGroup(
            self,
            "Target",
            vpc=self._cluster.vpc,
            port=PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[self.web],
            deregistration_delay=Duration.seconds(30),  # gunicorn's own patience at its end is 20
            health_check=elb.HealthCheck(
                path="/",
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
        )
        self.balancer.add_listener(
            "Http",
            port=PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            default_target_groups=[target],
            open=False,  # its security group is open for this port already
        )
        # Not the construct above it: with that, the service would wait for a listener that may not be there.
        https = elb.CfnListener(
            self,
            "Https",
            load_balancer_arn=self.balancer.load_balancer_arn,
            port=HTTPS_PORT,
            protocol="HTTPS",
            certificates=[{"certificateArn": self._parameters["CertificateArn"]}],
            ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",  # TLS 1.2 and 1.3
            default_actions=[{"type": "forward", "targetGroupArn": target.target_group_arn}],
        )
        way_in = ec2.CfnSecurityGroupIngress(
            self,
            "HttpsIngress",
            group_id=self._balancer_group.security_group_id,
            ip_protocol="tcp",
            from_port=HTTPS_PORT,
            to_port=HTTPS_PORT,
            cidr_ip="0.0.0.0/0",
            description="Browsers and whoever else speaks https",
        )
        acknowledge(way_in, {"EC23": "Browsers follow download links from anywhere."})
        has_certificate = self._is_given("CertificateArn")
        for resource in (https, way_in):
            resource.cfn_options.condition = has_certificate

    def _tell(self) -> None:
        outputs = {
            "Address": f"{self.balancer.load_balancer_dns_name}:{PORT}",
            "NodeStackRoleArn": self.provisioning_role.role_arn,
            "WebService": self.web.service_name,
            "ReconcilerService": self.reconciler.service_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)


def _exported(stack: str, output: str) -> str:
    return str(Fn.import_value(Fn.join("-", [stack, output])))
