"""The service as it runs: four gunicorn workers on an embedded AWS, called over real sockets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from local_platform import seeds
from local_platform.demo.command import demo
from local_platform.platform import Options, Platform

pytestmark = pytest.mark.moto

REPORTS = 200


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with Platform(Options(directory, port=0, aws_port=0, workers=4)) as platform:
        assert info(platform, "127.0.0.1").status_code == 200  # a device vouches for the reports of its dataset
        yield platform


def info(platform: Platform, address: str) -> requests.Response:
    """What a phone at this address is told."""
    body, headers = {"dataset_id": seeds.DATASET_ID}, {"api_key": platform.environment["API_KEY"]}
    return from_address(address).post(f"{platform.url}/info", json=body, headers=headers, timeout=30)


def model(platform: Platform) -> dict:
    table = platform.aws.resource("dynamodb").Table("model_table")
    return table.get_item(Key={"model_id": platform.environment["MODEL_ID"]}, ConsistentRead=True)["Item"]


def from_address(address: str) -> requests.Session:
    """A session whose packets come from another address of this machine."""
    session = requests.Session()
    session.trust_env = False
    adapter = requests.adapters.HTTPAdapter()
    adapter.init_poolmanager(10, 10, source_address=(address, 0))
    session.mount("http://", adapter)
    return session


def test_two_hundred_reports_at_once_are_two_hundred(platform: Platform):
    """A report is one atomic ADD; the mean that is shown is that of all of them."""
    losses = [0.001 * number + 1 / 3 for number in range(REPORTS)]
    model_id = platform.environment["MODEL_ID"]

    def report(loss: float) -> int:
        body = {"acc": -1, "loss": loss, "model_id": model_id}
        return requests.post(f"{platform.url}/model_loss", json=body, timeout=60).status_code

    with ThreadPoolExecutor(REPORTS) as pool:
        statuses = set(pool.map(report, losses))

    assert statuses == {200}
    assert model(platform)["devices_trained_this_cycle"] == REPORTS
    assert float(model(platform)["loss_this_cycle"]) == pytest.approx(sum(losses) / REPORTS, abs=1e-6)
    assert model(platform)["acc_this_cycle"] == -1


def test_the_pods_header_gets_through_from_anywhere(platform: Platform):
    """gunicorn drops names with an underscore, and trusts loopback's 127.0.0.1 only, unless it is told."""
    answer = info(platform, "127.0.0.9")

    assert answer.status_code == 200
    assert len(answer.json()) == 1


def test_nobody_can_claim_https_or_a_script_name(platform: Platform):
    """The header that is let through doesn't open the door for others."""
    session = from_address("127.0.0.9")
    headers = {"X-Forwarded-Proto": "https", "script_name": "/evil", "SCRIPT_NAME": "/evil"}
    answer = session.get(platform.url, headers=headers, timeout=30)

    assert (answer.status_code, answer.text) == (200, "Running")


def test_a_megabyte_of_junk_is_refused_as_json(platform: Platform):
    """Whatever comes over the wire, the answer can be read by the callers."""
    answer = requests.post(f"{platform.url}/model_loss", data=b"x" * 2**20, timeout=30)

    assert answer.status_code == 413
    assert answer.json()["error"]


def test_the_loop_ends_well_though_service_and_reconciler_are_killed(tmp_path: Path):
    """SIGKILL in the middle of the demo: the trained model still comes back, and its node still goes."""
    result = CliRunner().invoke(demo, ["--kill", "--directory", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert "NO" not in result.output
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
