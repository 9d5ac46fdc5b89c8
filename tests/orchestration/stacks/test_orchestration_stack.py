"""The template of the orchestration stack, read from its snapshot."""

import json
import re

import pytest

from orchestration import gunicorn_conf
from orchestration.domain.uploads import UploadBinding
from orchestration.provisioning.node_shape import SIZES, NodeShape
from orchestration.pygrid_orchestration import Parts
from orchestration.settings import Settings
from tests.orchestration.stacks.reading import (
    CLUSTER,
    DATA,
    ORCHESTRATION,
    TEMPLATES,
    listed,
    of_type,
    only,
    short,
    text,
)
from tests.orchestration.stacks.service_environment import containers, settings


def by_port():
    return {
        listener["Port"]: listener for listener in of_type(ORCHESTRATION, "ElasticLoadBalancingV2::Listener")
    }


def test_environment_has_all_required_settings(monkeypatch):
    """Neither local mode nor a directory of databases is on."""
    found = settings(monkeypatch)

    assert (found.callback_address, found.public_url) == ("lb.test:5001", "http://lb.test:5001")
    assert found.node_stack_role_arn == "arn:aws:iam::role/maker"
    assert (found.database_endpoint, found.node_database_url) == ("db.test", None)
    assert (found.trusted_proxies, found.local_mode) == (1, False)


def test_shape_of_nodes_is_passed_by_the_settings(monkeypatch):
    """Image, size and capacity, as the operator gave them."""
    found = settings(monkeypatch)

    assert Parts(found).shape == NodeShape(
        "registry.test/node:1", cpu=1024, memory=2048, spot=True, read_only=False, min_reports=25
    )


@pytest.mark.parametrize("cpu", SIZES)
def test_rules_refuse_sizes_that_fargate_lacks(cpu):
    """Without a rule for each CPU the service would fail at start, minutes later."""
    rule = ORCHESTRATION["Rules"][f"MemoryWithCpu{cpu}"]
    (assertion,) = rule["Assertions"]

    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "NodeCpu"}, str(cpu)]}
    assert assertion["Assert"] == {"Fn::Contains": [[str(m) for m in SIZES[cpu]], {"Ref": "NodeMemory"}]}
    assert str(cpu) in ORCHESTRATION["Parameters"]["NodeCpu"]["AllowedValues"]


def test_defaults_of_nodes_are_those_of_the_settings():
    """Template, settings and NodeShape have the same defaults."""
    optional = {n: p["Default"] for n, p in ORCHESTRATION["Parameters"].items() if "Default" in p}
    defaults = {name: value for name, value in optional.items() if name.startswith("Node")}
    usual = NodeShape("any")
    fields = Settings.model_fields

    sizes = {"NodeCpu": str(usual.cpu), "NodeMemory": str(usual.memory)}
    assert defaults == sizes | {"NodeSpot": "false", "NodeReadOnly": "true", "NodeMinReports": "10"}
    assert (fields["node_cpu"].default, fields["node_memory"].default) == (usual.cpu, usual.memory)
    assert (fields["node_spot"].default, usual.spot) == (False, False)
    assert (fields["node_read_only"].default, usual.read_only) == (True, True)
    assert (fields["node_min_reports"].default, usual.min_reports) == (10, 10)


def test_upload_binding_is_a_parameter_with_the_default_of_the_setting():
    """The networks of some data scientists change with each request."""
    parameter = ORCHESTRATION["Parameters"]["UploadBinding"]

    assert parameter["Default"] == Settings.model_fields["upload_binding"].default == "address"
    assert parameter["AllowedValues"] == list(UploadBinding)


def test_secrets_are_references():
    """The environment contains no secret setting."""
    for container in containers().values():
        plain = {pair["Name"] for pair in container["Environment"]}

        assert [pair["Name"] for pair in container["Secrets"]] == ["DOWNLOAD_SECRET"]
        assert not {"DOWNLOAD_SECRET", "NODE_DATABASE_URL"} & plain


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_output_and_no_parameter_is_secret(name):
    """Outputs contain ARNs of secrets only; no parameter is a secret."""
    shown = TEMPLATES[name].get("Outputs", {}) | TEMPLATES[name].get("Parameters", {})
    suspicious = [n for n in shown if re.search(r"(?i)secret|password|token|credential", n)]

    assert all(n.endswith("SecretArn") for n in suspicious)
    assert "resolve:" not in json.dumps(shown)


def test_both_processes_run_the_same_image():
    """The reconciler has another command."""
    web, reconciler = containers()["web"], containers()["reconciler"]

    assert web["Image"] == reconciler["Image"] == {"Ref": "ServiceImage"}
    assert "Command" not in web
    assert reconciler["Command"] == ["python", "-m", "orchestration", "reconcile"]


