"""Settings, read once from the environment; no other file reads it."""

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """Everything that is missing or wrong, one line each; never a value, since some are secret."""


@dataclass(frozen=True, slots=True)
class MasterNode:
    """Where progress goes, and with which credential."""

    progress_url: str
    user: str | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, location: str) -> "MasterNode":
        """Read `[user:secret@]host:port[/path]`; user and secret may be percent-encoded."""
        authority, slash, path = location.partition("/")
        credential, at, host = authority.rpartition("@")
        url = f"http://{host}{slash}{path}/model_progress"
        if not at:
            return cls(url)
        user, _, secret = credential.partition(":")
        return cls(url, unquote(user), unquote(secret))

    def authorization(self) -> str | None:
        """The header `Authorization` that proves one to the other, if there is a credential."""
        if self.user is None:
            return None
        credential = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return f"Basic {credential}"

    def headers(self) -> dict[str, str]:
        """What every call to it carries."""
        authorization = self.authorization()
        return {} if authorization is None else {"Authorization": authorization}


class Settings(BaseSettings):
    """What the container is given; the names are those of the original node, and of its environment."""

    model_config = SettingsConfigDict(hide_input_in_errors=True, frozen=True, env_ignore_empty=True)

    node_id: str = Field(min_length=1)
    database_url: SecretStr
    # Without it nobody is told of progress, and nobody is asked whose uploads these are.
    master_node_url: SecretStr | None = None
    address: str | None = None
    bind_host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside; elsewhere it is set
    port: int = Field(default=5000, ge=0, le=65535)
    # In seconds: half of the time that artificienlib gives a cycle, the other half is for who gets the place.
    place_lifetime: float = Field(default=300, gt=0, allow_inf_nan=False)
    max_message_bytes: int = Field(default=512 * 1024**2, gt=0)

    @field_validator("database_url")
    @classmethod
    def _ends_in_slash(cls, url: SecretStr) -> SecretStr:
        if "://" not in url.get_secret_value() or not url.get_secret_value().endswith("/"):
            raise ValueError("must be a URL that ends in '/': the node appends its database's name")
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
        name = self.node_id.lower().replace("-", "") + "db"
        return self.database_url.get_secret_value() + name

    @property
    def master(self) -> MasterNode | None:
        """The orchestration node; None for a node that is on its own."""
        if self.master_node_url is None:
            return None
        return MasterNode.parse(self.master_node_url.get_secret_value())


def read_settings() -> Settings:
    """The settings of this process; raises `SettingsError` with all that is missing or wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{str(detail['loc'][0]).upper()}: {detail['msg']}" for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from None
