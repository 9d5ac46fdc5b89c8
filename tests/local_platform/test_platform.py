import os
import signal
import stat
import subprocess
import sysconfig
import uuid
from pathlib import Path

import pytest

from local_platform import seeds
from local_platform.clients import LocalAws
from local_platform.network import NODE_PORT, answers, direct_session
from local_platform.platform import Options, Platform, exported_variables, service_settings
from local_platform.seeds import Pool, User
from orchestration.settings import Settings
from tests.local_platform.waiting import until

running = pytest.mark.moto

AWS = LocalAws("http://127.0.0.1:5055", "us-east-1")
POOL = Pool("us-east-1_abc", "client")
USERS = (User("ada", "a-password", "data scientist"), User("grace", "g-password", "app developer"))
URL = "http://127.0.0.1:5001"


@pytest.fixture
def environment():
    return service_settings(AWS, POOL, "bucket", URL, Path("/home/nodes"))


@pytest.fixture
def settings(environment, monkeypatch):
    for name, value in (AWS.environment() | environment).items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_service_accepts_its_environment(settings):
    """No required setting is missing."""
    assert settings.local_mode
    assert settings.app_client_ids == {"client"}
    assert settings.jwks_url == "http://127.0.0.1:5055/us-east-1_abc/.well-known/jwks.json"


def test_nodes_call_the_service_at_its_own_address(settings):
    """The address has no scheme, because the node adds one."""
    assert settings.callback_address == "127.0.0.1:5001"
    assert settings.public_url == URL


def test_nodes_use_sqlite(settings):
    """The node appends the name of its database to the URL."""
    assert settings.node_database_url.get_secret_value() == "sqlite:////home/nodes/"


def test_download_secret_is_new_in_each_run(environment):
    """A link of one run must not be valid in the next."""
    again = service_settings(AWS, POOL, "bucket", URL, Path("/home/nodes"))

    assert environment["DOWNLOAD_SECRET"] != again["DOWNLOAD_SECRET"]


def test_variables_have_the_names_that_programs_read():
    exported = exported_variables(AWS, POOL, '{"keys": []}', URL, USERS, "art_key")

    assert {
        "ORCHESTRATION_URL", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION", "USER_POOL_ID", "APP_CLIENT_ID", "DS_USERNAME", "DS_PASSWORD", "DATASET_ID",
        "API_KEY", "MODEL_ID", "JUPYTERHUB_USER",
    } <= exported.keys()  # fmt: skip
    assert exported["COGNITO_JWKS"] == '{"keys": []}'


def post(platform, route, body, **headers):
    with direct_session() as session:
        return session.post(platform.url + route, json=body, headers=headers, timeout=30)


def bearer(platform):
    return {"Authorization": f"Bearer {platform.token(platform.scientist)}"}


def submit(platform):
    """Write the item of a new model; return its id."""
    item = seeds.model_item(platform.scientist.username, uuid.uuid4().hex)
    platform.aws.resource("dynamodb").Table("model_table").put_item(Item=item)
    return item["model_id"]


def node_of(platform, model_id):
    """Call `/create` once; return the node's address if it is ready."""
    body = {
        "dataset_id": seeds.DATASET_ID,
        "model_id": model_id,
        "features": list(seeds.FEATURES),
        "labels": list(seeds.LABELS),
    }
    answer = post(platform, "/create", body, **bearer(platform)).json()
    assert "error" not in answer
    return answer.get("nodeURL")


@pytest.fixture
def model_id(platform):
    """A model of this test, which is withdrawn at the end."""
    model_id = submit(platform)
    yield model_id
    post(platform, "/delete", {"model_id": model_id}, **bearer(platform))


@pytest.fixture
def node(platform, model_id):
    """Address of the dataset's node."""
    address = until(lambda: node_of(platform, model_id))
    assert address
    return address


def is_up(address):
    return answers(f"http://{address}:{NODE_PORT}/data-centric/status/")


CATALOGUE = [
    ("placeholder-app", "placeholder = :partitionKeyVal", "placeholder"),
    ("category-app-index", "category = :partitionKeyVal", "Health"),
    ("owner_username-index", "owner_username = :partitionKeyVal", "grace"),
]
"""The marketplace's queries of the dataset table: index, condition and value."""


@running
@pytest.mark.parametrize(("index", "condition", "value"), CATALOGUE, ids=[row[0] for row in CATALOGUE])
def test_marketplace_finds_the_dataset(platform, index, condition, value):
    """Without an index, its catalogue is empty and nobody can buy a dataset."""
    found = platform.aws.client("dynamodb").query(
        TableName="dataset_table",
        IndexName=index,
        ScanIndexForward=False,
        KeyConditionExpression=condition,
        ExpressionAttributeValues={":partitionKeyVal": {"S": value}},
    )

    assert [item["dataset_id"]["S"] for item in found["Items"]] == [seeds.DATASET_ID]
    assert {"attributes", "appURL", "numPurchases", "owner_username"} <= found["Items"][0].keys()


