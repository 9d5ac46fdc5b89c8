"""The template of a node's stack, read from its snapshot."""

import json

from orchestration.provisioning.node_shape import SIZES, NodeShape
from tests.orchestration.stacks.reading import CLUSTER, NODE, listed, only


def test_parameters_of_the_cluster_are_outputs_of_it():
    """Parameters and outputs have the same names, so that values are passed by name."""
    own = {"NodeId", "NodeSecretArn"} | NodeShape("any").parameters().keys()

    assert NODE["Parameters"].keys() - own <= CLUSTER["Outputs"].keys()
    assert CLUSTER["Outputs"].keys() - NODE["Parameters"].keys() == {
        "DatabaseEndpoint",
        "DatabaseClusterArn",
        "DatabaseSecretArn",
    }


def test_node_is_five_resources():
    """A data scientist waits for each of them, and each can fail."""
    assert sorted(resource["Type"] for resource in NODE["Resources"].values()) == [
        "AWS::ECS::Service",
        "AWS::ECS::TaskDefinition",
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
    ]


def test_load_balancer_keeps_idle_websockets_open():
    """It listens with http on port 5000; the idle time-out is an hour."""
    balancer = only(NODE, "ElasticLoadBalancingV2::LoadBalancer")
    listener = only(NODE, "ElasticLoadBalancingV2::Listener")

    assert (balancer["Type"], balancer["Scheme"]) == ("application", "internet-facing")
    assert listed(balancer["LoadBalancerAttributes"])["idle_timeout.timeout_seconds"] == "3600"
    assert (listener["Port"], listener["Protocol"]) == (5000, "HTTP")


def test_health_check_is_a_request_to_the_node():
    """A target is deregistered within seconds."""
    target = only(NODE, "ElasticLoadBalancingV2::TargetGroup")

    assert target["HealthCheckPath"] == "/data-centric/status/"
    assert listed(target["TargetGroupAttributes"])["deregistration_delay.timeout_seconds"] == "5"


def test_node_is_one_task_with_a_circuit_breaker():
    """ECS stops retrying a task that cannot start; two tasks of a node never run at the same time."""
    service = only(NODE, "ECS::Service")
    deployment = service["DeploymentConfiguration"]

    assert service["DesiredCount"] == 1
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (0, 100)


def test_size_and_image_are_parameters():
    """The template allows the values of Fargate; the settings check which memory goes with which CPU."""
    task = only(NODE, "ECS::TaskDefinition")
    allowed = {n: p["AllowedValues"] for n, p in NODE["Parameters"].items() if "AllowedValues" in p}

    assert (task["Cpu"], task["Memory"]) == ({"Ref": "NodeCpu"}, {"Ref": "NodeMemory"})
    assert task["ContainerDefinitions"][0]["Image"] == {"Ref": "NodeImage"}
    assert allowed["NodeCpu"] == [str(cpu) for cpu in SIZES]
    assert set(allowed["NodeMemory"]) == {str(memory) for memories in SIZES.values() for memory in memories}


def test_service_uses_one_capacity_provider_of_the_cluster():
    """The cluster has no default provider."""
    service = only(NODE, "ECS::Service")
    cluster = only(CLUSTER, "ECS::ClusterCapacityProviderAssociations")

    assert service["CapacityProviderStrategy"] == [
        {"CapacityProvider": {"Ref": "CapacityProvider"}, "Weight": 1}
    ]
    assert "LaunchType" not in service
    assert NODE["Parameters"]["CapacityProvider"]["AllowedValues"] == cluster["CapacityProviders"]
    assert cluster["DefaultCapacityProviderStrategy"] == []


def test_desired_count_has_one_writer():
    """No scaling policy changes a node's service, and the cluster stack contains none."""
    text = json.dumps([CLUSTER, NODE])

    assert "ApplicationAutoScaling" not in text
    assert "AWS::ECS::Service" not in json.dumps(CLUSTER)


def test_secrets_are_references():
    """Neither the template nor its parameters contain the credential or the database password."""
    task = only(NODE, "ECS::TaskDefinition")
    (container,) = task["ContainerDefinitions"]
    references = {pair["Name"]: pair["ValueFrom"] for pair in container["Secrets"]}

    assert task["Family"] == {"Fn::Join": ["", ["artificien-node-", {"Ref": "NodeId"}]]}
    assert {pair["Name"] for pair in container["Environment"]} == {
        "NODE_ID",
        "ADDRESS",
        "PORT",
        "TRUSTED_PROXIES",
        "MIN_REPORTS",
    }
    assert references == {
        name: {"Fn::Join": ["", [{"Ref": "NodeSecretArn"}, f":{name}::"]]}
        for name in ("MASTER_NODE_URL", "DATABASE_URL")
    }
