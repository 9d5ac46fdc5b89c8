"""The tables of the marketplace and our own, in DynamoDB."""

from orchestration.adapters.dynamo.audit import DynamoAuditLog
from orchestration.adapters.dynamo.keys import DynamoApiKeys
from orchestration.adapters.dynamo.marketplace import DynamoDatasets, DynamoUsers
from orchestration.adapters.dynamo.models import DynamoModels
from orchestration.adapters.dynamo.nodes import DynamoNodes
from orchestration.adapters.dynamo.table import Table

__all__ = [
    "DynamoApiKeys",
    "DynamoAuditLog",
    "DynamoDatasets",
    "DynamoModels",
    "DynamoNodes",
    "DynamoUsers",
    "Table",
]
