from pathlib import Path

import pytest

from local_platform import environments
from local_platform.clients import LocalAws
from local_platform.environments import exports, service_environment
from local_platform.logins import Pool
from local_platform.seeds import Person
from orchestration.settings import Settings

AWS = LocalAws("http://127.0.0.1:5055", "us-east-1")
POOL = Pool("us-east-1_abc", "client")
PEOPLE = (Person("ada", "a-password", "data scientist"), Person("grace", "g-password", "app developer"))
URL = "http://127.0.0.1:5001"


@pytest.fixture
def environment():
    return service_environment(AWS, POOL, "bucket", URL, Path("/home/nodes"), workers=3)


@pytest.fixture
def settings(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_service_accepts_its_environment(settings):
    """Nothing that it requires is missing."""
    assert settings.local_mode
    assert settings.app_client_ids == {"client"}
    assert settings.jwks_url == "http://127.0.0.1:5055/us-east-1_abc/.well-known/jwks.json"


def test_nodes_call_back_at_the_services_own_address(settings):
    """Without a scheme, as the node wants it."""
    assert settings.callback_address == "127.0.0.1:5001"
    assert settings.public_url == URL


def test_nodes_keep_their_state_in_a_file(settings):
    """The node appends its database's name."""
    assert settings.node_database_url.get_secret_value() == "sqlite:////home/nodes/"


def test_download_secret_differs_from_run_to_run(environment):
    """A link of one run opens nothing in the next."""
    again = service_environment(AWS, POOL, "bucket", URL, Path("/home/nodes"), workers=3)

    assert environment["DOWNLOAD_SECRET"] != again["DOWNLOAD_SECRET"]


def test_exports_are_those_that_programs_look_for(monkeypatch):
    """The names are agreed upon."""
    monkeypatch.setattr(environments, "_key_set", lambda _url: '{"keys": []}')
    names = exports(AWS, POOL, URL, PEOPLE, "art_key").keys()

    assert {
        "ORCHESTRATION_URL", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION", "USER_POOL_ID", "APP_CLIENT_ID", "DS_USERNAME", "DS_PASSWORD", "DATASET_ID",
        "API_KEY",
    } <= names  # fmt: skip
