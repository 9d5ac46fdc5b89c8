"""The service as it runs: four gunicorn workers on an embedded AWS, called over real sockets."""

import io
import json
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from rich.console import Console

from local_platform import seeds
from local_platform.cli import demo
from local_platform.demo.story import Story
from local_platform.platform import Options, Platform
from orchestration.domain.node import node_id_of

pytestmark = pytest.mark.moto

REPORTS = 200
CREDENTIAL = re.compile(
    r"eyJ[\w-]{10,}\.|art_[\w-]{40,}|(Basic|Bearer) [\w+/=-]{10,}|://[^/\s:@]+:[^/\s:@]+@"
)
"""A token, an API key, a header that proves something, an address with a password in it."""


@pytest.fixture(scope="module")
def made() -> Iterator[list[str]]:
    """What the platform makes up: passwords, the sign-up's API key, the secret of the download links."""
    made, token_urlsafe = [], secrets.token_urlsafe

    def noted(nbytes: int) -> str:
        made.append(token_urlsafe(nbytes))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_urlsafe", noted)
        yield made


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, made: list[str]) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with Platform(Options(directory, port=0, aws_port=0, workers=4)) as platform:
        # A device vouches for the reports of its dataset.
        assert info(platform, "127.0.0.1").status_code == 200
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


def test_no_log_of_any_process_holds_a_secret(platform: Platform, made: list[str], tmp_path: Path):
    """Neither after a whole training, with all calls of its node, nor after wrong credentials."""
    token = platform.token(platform.scientist)
    wrong = {"Authorization": f"Bearer {token[:-9]}forged-it", "api_key": "opens nothing at all"}
    for path in ("get_datasets", "info", "model_progress"):
        requests.post(f"{platform.url}/{path}", json={"dataset_id": "x"}, headers=wrong, timeout=30)
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(passwords_kept, platform)
        Story(platform, Console(file=io.StringIO()), tmp_path / "loss.png").play()
    logs = {path.stem: path.read_text() for path in platform.home.logs.iterdir()}
    known = [*made, token, *wrong.values(), platform.environment["API_KEY"], *kept.result()]

    assert len(made) >= 4
    assert len(kept.result()) >= 2
    assert all(len(secret) > 10 for secret in known)
    assert logs.keys() >= {"aws", "service", "reconciler", "agent"}
    assert "progress.sent" in logs[node_id_of(seeds.DATASET_ID)]
    for name, log in logs.items():
        assert not [secret for secret in known if secret in log], name
        assert not CREDENTIAL.search(log), name


def passwords_kept(platform: Platform) -> list[str]:
    """Wait for the node's secret, which goes with its node; return the passwords in Secrets Manager."""
    client = platform.aws.client("secretsmanager")
    deadline = time.monotonic() + 60
    kept: list[str] = []
    while not any("MASTER_NODE_URL" in text for text in kept) and time.monotonic() < deadline:
        time.sleep(0.05)
        listed = client.list_secrets()["SecretList"]
        kept = [client.get_secret_value(SecretId=secret["ARN"])["SecretString"] for secret in listed]
    return [password_in(text) for text in kept]


def password_in(secret: str) -> str:
    """Of a node, of a database, or plain text."""
    content = json.loads(secret) if secret.startswith("{") else {"password": secret}
    login, _, _ = content.get("MASTER_NODE_URL", ":" + content.get("password", "")).partition("@")
    return login.partition(":")[2]
