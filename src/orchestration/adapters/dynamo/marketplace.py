"""The marketplace's own tables: datasets and users."""

from dataclasses import dataclass

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import ValidationError

from orchestration.adapters.dynamo.rows import DatasetRow, UserRow
from orchestration.adapters.dynamo.table import ConditionFailed, Table
from orchestration.domain.entities import Dataset, User
from orchestration.domain.errors import Conflict, NotFound

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DynamoDatasets:
    """Implements the port `Datasets`."""

    table: Table

    def get(self, dataset_id: str) -> Dataset:
        """Return the dataset."""
        item = self.table.get(dataset_id=dataset_id)
        if item is None:
            raise NotFound(f"There is no dataset {dataset_id!r}.")
        try:
            return DatasetRow.model_validate(item).entity()
        except ValidationError as error:
            raise Conflict(f"The item of dataset {dataset_id!r} is malformed.") from error

    def mark_set_up(self, dataset_id: str) -> None:
        """Set `properlySetUp`."""
        self._update(dataset_id, properlySetUp=True)

    def publish_node(self, dataset_id: str, address: str) -> None:
        """Set `hasNode` and `nodeURL`."""
        self._update(dataset_id, hasNode=True, nodeURL=address)

    def unpublish_node(self, dataset_id: str) -> None:
        """Clear `hasNode` and `nodeURL`."""
        self._update(dataset_id, hasNode=False, nodeURL=None)

    def _update(self, dataset_id: str, **changes: object) -> None:
        try:
            self.table.update({"dataset_id": dataset_id}, put=changes, when=Attr("dataset_id").exists())
        except ConditionFailed:
            # The marketplace has deleted it meanwhile; there is nobody left to tell.
            log.warning("dataset.missing", dataset_id=dataset_id)


@dataclass(frozen=True, slots=True)
class DynamoUsers:
    """Implements the port `Users`."""

    table: Table

    def named(self, username: str) -> User:
        """Return the user with this Cognito username."""
        for item in self.table.query("users_username_index", Key("username").eq(username)):
            try:
                return UserRow.model_validate(item).entity()
            except ValidationError:
                log.warning("user.malformed", user_id=item.get("user_id"))
        raise NotFound("There is no such user.")

    def mask_legacy_key(self, user: User, hint: str) -> None:
        """Put the hint where the marketplace's profile page looks for the key."""
        unchanged: ConditionBase = Attr("user_id").exists()
        if user.legacy_api_key is not None:
            unchanged &= Attr("api_key").eq(user.legacy_api_key)
        try:
            self.table.update({"user_id": user.user_id}, put={"api_key": hint}, when=unchanged)
        except ConditionFailed:
            log.warning("user.key_changed_meanwhile", user_id=user.user_id)