def test_deployment_replaces_tasks_without_interruption():
    """A deployment that can't start is rolled back; meanwhile the old tasks serve."""
    deployments = [s["DeploymentConfiguration"] for s in of_type(ORCHESTRATION, "ECS::Service")]

    assert sorted(s["DesiredCount"] for s in of_type(ORCHESTRATION, "ECS::Service")) == [1, 2]
    assert all(d["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True} for d in deployments)
    assert {(d["MinimumHealthyPercent"], d["MaximumPercent"]) for d in deployments} == {(100, 200)}


def test_load_balancer_keeps_invalid_headers_and_closes_before_gunicorn():
    """`api_key` is an invalid header name; gunicorn must not close a connection first."""
    attributes = listed(only(ORCHESTRATION, "ElasticLoadBalancingV2::LoadBalancer")["LoadBalancerAttributes"])

    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "false"
    assert int(attributes["idle_timeout.timeout_seconds"]) < gunicorn_conf.keepalive


def test_http_is_on_5001_and_https_needs_a_certificate():
    """Phones and the library use http; https requires TLS 1.2 or newer."""
    listeners = by_port()
    conditional = {
        short(n): r["Condition"] for n, r in ORCHESTRATION["Resources"].items() if "Condition" in r
    }

    assert {port: listener["Protocol"] for port, listener in listeners.items()} == {
        5001: "HTTP",
        443: "HTTPS",
    }
    assert listeners[443]["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2")
    assert conditional == {"Https": "HasCertificateArn", "HttpsIngress": "HasCertificateArn"}


def test_health_check_calls_no_other_system():
    """`GET /` calls nothing of AWS, so a slow AWS makes no task unhealthy."""
    target = only(ORCHESTRATION, "ElasticLoadBalancingV2::TargetGroup")
    patience = int(listed(target["TargetGroupAttributes"])["deregistration_delay.timeout_seconds"])

    assert (target["HealthCheckPath"], target["Port"]) == ("/", 5001)
    assert patience > gunicorn_conf.graceful_timeout


def test_only_load_balancers_accept_connections_from_anywhere():
    """Three ports of two load balancers, in all stacks; tasks accept none."""
    inline = [
        (short(name), rule["FromPort"])
        for template in TEMPLATES.values()
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::EC2::SecurityGroup"
        for rule in resource["Properties"].get("SecurityGroupIngress", ())
    ]
    apart = [
        (short(text(rule["GroupId"]).strip("<>").split(".")[0]), rule["FromPort"])
        for template in (CLUSTER, ORCHESTRATION)
        for rule in of_type(template, "EC2::SecurityGroupIngress")
        if "CidrIp" in rule
    ]
    balancers = {
        short(text(group).strip("<>").split(".")[0])
        for group in only(ORCHESTRATION, "ElasticLoadBalancingV2::LoadBalancer")["SecurityGroups"]
    }

    assert sorted(inline + apart) == [
        ("BalancerGroup", 443),
        ("BalancerGroup", 5001),
        ("LoadBalancerGroup", 5000),
    ]
    assert balancers == {"BalancerGroup"}


def test_only_the_load_balancer_can_connect_to_the_web_process():
    """No task can connect to the reconciler."""
    rules = [
        (short(text(r["SourceSecurityGroupId"])), short(text(r["GroupId"])), r["FromPort"])
        for r in of_type(ORCHESTRATION, "EC2::SecurityGroupIngress")
        if "SourceSecurityGroupId" in r
    ]

    assert rules == [("<BalancerGroup.GroupId>", "<WebGroup.GroupId>", 5001)]


def test_web_process_connects_to_aws_only():
    """The reconciler calls nodes; the web process sends devices and data scientists to them."""
    egress = {
        short(name): [rule["FromPort"] for rule in resource["Properties"]["SecurityGroupEgress"]]
        for name, resource in ORCHESTRATION["Resources"].items()
        if resource["Type"] == "AWS::EC2::SecurityGroup" and short(name) in ("WebGroup", "ReconcilerGroup")
    }

    assert egress == {"WebGroup": [443], "ReconcilerGroup": [443, 5000]}


def test_imported_outputs_are_exported():
    """`cdk deploy --all` deploys the data and the cluster stack first."""
    imports = set(re.findall(r"<(?:Cluster|Data)Stack>-(\w+)", json.dumps(text(ORCHESTRATION["Resources"]))))
    exports = {name for t in (CLUSTER, DATA) for name, output in t["Outputs"].items() if "Export" in output}

    assert imports
    assert imports <= exports
    for template in (CLUSTER, DATA):
        for name, output in template["Outputs"].items():
            assert text(output["Export"]["Name"]) == f"<StackName>-{name}"


def test_stack_contains_no_data():
    """It can be deleted; the secret of download links is in the data stack."""
    kept = {r["Type"] for r in ORCHESTRATION["Resources"].values() if r.get("DeletionPolicy") == "Retain"}
    (secret,) = (r for r in DATA["Resources"].values() if r["Type"] == "AWS::SecretsManager::Secret")

    assert kept == set()
    assert secret["DeletionPolicy"] == "Retain"