@running
def test_variables_are_written_for_the_owner_only(platform):
    assert platform.home.read_exports() == platform.environment
    assert stat.S_IMODE(platform.home.exports.stat().st_mode) == 0o600


@running
def test_servers_listen_on_loopback_only(platform):
    """moto's private keys are public, so any token could be forged."""
    for url in (platform.url, platform.aws.url):
        assert url.startswith("http://127.0.0.1:")


def artificien(platform, *arguments):
    """Run the command in a shell that has sourced the variables, and has no others."""
    command = str(Path(sysconfig.get_path("scripts"), "artificien"))
    return subprocess.run(  # noqa: S603 - our own program
        (command, *arguments), env=platform.home.read_exports(), capture_output=True, text=True, check=False
    )


@running
@pytest.mark.parametrize("command", [("audit",), ("audit-log", f"dataset:{seeds.DATASET_ID}")])
def test_operators_commands_work_after_sourcing_the_variables(platform, command):
    """They need no other setting."""
    done = artificien(platform, *command)

    assert (done.returncode, done.stderr) == (0, "")


@running
def test_service_accepts_the_data_scientists_token(platform):
    """The token is signed by the pool's key."""
    answer = post(platform, "/get_datasets", {"user_id": platform.scientist.username}, **bearer(platform))

    assert answer.json() == {"datasets": [seeds.DATASET_ID]}


@running
def test_service_accepts_the_devices_key(platform):
    """The header's name has an underscore."""
    key = {"api_key": platform.environment["API_KEY"]}
    answer = post(platform, "/info", {"dataset_id": seeds.DATASET_ID}, **key)

    assert answer.status_code == 200


@running
def test_key_of_the_sign_up_is_still_stored(platform):
    """Apps are shipped with it."""
    table = platform.aws.resource("dynamodb").Table("user_table")
    item = table.get_item(Key={"user_id": platform.developer.email})["Item"]

    assert item["api_key"] != platform.environment["API_KEY"]


@running
def test_node_is_launched_at_its_own_address(platform, node):
    """CloudFormation, ECS and the agent launch it."""
    assert node.startswith("127.")
    assert not node.startswith("127.0.0.")
    assert is_up(node)


@running
@pytest.mark.parametrize("name", ["service", "reconciler", "agent"])
def test_killed_process_is_restarted(platform, model_id, node, name):
    """The node is still there, or is there again, at the same address."""
    before = platform.processes.running()[name]
    os.kill(before, signal.SIGKILL)

    assert until(lambda: platform.processes.running()[name] not in (before, None))
    assert until(lambda: answers(platform.url) and is_up(node))
    assert until(lambda: node_of(platform, model_id)) == node


@running
@pytest.mark.usefixtures("node")
def test_audit_of_a_running_node_finds_nothing(platform):
    """Its load balancer, target group and service are recognized as those of its stack."""
    done = artificien(platform, "audit")
    load_balancers = platform.aws.client("elbv2").describe_load_balancers()["LoadBalancers"]

    assert any(found["LoadBalancerName"].startswith("artificien-node-") for found in load_balancers)
    assert (done.returncode, done.stdout) == (0, "Nothing is inconsistent.\n")


@running
def test_audit_finds_what_a_deleted_stack_has_left_behind(platform):
    """A service that no stack has, in the nodes' cluster."""
    ecs = platform.aws.client("ecs")
    (cluster,) = ecs.list_clusters()["clusterArns"]
    container = {"name": "node", "image": "none", "memory": 1}
    ecs.register_task_definition(family="left", containerDefinitions=[container])
    name = f"artificien-node-n{'0' * 20}-1-ServiceD69D759B-519QED1H73KX"
    service = ecs.create_service(cluster=cluster, serviceName=name, taskDefinition="left", desiredCount=0)
    done = artificien(platform, "audit")
    ecs.delete_service(cluster=cluster, service=name, force=True)

    arn = service["service"]["serviceArn"]
    assert done.returncode == 1
    assert f"resource  {arn}  left behind: its stack is gone" in done.stdout.splitlines()


@running
def test_node_is_retired_with_its_last_model(platform, model_id, node):
    """The stack is deleted, and the agent stops the process."""
    answer = post(platform, "/delete", {"model_id": model_id}, **bearer(platform))

    assert answer.status_code == 200
    assert until(lambda: not is_up(node))


@running
def test_failed_start_leaves_nothing_running(tmp_path, monkeypatch):
    """AWS is up when the deployment fails."""
    monkeypatch.setattr("local_platform.platform.deploy_cluster", lambda *_, **__: 1 / 0)
    platform = Platform(Options(tmp_path, port=0, aws_port=0))
    with pytest.raises(ZeroDivisionError):
        platform.__enter__()

    assert platform.processes.running() == {}
    assert not platform.home.exports.exists()
