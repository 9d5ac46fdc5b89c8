"""The service in four gunicorn workers on an embedded AWS, called over real sockets."""

import io
import json
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from click.testing import CliRunner
from rich.console import Console

from local_platform import seeds
from local_platform.cli import demo
from local_platform.demo.story import Files, Story
from local_platform.platform import Options, Platform
from orchestration.domain.node import node_id_of

pytestmark = pytest.mark.moto

REPORTS = 200
CREDENTIAL = re.compile(
    r"eyJ[\w-]{10,}\.|art_[\w-]{40,}|(Basic|Bearer) [\w+/=-]{10,}|://[^/\s:@]+:[^/\s:@]+@"
)
"""A token, an API key, a header with a credential, or a URL with a password."""


@pytest.fixture(scope="module")
def generated() -> Iterator[list[str]]:
    """Secrets that the platform generates: passwords, the sign-up's API key, the key of download links."""
    generated, token_urlsafe = [], secrets.token_urlsafe

    def recorded(nbytes: int) -> str:
        generated.append(token_urlsafe(nbytes))
        return generated[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_urlsafe", recorded)
        yield generated


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, generated: list[str]) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with Platform(Options(directory, port=0, aws_port=0, workers=4)) as platform:
        # A report is counted only for an accepted model, after a device of its dataset has called /info.
        assert create(platform).status_code == 202
        assert info(platform, "127.0.0.1").status_code == 200
        yield platform


def create(platform: Platform) -> requests.Response:
    """Call /create like artificienlib, for the model that every new platform contains."""
    body = {"dataset_id": seeds.DATASET_ID, "model_id": platform.environment["MODEL_ID"]}
    body |= {"features": seeds.FEATURES, "labels": seeds.LABELS}
    headers = {"Authorization": f"Bearer {platform.token(platform.scientist)}"}
    return from_address("127.0.0.1").post(f"{platform.url}/create", json=body, headers=headers, timeout=30)


def info(platform: Platform, address: str) -> requests.Response:
    """Call /info like a phone at this address."""
    body, headers = {"dataset_id": seeds.DATASET_ID}, {"api_key": platform.environment["API_KEY"]}
    return from_address(address).post(f"{platform.url}/info", json=body, headers=headers, timeout=30)


def model(platform: Platform) -> dict:
    table = platform.aws.resource("dynamodb").Table("model_table")
    return table.get_item(Key={"model_id": platform.environment["MODEL_ID"]}, ConsistentRead=True)["Item"]


def from_address(address: str) -> requests.Session:
    """Return a session with this source address."""
    session = requests.Session()
    session.trust_env = False
    adapter = requests.adapters.HTTPAdapter()
    adapter.init_poolmanager(10, 10, source_address=(address, 0))
    session.mount("http://", adapter)
    return session


def test_two_hundred_concurrent_reports_are_counted(platform: Platform):
    """A report is one atomic ADD; the stored mean is that of all reports."""
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


def test_header_with_underscore_is_accepted_from_any_address(platform: Platform):
    """By default, gunicorn drops such a header unless it is sent from 127.0.0.1."""
    answer = info(platform, "127.0.0.9")

    assert answer.status_code == 200
    assert answer.json().keys() in ({"wait"}, {"success"}, {"models", "nodeURL"})


def test_other_forwarded_headers_are_ignored(platform: Platform):
    """Accepting the pod's header doesn't enable these."""
    session = from_address("127.0.0.9")
    headers = {"X-Forwarded-Proto": "https", "script_name": "/evil", "SCRIPT_NAME": "/evil"}
    answer = session.get(platform.url, headers=headers, timeout=30)

    assert (answer.status_code, answer.text) == (200, "Running")


def test_body_of_a_megabyte_is_refused_in_json(platform: Platform):
    """Callers parse every response as JSON."""
    answer = requests.post(f"{platform.url}/model_loss", data=b"x" * 2**20, timeout=30)

    assert answer.status_code == 413
    assert answer.json()["error"]


def test_demo_succeeds_though_service_and_reconciler_are_killed(tmp_path: Path):
    """The trained model is still retrieved, and its node's stack is deleted."""
    result = CliRunner().invoke(demo, ["--kill", "--directory", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert "NO" not in result.output
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_logs_of_all_processes_contain_no_secret(platform: Platform, generated: list[str], tmp_path: Path):
    """This includes a whole training, all calls of its node, and wrong credentials."""
    token = platform.token(platform.scientist)
    wrong = {"Authorization": f"Bearer {token[:-9]}forged-it", "api_key": "an invalid api key"}
    for path in ("get_datasets", "info", "model_progress"):
        requests.post(f"{platform.url}/{path}", json={"dataset_id": "x"}, headers=wrong, timeout=30)
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(stored_passwords, platform)
        Story(platform, Console(file=io.StringIO()), Files(tmp_path)).play()
    logs = {path.stem: path.read_text() for path in platform.home.logs.iterdir()}
    known = [*generated, token, *wrong.values(), platform.environment["API_KEY"], *kept.result()]

    assert len(generated) >= 4
    assert len(kept.result()) >= 2
    assert all(len(secret) > 10 for secret in known)
    assert logs.keys() >= {"aws", "service", "reconciler", "agent"}
    assert "progress.sent" in logs[node_id_of(seeds.DATASET_ID)]
    for name, log in logs.items():
        assert not [secret for secret in known if secret in log], name
        assert not CREDENTIAL.search(log), name


def stored_passwords(platform: Platform) -> list[str]:
    """Wait for the node's secret, which is deleted with its node; return the passwords in Secrets Manager."""
    client = platform.aws.client("secretsmanager")
    deadline = time.monotonic() + 60
    kept: list[str] = []
    while not any("MASTER_NODE_URL" in text for text in kept) and time.monotonic() < deadline:
        time.sleep(0.05)
        listed = client.list_secrets()["SecretList"]
        kept = [client.get_secret_value(SecretId=secret["ARN"])["SecretString"] for secret in listed]
    return [password_in(text) for text in kept]


def password_in(secret: str) -> str:
    """Return the password of a node or a database, or a plain-text secret."""
    content = json.loads(secret) if secret.startswith("{") else {"password": secret}
    login, _, _ = content.get("MASTER_NODE_URL", ":" + content.get("password", "")).partition("@")
    return login.partition(":")[2]


def test_download_link_of_a_long_id_reaches_the_service(platform: Platform):
    """512 characters of 12 bytes each when percent-encoded, and a signature."""
    link = f"{platform.url}/download/{quote('🙂' * 512)}?key={'k' * 100}"
    answer = requests.get(link, timeout=30)

    assert (answer.status_code, answer.json()) == (404, {"error": "This download link is not valid."})
