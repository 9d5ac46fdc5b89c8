import os

import pytest

from local_platform import LocalPlatformError
from local_platform.clients import LocalAws, access_token
from local_platform.network import available_port

AWS = LocalAws("http://127.0.0.1:5055", "eu-central-1")


@pytest.fixture
def operator(monkeypatch, tmp_path):
    """An operator whose shell and configuration files lead to the real AWS."""
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


def test_client_ignores_the_operators_profile(operator):
    """A request to the real AWS could cost money."""
    client = AWS.client("dynamodb")
    credentials = client._request_signer._credentials

    assert (client.meta.endpoint_url, client.meta.region_name) == (AWS.url, "eu-central-1")
    assert (credentials.access_key, credentials.token) == ("local", None)


def test_resource_ignores_the_operators_profile(operator):
    """Its client is created in another way."""
    assert AWS.resource("dynamodb").meta.client.meta.endpoint_url == AWS.url


def test_unknown_profile_is_ignored(monkeypatch):
    """boto3 itself raises ProfileNotFound for AWS_PROFILE."""
    monkeypatch.setenv("AWS_PROFILE", "nonsense")

    assert AWS.client("s3").meta.endpoint_url == AWS.url


def test_child_processes_read_no_configuration_file():
    """Their boto3 clients are ordinary ones, which read the files that the environment names."""
    environment = AWS.environment()

    assert environment["AWS_ENDPOINT_URL"] == AWS.url
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull


def test_silent_aws_is_named():
    """The platform may have been killed, and have left its exports."""
    nowhere = LocalAws(f"http://127.0.0.1:{available_port(0, '--aws-port')}", "us-east-1")

    with pytest.raises(LocalPlatformError, match="Is the platform running"):
        access_token(nowhere, "client", "ada", "s3cret")
