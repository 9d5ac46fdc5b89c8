"""The orchestration stack: the web process behind a load balancer, and the reconciler, on Fargate."""

from collections.abc import Mapping

from aws_cdk import (
    BootstraplessSynthesizer,
    CfnCondition,
    CfnOutput,
    CfnParameter,
    CfnRule,
    CfnRuleAssertion,
    Duration,
    Fn,
    Stack,
)
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from constructs import Construct

from orchestration.domain.node import NODE_PORT
from orchestration.domain.uploads import UploadBinding
from orchestration.provisioning.names import (
    CLUSTER_NAME_OUTPUT,
    CLUSTER_STACK,
    DATA_STACK,
    SERVICE_PORT,
)
from orchestration.provisioning.node_shape import MEMORIES, SIZES, NodeShape
from orchestration.stacks.imported_cluster import ImportedCluster
from orchestration.stacks.policies import HTTPS_PORT, acknowledge
from orchestration.stacks.roles import ProvisioningRole, Surroundings, reconciler_role, web_role
from orchestration.stacks.service_tasks import Process, ServiceTasks

_DEFAULT_SHAPE = NodeShape(image="")

_REQUIRED = {
    "ServiceImage": "Container image of this service",
    "NodeImage": "Container image of the nodes",
    "UserPoolId": "Cognito user pool whose tokens are taken",
    "AppClientIds": "App clients of the pool whose tokens are taken, separated by commas",
}
_OPTIONAL = {
    "NodeCpu": (str(_DEFAULT_SHAPE.cpu), "CPU of a node, in 1/1024 of one"),
    "NodeMemory": (
        str(_DEFAULT_SHAPE.memory),
        "Memory of a node in MiB, one that Fargate gives with its CPU",
    ),
    "NodeSpot": ("false", "Whether nodes run on Spot capacity, which is cheaper and may be taken away"),
    "NodeReadOnly": ("true", "Whether nodes can't write to their files; the original image needs false"),
    "NodeMinReports": (
        str(_DEFAULT_SHAPE.min_reports),
        "How many reports a cycle has at least; with one, a checkpoint tells what one phone has learned",
    ),
    "UploadBinding": (
        UploadBinding.ADDRESS.value,
        "How the upload of a model is bound to the caller of /create: by network, by a token, or not",
    ),
    "CertificateArn": ("", "Certificate for https on 443; without one there is no https"),
    "PublicUrl": ("", "Base URL of download links; by default http and the load balancer's own name"),
    "ClusterStack": (CLUSTER_STACK, "Stack of the cluster, whose outputs are imported"),
    "DataStack": (DATA_STACK, "Stack of the tables and the bucket, whose outputs are imported"),
}
"""Default and description of each."""
_ALLOWED = {
    "NodeCpu": [str(cpu) for cpu in SIZES],
    "NodeMemory": [str(memory) for memory in MEMORIES],
    "NodeSpot": ["true", "false"],
    "NodeReadOnly": ["true", "false"],
    "UploadBinding": [binding.value for binding in UploadBinding],
}
_PATTERNS = {"NodeMinReports": "[1-9][0-9]{0,8}"}


