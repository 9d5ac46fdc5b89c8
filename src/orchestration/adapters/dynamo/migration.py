"""Creates the records of models that an earlier version of the service has accepted in the model table."""

from collections.abc import Iterator
from dataclasses import dataclass

from boto3.dynamodb.conditions import Attr
from pydantic import ValidationError

from orchestration.adapters.dynamo.models import FIRST_CYCLE
from orchestration.adapters.dynamo.rows import Finite, ModelRow, faults_of
from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table
from orchestration.domain.cycle import UNMEASURED
from orchestration.domain.ports import Clock, Users

LATER = {"cycles", "hosted_at", "networks", "released_at", "retrieval_failures", "revision", "upload_failure"}
"""Attributes of a record that no earlier version has written."""

MEANS = {"loss_this_cycle", "acc_this_cycle"}


class FormerRow(ModelRow):
    """An item of the model table as an earlier version has left it."""

    loss_this_cycle: Finite = UNMEASURED
    acc_this_cycle: Finite = UNMEASURED

    def sums(self) -> Item:
        """Return the sums of a running cycle of which the first version has kept the means only."""
        devices = self.devices_trained_this_cycle
        if "loss_sum" in self.model_fields_set or not devices:
            return {}
        sums: Item = {"loss_sum": self.loss_this_cycle * devices}
        if self.acc_this_cycle != UNMEASURED:
            sums |= {"acc_sum": self.acc_this_cycle * devices, "acc_devices": devices}
        return sums


@dataclass(frozen=True, slots=True)
class Migration:
    """Reads the model table `items`, and writes the training table `records`."""

    items: Table
    records: Table
    users: Users
    clock: Clock

    def run(self) -> Iterator[tuple[str, str]]:
        """Yield the id of each accepted model, and why it is not migrated, or "" if it has a record.

        Anybody with the library's rights may have written the attributes. So a model is migrated only if its
        owner has bought its dataset, and of several spellings of a name, the one that ends in its owner's
        username. May be repeated.
        """
        for is_own_name in (True, False):
            for item in self.items.scan():
                if item.get("features") and item.get("labels") and _ends_in_owner(item) is is_own_name:
                    yield item["model_id"], self._migrated(item)

    def _migrated(self, item: Item) -> str:
        try:
            row = FormerRow.model_validate({name: item[name] for name in item.keys() - LATER})
        except ValidationError as error:
            return f"malformed: {faults_of(error)}"
        name = row.model_id.lower()
        if row.hosted_as is not None and row.hosted_as.lower() != name:
            return f"hosted under the name of another model, {row.hosted_as!r}"
        if not self._is_bought(row):
            return f"{row.owner_name!r} has not bought dataset {row.dataset!r}"
        try:
            self.records.update({"name": name}, put=self._record(row), when=Attr("name").not_exists())
        except ConditionFailed:
            record = self.records.get(name=name) or {}
            return "" if record.get("model_id") == row.model_id else "another model has the name"
        return ""

    def _is_bought(self, row: FormerRow) -> bool:
        return any(row.dataset in user.purchased for user in self.users.named(row.owner_name))

    def _record(self, row: FormerRow) -> Item:
        """Return the record. A model that has trained is hosted; others are looked for on their nodes."""
        has_trained = row.percent_complete > 0 or row.closed_cycles > 0 or row.devices_trained_this_cycle > 0
        written = row.model_dump(exclude=LATER | MEANS, exclude_unset=True)
        return FIRST_CYCLE | written | row.sums() | {
            "trains_on": row.dataset if row.active_status == 1 else None,
            "retrieval_due": row.dataset if row.retrieval_due else None,
            "shown_on": row.dataset if row.node_URL else None,
            "hosted_at": self.clock() if has_trained else None,
            "networks": {},
            "revision": 0,
        }  # fmt: skip


def _ends_in_owner(item: Item) -> bool:
    """Return whether artificienlib makes such an id: `<name>-<version>-<username>`."""
    return str(item["model_id"]).endswith(f"-{item.get('owner_name')}")
