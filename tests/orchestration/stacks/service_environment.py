"""The environment of the service's tasks, with an example for each value that AWS inserts."""

from orchestration.settings import Settings
from tests.orchestration.stacks.reading import ORCHESTRATION, of_type, short, text

KNOWN = {
    "1": "1",
    "<Region>": "us-east-1",
    "<UserPoolId>": "us-east-1_pool",
    "<AppClientIds>": "client-a,client-b",
    "<NodeImage>": "registry.test/node:1",
    "<NodeCpu>": "1024",
    "<NodeMemory>": "2048",
    "<NodeSpot>": "true",
    "<NodeReadOnly>": "false",
    "<NodeMinReports>": "25",
    "<UploadBinding>": "token",
    "<ClusterStack>": "artificien-cluster",
    "<<DataStack>-ModelBucketName>": "models",
    "<ProvisioningRole.Arn>": "arn:aws:iam::role/maker",
    "<LoadBalancer.DNSName>:5001": "lb.test:5001",
    "http://<LoadBalancer.DNSName>:5001": "http://lb.test:5001",
    "<<ClusterStack>-DatabaseClusterArn>": "arn:aws:rds:cluster",
    "<<ClusterStack>-DatabaseSecretArn>": "arn:aws:secretsmanager:secret",
    "<<ClusterStack>-DatabaseEndpoint>": "db.test",
}


def containers():
    """Return the containers of web and reconciler, by name."""
    tasks = of_type(ORCHESTRATION, "ECS::TaskDefinition")
    return {c["Name"]: c for task in tasks for c in task["ContainerDefinitions"]}


def environment():
    """Return the environment of both containers, including their secrets."""
    (plain, same) = (
        {p["Name"]: short(text(p["Value"])) for p in c["Environment"]} for c in containers().values()
    )
    assert plain == same
    secrets = {p["Name"]: "s" * 64 for p in containers()["web"]["Secrets"]}
    return {name: KNOWN[value] for name, value in plain.items()} | secrets


def settings(monkeypatch) -> Settings:
    """Read the settings from that environment only."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()
