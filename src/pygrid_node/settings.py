"""Settings, read once from the environment; no other file reads it."""

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """Lists every setting that is missing or wrong, one per line; never a value, because some are secret."""


@dataclass(frozen=True, slots=True)
class OrchestratorLocation:
    """Base URL of the orchestrator and the credential that it gave this node."""

    url: str
    user: str | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, location: str) -> "OrchestratorLocation":
        """Parse `[user:secret@]host:port[/path]`; user and secret may be percent-encoded."""
        authority, slash, path = location.partition("/")
        credential, at, host = authority.rpartition("@")
        url = f"http://{host}{slash}{path}"
        if not at:
            return cls(url)
        user, _, secret = credential.partition(":")
        return cls(url, unquote(user), unquote(secret))

    @property
    def authorization(self) -> str | None:
        """The header `Authorization` of requests in both directions; None without a credential."""
        if self.user is None:
            return None
        return f"Basic {base64.b64encode(f'{self.user}:{self.secret}'.encode()).decode()}"


class Settings(BaseSettings):
    """Environment of the container; the names are those of PyGrid."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, frozen=True, env_ignore_empty=True)

    node_id: str = Field(min_length=1)
    database_url: SecretStr
    # Without it no progress is sent, and every upload is accepted.
    master_node_url: SecretStr | None = None
    address: str | None = None
    bind_host: str = "0.0.0.0"  # noqa: S104 - the default is for containers
    port: int = Field(default=5000, ge=0, le=65535)
    # Seconds until a lease expires: enough for a phone to download a model and train, and a fifth of
    # artificienlib's cycle. A later report counts as well while the cycle is open.
    place_lifetime: float = Field(default=120, gt=0, allow_inf_nan=False)
    # Per cent of `max_workers`: one phone in five may never report without delaying a cycle.
    spare_workers: int = Field(default=25, ge=0, le=1000)
    max_message_bytes: int = Field(default=256 * 1024**2, gt=0)
    # As much as the mean needs for the largest model of float32 numbers that a message holds.
    max_averaging_bytes: int = Field(default=256 * 1024**2, gt=0)
    max_bytes_in_flight: int = Field(default=896 * 1024**2, ge=64 * 1024**2)
    max_connections: int = Field(default=1000, gt=0)
    trusted_proxies: int = Field(default=0, ge=0)
    # PyGrid's own library asks for cycles of one report, and its users run them against this default.
    min_reports: int = Field(default=1, ge=1, lt=10**9)

    @field_validator("database_url")
    @classmethod
    def _ends_in_slash(cls, url: SecretStr) -> SecretStr:
        if "://" not in url.get_secret_value() or not url.get_secret_value().endswith("/"):
            raise ValueError("must be a URL that ends in '/': the node appends the name of its database")
        return url

    @field_validator("master_node_url")
    @classmethod
    def _has_no_scheme(cls, location: SecretStr | None) -> SecretStr | None:
        if location is not None and "://" in location.get_secret_value():
            raise ValueError("must have no scheme: [user:secret@]host:port[/path]")
        return location

    @property
    def database(self) -> str:
        """The URL of this node's own database."""
        # The service derives the same name for the database that it creates (a test compares both).
        name = self.node_id.lower().replace("-", "") + "db"
        return self.database_url.get_secret_value() + name

    @property
    def orchestrator(self) -> OrchestratorLocation | None:
        """Location of the orchestrator; None if the node runs without one."""
        if self.master_node_url is None:
            return None
        return OrchestratorLocation.parse(self.master_node_url.get_secret_value())


def read_settings() -> Settings:
    """Read the settings of this process. Raises `SettingsError`."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{str(detail['loc'][0]).upper()}: {detail['msg']}" for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from None
