"""Settings, read once from the environment; all errors are reported together. No other file reads it.

`Settings` are those of the web process. The classes below it require less, for a process that needs less.
"""

from typing import Annotated, Literal

from limits import parse_many
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestration.domain.cycle import LOSS_BOUND
from orchestration.domain.uploads import UploadBinding
from orchestration.provisioning.names import CLUSTER_STACK, NODE_STACK
from orchestration.provisioning.node_shape import SIZES

_CLUSTER_SETTINGS = ("database_cluster_arn", "database_secret_arn", "database_endpoint")


class StackSettings(BaseSettings):
    """Settings of the service that the command line needs, too."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    aws_default_region: str
    cluster_stack: str = CLUSTER_STACK
    node_stack_prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,80}$")] = NODE_STACK


class Settings(StackSettings):
    """Everything that differs between deployments; times in seconds unless the name says days."""

    user_pool_id: str
    app_client_ids: Annotated[frozenset[str], NoDecode, Field(min_length=1)]
    """App clients of the pool whose access tokens are accepted, separated by commas."""
    jwks_url: str | None = None
    """URL of the pool's key set; by default Cognito's own."""

    model_bucket: str
    model_table: str = "model_table"
    training_table: str = "training_table"
    dataset_table: str = "dataset_table"
    user_table: str = "user_table"
    node_table: str = "node_table"
    key_table: str = "key_table"
    audit_table: str = "audit_table"

    node_image: str
    """Container image of nodes."""
    node_cpu: int = 512
    """CPU of a node, in 1/1024 of one."""
    node_memory: Annotated[int, Field(validate_default=True)] = 2048
    """Memory of a node in MiB, one of those that Fargate allows with this CPU."""
    node_spot: bool = False
    """Run nodes on Spot capacity: a third of the price, may be interrupted."""
    node_read_only: bool = True
    """Mount the root file system of nodes read-only; the original image needs a writable one."""
    node_min_reports: Annotated[int, Field(ge=1, lt=10**9)] = 10
    """How many reports a cycle of a node has at least, whatever the upload says."""
    node_stack_role_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    """Role with which CloudFormation acts on node stacks; by default it has the service's own permissions."""
    database_cluster_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    database_secret_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    """Secret of the administrator who creates each node's database on the shared cluster."""
    database_endpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$")] = ""
    """Host name of the cluster. These three are outputs of the cluster stack."""
    node_database_url: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """Instead of these three, on one machine: one directory for all nodes, `sqlite:///.../`."""
    callback_address: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+:\d+$")]
    """`host:port` at which nodes call this service, with http."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^/]+$")]
    """URL at which browsers reach this service; download links start with it."""
    download_secret: Annotated[SecretStr, Field(min_length=32)]
    """Signs download links."""

    node_grace: Annotated[float, Field(ge=0)] = 900
    """Idle time-out: how long a node with nothing to train keeps running."""
    node_deadline: PositiveFloat = 1200
    """How long a launch may take until the node answers a probe."""
    node_attempts: PositiveInt = 3
    """After how many failed launches requests for the node are answered with `error`."""
    node_cool_down: Annotated[float, Field(ge=0)] = 600
    """For how long requests are answered with `error`, before a request launches the node again."""
    nodes_per_buyer: PositiveInt = 10
    """How many nodes may run for one data scientist; limits what a stolen token can cost."""
    nodes_in_all: PositiveInt = 500
    reconcile_interval: PositiveFloat = 10
    """Time between two passes over all nodes, plus or minus a quarter."""
    attention_interval: PositiveFloat = 1
    """Time between two reads of the nodes that requests have marked."""
    ready_interval: PositiveFloat = 60
    """Time between two checks of a node that is ready and has nothing due."""
    model_silent_after: PositiveFloat = 3600
    """After how long without progress a model's record is resynced: a progress message may be lost."""
    model_stale_days: PositiveFloat = 7
    """After how long without progress a model no longer keeps its node running."""
    legacy_key_days: Annotated[float, Field(ge=0)] = 30
    """How long a replaced API key remains valid."""
    loss_bound: Annotated[float, Field(gt=0, le=1e15)] = LOSS_BOUND
    """Largest absolute loss that a report may have. The range depends on the loss functions."""
    loss_late: Annotated[float, Field(ge=0)] = 600
    """For how long after a model's last cycle loss reports are not refused."""
    device_seen_within: PositiveFloat = 86_400
    """For how long after a device showed a valid key its dataset's loss reports need none."""
    loss_needs_key: bool = False
    """Accept loss reports with an API key only; today's pod sends none."""
    rate_per_address: str = "12000 per minute"
    """Limit of requests from one address; a whole mobile network may share one."""
    rate_per_caller: str = "120 per minute"
    rate_per_node: str = "1200 per minute"
    """Limit of one node's requests to one route; a node may host hundreds of models."""
    rate_losses_per_model: str = "12000 per minute"
    rate_storage: str = "memory://"
    """Where requests are counted: in each web process, or in a shared Redis."""
    upload_binding: UploadBinding = UploadBinding.ADDRESS
    """How an upload is bound to the caller of `/create`."""
    trusted_proxies: Annotated[int, Field(ge=0)] = 0
    """How many proxies, such as a load balancer, forward requests and add the caller's address."""
    audit_days: PositiveFloat = 400
    """How long entries of the audit log are kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: PositiveInt = 262_144
    local_mode: bool = False
    """Run against an embedded AWS: trust its published key, and allow nodes on loopback addresses."""

    @field_validator("app_client_ids", mode="before")
    @classmethod
    def _split_list(cls, value: str) -> frozenset[str]:
        return frozenset(filter(None, (part.strip() for part in value.split(","))))

    @field_validator("rate_per_address", "rate_per_caller", "rate_per_node", "rate_losses_per_model")
    @classmethod
    def _check_rate(cls, rate: str) -> str:
        parse_many(rate)
        return rate

    @field_validator("node_cpu")
    @classmethod
    def _check_cpu(cls, cpu: int) -> int:
        if cpu not in SIZES:
            raise ValueError(f"Fargate has nodes of {', '.join(map(str, SIZES))} CPU units.")
        return cpu

    @field_validator("node_memory")
    @classmethod
    def _check_memory(cls, memory: int, info: ValidationInfo) -> int:
        cpu = info.data.get("node_cpu")
        if cpu is not None and memory not in SIZES[cpu]:
            raise ValueError(f"With {cpu} CPU units go {', '.join(map(str, SIZES[cpu]))} MiB of memory.")
        return memory

    @field_validator("node_database_url")
    @classmethod
    def _check_database(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        cluster = [info.data.get(name, "") for name in _CLUSTER_SETTINGS]
        if any(cluster) if url else not all(cluster):
            names = ", ".join(_CLUSTER_SETTINGS).upper()
            raise ValueError(f"Either this must be given, or all of {names}; never both.")
        return url

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the environment. Raises pydantic.ValidationError with all missing or invalid settings."""
        return cls()

    @property
    def issuer(self) -> str:
        """The issuer of the pool's tokens."""
        return f"https://cognito-idp.{self.aws_default_region}.amazonaws.com/{self.user_pool_id}"


class ReconcilerSettings(Settings):
    """Settings of the reconciler, which accepts no tokens."""

    user_pool_id: str = ""
    app_client_ids: Annotated[frozenset[str], NoDecode, Field(validate_default=False)] = frozenset()


class AuditSettings(ReconcilerSettings):
    """Settings of `artificien audit`, which launches no node and reads no model."""

    model_bucket: str = ""
    node_image: str = ""
    callback_address: str = ""
    public_url: str = ""
    download_secret: SecretStr = SecretStr("")


class TableSettings(AuditSettings):
    """Settings of commands that need tables only: `artificien audit-log` and `migrate-models`."""

    node_database_url: Annotated[SecretStr | None, Field(validate_default=False)] = None
