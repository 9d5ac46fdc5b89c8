import os
import signal
import stat
import time

import pytest
import requests

from local_platform import seeds
from local_platform.network import answers, direct
from local_platform.platform import Options, Platform

pytestmark = pytest.mark.moto


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    with Platform(Options(tmp_path_factory.mktemp("platform"), port=0, aws_port=0)) as platform:
        yield platform


def post(platform, route, body, **headers):
    with direct() as session:
        return session.post(platform.url + route, json=body, headers=headers, timeout=30)


def bearer(platform, person=None):
    return {"Authorization": f"Bearer {platform.token(person or platform.scientist)}"}


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return result


def ready(platform):
    """Ask for the first model's node once; return its address when it is there."""
    body = {
        "dataset_id": seeds.DATASET_ID,
        "model_id": platform.environment["MODEL_ID"],
        "features": list(seeds.FEATURES),
        "labels": list(seeds.LABELS),
    }
    answer = post(platform, "/create", body, **bearer(platform)).json()
    assert "error" not in answer
    return answer.get("nodeURL")


@pytest.fixture
def node(platform):
    """The address of the first model's node."""
    address = until(lambda: ready(platform))
    assert address
    return address


def is_up(address):
    return answers(f"http://{address}:5000/data-centric/status/")


def test_exports_are_what_python_sees(platform):
    """And for the owner's eyes only."""
    assert platform.home.published() == platform.environment
    assert stat.S_IMODE(platform.home.exports.stat().st_mode) == 0o600


def test_all_listen_on_loopback_only(platform):
    """AWS's keys are public, and so would everything be that trusts them."""
    for url in (platform.url, platform.aws.url):
        assert url.startswith("http://127.0.0.1:")


def test_service_knows_the_data_scientist(platform):
    """By a token of the pool, checked against its keys."""
    answer = post(platform, "/get_datasets", {"user_id": platform.scientist.username}, **bearer(platform))

    assert answer.json() == {"datasets": [seeds.DATASET_ID]}


def test_service_knows_the_phone(platform):
    """By the key that it has made itself, in the header with the underscore."""
    key = {"api_key": platform.environment["API_KEY"]}
    answer = post(platform, "/info", {"dataset_id": seeds.DATASET_ID}, **key)

    assert answer.status_code == 200


def test_key_of_the_sign_up_is_good_for_a_while(platform):
    """It is out in shipped apps."""
    table = platform.aws.resource("dynamodb").Table("user_table")
    row = table.get_item(Key={"user_id": platform.developer.email})["Item"]

    assert row["api_key"] != platform.environment["API_KEY"]


def test_node_comes_up_at_its_own_address(platform, node):
    """Through CloudFormation, ECS and the agent, as on AWS."""
    assert node.startswith("127.")
    assert not node.startswith("127.0.0.")
    assert is_up(node)


@pytest.mark.parametrize("name", ["service", "reconciler", "agent"])
def test_killed_process_comes_back(platform, node, name):
    """And the node is there afterwards, wherever it was."""
    before = platform.processes.running()[name]
    os.kill(before, signal.SIGKILL)

    assert until(lambda: platform.processes.running()[name] not in (before, None))
    assert until(lambda: answers(platform.url) and is_up(node))
    assert until(lambda: ready(platform)) == node


def test_node_goes_with_its_last_model(platform, node):
    """Its stack is deleted, and the agent follows."""
    answer = post(platform, "/delete", {"model_id": platform.environment["MODEL_ID"]}, **bearer(platform))

    assert answer.status_code == 200
    assert until(lambda: not is_up(node))


def test_everything_is_gone_afterwards(tmp_path):
    """Exports first, then the processes."""
    with Platform(Options(tmp_path, port=0, aws_port=0, workers=1)) as platform:
        pids = platform.processes.running().values()
        exports = platform.home.exports
        assert exports.exists()

    assert not exports.exists()
    assert platform.processes.running() == {}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(requests.ConnectionError), direct() as session:
        session.get(platform.url, timeout=5)


def test_what_was_up_is_stopped_when_the_rest_fails(tmp_path, monkeypatch):
    """Halfway up is not left behind."""
    monkeypatch.setattr("local_platform.seeds.plant", lambda *_, **__: 1 / 0)
    platform = Platform(Options(tmp_path, port=0, aws_port=0))
    with pytest.raises(ZeroDivisionError):
        platform.__enter__()

    assert platform.processes.running() == {}
    assert not platform.home.exports.exists()
