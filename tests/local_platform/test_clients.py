import os

import pytest

from local_platform.clients import LocalAws, kept

AWS = LocalAws("http://127.0.0.1:5055", "eu-central-1")


@pytest.fixture
def operator(monkeypatch, tmp_path):
    """An operator whose shell and files lead to the real AWS."""
    config = tmp_path / "config"
    config.write_text("[profile production]\nregion = us-west-2\nendpoint_url = https://example.org\n")
    for name, value in {
        "AWS_PROFILE": "production",
        "AWS_CONFIG_FILE": str(config),
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL_DYNAMODB": "https://example.org",
    }.items():
        monkeypatch.setenv(name, value)


def test_client_comes_here_whatever_the_operators_profile(operator):
    """A mistake here would cost somebody money."""
    client = AWS.client("dynamodb")
    credentials = client._request_signer._credentials

    assert (client.meta.endpoint_url, client.meta.region_name) == (AWS.url, "eu-central-1")
    assert (credentials.access_key, credentials.token) == ("local", None)


def test_resource_comes_here_too(operator):
    """Its client is made in another way."""
    assert AWS.resource("dynamodb").meta.client.meta.endpoint_url == AWS.url


def test_missing_profile_is_no_obstacle(monkeypatch):
    """An operator may have one set that this machine doesn't know."""
    monkeypatch.setenv("AWS_PROFILE", "nonsense")

    assert AWS.client("s3").meta.endpoint_url == AWS.url


def test_children_see_no_file_of_the_operators():
    """Their boto3 is of the ordinary kind, and reads what it is pointed to."""
    environment = AWS.environment()

    assert environment["AWS_ENDPOINT_URL"] == AWS.url
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_children_inherit_next_to_nothing():
    """Neither credentials nor proxies, nor what the service would read as a setting."""
    operators = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "http_proxy": "http://p",
        "MODEL_TABLE": "other",
    }

    assert kept(operators) == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}
