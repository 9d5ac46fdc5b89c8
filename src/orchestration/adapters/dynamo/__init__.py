"""The tables in DynamoDB."""

from orchestration.adapters.dynamo.marketplace import (
    DynamoApiKeys,
    DynamoAuditLog,
    DynamoDatasets,
    DynamoUsers,
)
from orchestration.adapters.dynamo.migration import Migration
from orchestration.adapters.dynamo.model_items import ModelItems
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
    "Migration",
    "ModelItems",
    "Table",
]
