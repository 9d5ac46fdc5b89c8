"""Settings: read once from the environment, all that is missing reported together. No other file reads it."""

import sys
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestration.provisioning.node_shape import SIZES

_CLUSTER = ("database_cluster_arn", "database_secret_arn", "database_endpoint")


class StackSettings(BaseSettings):
    """Names that the command line needs as well as the service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    aws_default_region: str
    cluster_stack: str = "artificien-cluster"
    node_stack_prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,80}$")] = "artificien-node"


class Settings(StackSettings):
    """Everything that differs from one deployment to the next; times are in seconds."""

    user_pool_id: str
    app_client_ids: Annotated[frozenset[str], NoDecode, Field(min_length=1)]
    """App clients of the pool whose tokens are taken, separated by commas."""
    jwks_url: str | None = None
    """Where the pool's keys are; by default Cognito's own address."""

    model_bucket: str
    model_table: str = "model_table"
    dataset_table: str = "dataset_table"
    user_table: str = "user_table"
    node_table: str = "node_table"
    key_table: str = "key_table"
    audit_table: str = "audit_table"

    node_image: str
    """Container image that node stacks run."""
    node_cpu: int = 512
    """Of a node, in 1/1024 of a CPU."""
    node_memory: Annotated[int, Field(validate_default=True)] = 2048
    """Of a node, in MiB; what goes with which CPU is Fargate's choice."""
    node_spot: bool = False
    """Run nodes on Spot capacity, which costs a third and may be taken away."""
    node_read_only: bool = True
    """Run nodes on files that can't be written; the original image needs some that can."""
    node_stack_role_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    """With which CloudFormation makes and deletes node stacks; by default with the service's own rights."""
    database_cluster_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    database_secret_arn: Annotated[str, Field(pattern=r"^(arn:\S+)?$")] = ""
    """Of the administrator that makes each node a database of its own, on the cluster all nodes share."""
    database_endpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$")] = ""
    """The cluster's name in the network. These three are outputs of the cluster stack."""
    node_database_url: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """In place of these three, on one machine: one directory for all nodes, `sqlite:///.../`."""
    callback_address: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+:\d+$")]
    """`host:port` under which nodes reach this service; they call it by plain http."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^/]+$")]
    """Under which browsers reach this service; download links begin with it."""
    download_secret: Annotated[SecretStr, Field(min_length=32)]
    """Signs download links."""

    node_grace: Annotated[float, Field(ge=0)] = 900
    """How long a node with nothing to train stays up."""
    node_deadline: PositiveFloat = 1200
    """How long a launch may take until the node answers."""
    node_attempts: PositiveInt = 3
    """How many launches of a node may fail before those who ask are told `error`."""
    node_cool_down: Annotated[float, Field(ge=0)] = 600
    """For how long they are told so, before asking launches it again."""
    nodes_per_buyer: PositiveInt = 10
    """How many nodes may be awake because one data scientist asked: a stolen token spends no more."""
    nodes_in_all: PositiveInt = 500
    reconcile_interval: PositiveFloat = 10
    """Between two passes over all nodes, give or take a quarter."""
    ready_interval: PositiveFloat = 60
    """Between two looks at a node that is ready and has nothing due."""
    model_silent_after: PositiveFloat = 3600
    """After how long without progress a model's node is asked how far it is: a word may have got lost."""
    model_stale_days: PositiveFloat = 7
    """After how long without progress a model no longer holds its node awake."""
    legacy_key_days: Annotated[float, Field(ge=0)] = 30
    """How long a replaced API key goes on working."""
    loss_bound: PositiveFloat = sys.float_info.max
    """Largest loss that a report may have. What is sane depends on the losses in use; by default any is."""
    loss_late: Annotated[float, Field(ge=0)] = 600
    """How long after a model's last cycle a device's report is no offence."""
    device_seen_within: PositiveFloat = 86_400
    """How long a device's valid key vouches for the loss reports of its dataset."""
    loss_needs_key: bool = False
    """Take loss reports with the API key only; the pod of today doesn't send it."""
    rate_per_address: str = "12000 per minute"
    """Requests from one address; a whole mobile network may stand behind one."""
    rate_per_caller: str = "120 per minute"
    rate_losses_per_model: str = "12000 per minute"
    rate_storage: str = "memory://"
    """Where requests are counted: in each web process, or in a Redis that all share."""
    trusted_proxies: Annotated[int, Field(ge=0)] = 0
    """How many proxies stand in front: a load balancer is one, and names the caller's address."""
    audit_days: PositiveFloat = 400
    """How long it can be looked up who did what."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_body_bytes: PositiveInt = 262_144
    local_mode: bool = False
    """Trust the key set of an embedded AWS, whose private half is public."""

    @field_validator("app_client_ids", mode="before")
    @classmethod
    def _split(cls, value: str) -> frozenset[str]:
        return frozenset(filter(None, (part.strip() for part in value.split(","))))

    @field_validator("node_cpu")
    @classmethod
    def _cpu_of_fargate(cls, cpu: int) -> int:
        if cpu not in SIZES:
            raise ValueError(f"Fargate has nodes of {', '.join(map(str, SIZES))} CPU units.")
        return cpu

    @field_validator("node_memory")
    @classmethod
    def _memory_with_that_cpu(cls, memory: int, others: ValidationInfo) -> int:
        cpu = others.data.get("node_cpu")
        if cpu is not None and memory not in SIZES[cpu]:
            raise ValueError(f"With {cpu} CPU units go {', '.join(map(str, SIZES[cpu]))} MiB of memory.")
        return memory

    @field_validator("node_database_url")
    @classmethod
    def _one_kind_of_database(cls, url: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        cluster = [others.data.get(name, "") for name in _CLUSTER]
        if any(cluster) if url else not all(cluster):
            names = ", ".join(_CLUSTER).upper()
            raise ValueError(f"Either this must be given, or all of {names}; never both.")
        return url

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the environment. Raises pydantic.ValidationError, which names all that is missing or wrong."""
        return cls()

    @property
    def issuer(self) -> str:
        """Of every token of the pool."""
        return f"https://cognito-idp.{self.aws_default_region}.amazonaws.com/{self.user_pool_id}"