class OrchestrationStack(Stack):
    """One per deployment. It imports outputs of the data and the cluster stack."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        """Declare the stack."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        self._parameters = _declared_parameters(self)
        self._cluster = ImportedCluster(self, self._of_cluster)
        self._balancer_group = self._group("BalancerGroup", "Load balancer of the orchestration")
        self.balancer = self._load_balancer()
        self.provisioning_role = ProvisioningRole(self, "ProvisioningRole", self._of_cluster)
        self.web, self.reconciler = self._services()
        self._listen()
        self._write_outputs()

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
            ec2.Peer.any_ipv4(), ec2.Port.tcp(SERVICE_PORT), "Phones, data scientists and nodes"
        )
        acknowledge(self._balancer_group, {"EC23": "Phones and data scientists call from anywhere."})
        balancer = elb.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._cluster.vpc,
            internet_facing=True,
            security_group=self._balancer_group,
            vpc_subnets=self._cluster.public_subnets,
            idle_timeout=Duration.seconds(
                60
            ),  # shorter than gunicorn's 75, so that gunicorn never closes first
            # Phones send their key in the header `api_key`, whose name is invalid because of its underscore.
            drop_invalid_header_fields=False,
        )
        acknowledge(
            balancer,
            {"ELB2": "Access logs contain URLs, and a download link's key is in the query of its URL."},
        )
        return balancer

    def _services(self) -> tuple[ecs.FargateService, ecs.FargateService]:
        """Declare both services. Only the load balancer can connect to the web process."""
        around = Surroundings(
            cluster_stack=self._parameters["ClusterStack"],
            cluster_name=self._of_cluster(CLUSTER_NAME_OUTPUT),
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
            group=self._outgoing("WebGroup", "Web tasks of the orchestration", nodes=False),
        )
        reconciler = Process(
            name="Reconciler",
            count=1,
            cpu=256,
            memory=1024,
            role=reconciler_role(self, around),
            group=self._outgoing("ReconcilerGroup", "Reconciler of the orchestration", nodes=True),
            command=("python", "-m", "orchestration", "reconcile"),
        )
        return tasks.service(web), tasks.service(reconciler)

    def _outgoing(self, construct_id: str, description: str, *, nodes: bool) -> ec2.SecurityGroup:
        """Declare a group without ingress. Nodes are called at the public addresses of their balancers."""
        group = self._group(construct_id, description)
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS_PORT), "AWS, and the image")
        if nodes:
            group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(NODE_PORT), "Nodes")
        return group

    def _environment(self) -> dict[str, str]:
        """Return the settings that are no secrets; a test reads them with `Settings`."""
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
            "NODE_MIN_REPORTS": self._parameters["NodeMinReports"],
            "NODE_STACK_ROLE_ARN": self.provisioning_role.role_arn,
            "CALLBACK_ADDRESS": f"{self.balancer.load_balancer_dns_name}:{SERVICE_PORT}",
            "PUBLIC_URL": self._public_url(),
            "UPLOAD_BINDING": self._parameters["UploadBinding"],
            "TRUSTED_PROXIES": "1",  # the load balancer, which adds the caller's address
            "DATABASE_CLUSTER_ARN": self._of_cluster("DatabaseClusterArn"),
            "DATABASE_SECRET_ARN": self._of_cluster("DatabaseSecretArn"),
            "DATABASE_ENDPOINT": self._of_cluster("DatabaseEndpoint"),
        }

    def _public_url(self) -> str:
        own = f"http://{self.balancer.load_balancer_dns_name}:{SERVICE_PORT}"
        is_given = self._is_given("PublicUrl").logical_id
        return str(Fn.condition_if(is_given, self._parameters["PublicUrl"], own).to_string())

    def _is_given(self, parameter: str) -> CfnCondition:
        empty = Fn.condition_equals(self._parameters[parameter], "")
        return CfnCondition(self, f"Has{parameter}", expression=Fn.condition_not(empty))

    def _listen(self) -> None:
        """Listen with http on 5001, for phones and the library, and with https if there is a certificate."""
        target = elb.ApplicationTargetGroup(
            self,
            "Target",
            vpc=self._cluster.vpc,
            port=SERVICE_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[self.web],
            deregistration_delay=Duration.seconds(30),  # longer than gunicorn's graceful time-out of 20
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
            port=SERVICE_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            default_target_groups=[target],
            open=False,  # its security group allows this port already
        )
        # Not the construct ApplicationListener: with it, the service would depend on this conditional
        # resource.
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
            description="Browsers and other clients that use https",
        )
        acknowledge(way_in, {"EC23": "Browsers follow download links from anywhere."})
        has_certificate = self._is_given("CertificateArn")
        for resource in (https, way_in):
            resource.cfn_options.condition = has_certificate

    def _write_outputs(self) -> None:
        outputs = {
            "Address": f"{self.balancer.load_balancer_dns_name}:{SERVICE_PORT}",
            "NodeStackRoleArn": self.provisioning_role.role_arn,
            "WebService": self.web.service_name,
            "ReconcilerService": self.reconciler.service_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)


def _exported(stack: str, output: str) -> str:
    return str(Fn.import_value(Fn.join("-", [stack, output])))


def _declared_parameters(stack: Stack) -> Mapping[str, str]:
    """Declare the parameters, and the rules about a node's CPU and memory; return the values by name."""
    required = {
        name: CfnParameter(stack, name, description=text, allowed_pattern=".+")
        for name, text in _REQUIRED.items()
    }
    optional = {
        name: CfnParameter(
            stack,
            name,
            description=text,
            default=default,
            allowed_values=_ALLOWED.get(name),
            allowed_pattern=_PATTERNS.get(name),
        )
        for name, (default, text) in _OPTIONAL.items()
    }
    values = {name: parameter.value_as_string for name, parameter in (required | optional).items()}
    _add_size_rules(stack, values["NodeCpu"], values["NodeMemory"])
    return values


def _add_size_rules(stack: Stack, cpu: str, memory: str) -> None:
    """Refuse sizes that Fargate lacks: the service would fail at start, and roll back after minutes."""
    for size, memories in SIZES.items():
        assertion = CfnRuleAssertion(
            assert_=Fn.condition_contains([str(m) for m in memories], memory),
            assert_description=f"With {size} CPU units go {memories[0]} to {memories[-1]} MiB of memory.",
        )
        CfnRule(
            stack,
            f"MemoryWithCpu{size}",
            rule_condition=Fn.condition_equals(cpu, str(size)),
            assertions=[assertion],
        )
