"""The RDS Data API: SQL over HTTPS, without a way into the database's network. One call, one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from orchestration.adapters.node_databases import Row
from orchestration.aws import upstream_errors
from orchestration.domain.errors import DatabaseWaking

if TYPE_CHECKING:
    from mypy_boto3_rds_data import RDSDataServiceClient
    from mypy_boto3_rds_data.type_defs import FieldOutputTypeDef

ADMINISTRATION = "postgres"
"""The database to be connected to while others are made; every cluster has it, and locks hold within one."""

_WAKING = frozenset({"DatabaseResumingException", "StatementTimeoutException"})
_ALSO_WAKING = ("Communications link failure", "resuming")
"""What `BadRequestException` says on the older Data API while a cluster resumes."""


@dataclass(frozen=True, slots=True)
class DataApi:
    """Implements `node_databases.Executor`. Both ARNs are outputs of the cluster stack.

    It never waits for a paused database: each call wakes it, and whoever calls comes again.
    """

    client: "RDSDataServiceClient"
    cluster_arn: str
    secret_arn: str

    def run(self, statement: str) -> Sequence[Row]:
        """Execute a statement by itself; return the rows it found. Raises DatabaseWaking, Upstream.

        The Data API refuses a result of more than 1 MiB.
        """
        with upstream_errors("The nodes' database"):
            try:
                answer = self.client.execute_statement(
                    resourceArn=self.cluster_arn,
                    secretArn=self.secret_arn,
                    database=ADMINISTRATION,
                    sql=statement,
                )
            except ClientError as error:
                if _is_waking(error):
                    raise DatabaseWaking("The nodes' database is waking up.") from error
                raise
        return [tuple(map(_value, record)) for record in answer.get("records", ())]


def _value(field: "FieldOutputTypeDef") -> object:
    """Unwrap a column's value, which comes under the name of its type."""
    return None if field.get("isNull") else next(iter(field.values()))


def _is_waking(error: ClientError) -> bool:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "BadRequestException":
        return any(words in message for words in _ALSO_WAKING)
    return code in _WAKING
