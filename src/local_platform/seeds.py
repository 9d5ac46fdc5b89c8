"""What stands in the tables when the platform is up: two people, a dataset, a first model.

Attributes are those that the marketplace and artificienlib write. The dataset describes the diabetes study
of Efron, Hastie, Johnstone and Tibshirani (2004), "Least Angle Regression": 442 patients, ten measurements,
and the progression of the disease a year later. Ranges are the study's own.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from local_platform.clients import LocalAws

DATASET_ID = "Diabetes progression"
"""With a capital and a space, since app developers type what they like."""
MODEL_NAME = "first-look"
VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Column:
    """One attribute of the dataset, with the range that the marketplace shows."""

    name: str
    kind: str
    least: str
    most: str
    description: str


COLUMNS = (
    Column("age", "number", "19", "79", "Age in years"),
    Column("sex", "number", "1", "2", "Sex, coded 1 and 2"),
    Column("bmi", "number", "18", "42.2", "Body mass index in kg/m2"),
    Column("bp", "number", "62", "133", "Average blood pressure in mmHg"),
    Column("s1", "number", "97", "301", "Total serum cholesterol in mg/dl"),
    Column("s2", "number", "41.6", "242.4", "Low-density lipoproteins in mg/dl"),
    Column("s3", "number", "22", "99", "High-density lipoproteins in mg/dl"),
    Column("s4", "number", "2", "9.09", "Total cholesterol over HDL"),
    Column("s5", "number", "3.2581", "6.107", "Logarithm of serum triglycerides"),
    Column("s6", "number", "58", "124", "Blood sugar in mg/dl"),
    Column("progression", "number", "25", "346", "Disease progression after one year"),
)
FEATURES = tuple(column.name for column in COLUMNS[:-1])
LABELS = (COLUMNS[-1].name,)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a login."""

    username: str
    password: str
    role: str

    @property
    def email(self) -> str:
        """Their address, which is the key of their row."""
        return f"{self.username}@example.org"


def plant(aws: LocalAws, scientist: Person, developer: Person, legacy_key: str) -> None:
    """Write all rows; `legacy_key` is the plaintext key of the developer's sign-up."""
    tables = aws.resource("dynamodb")
    users = tables.Table("user_table")
    users.put_item(Item=user(scientist, purchased=[DATASET_ID]))
    users.put_item(Item=user(developer, purchased=[]) | {"api_key": legacy_key})
    tables.Table("dataset_table").put_item(Item=dataset(developer))
    tables.Table("model_table").put_item(Item=model(scientist))


def user(person: Person, purchased: list[str]) -> dict[str, Any]:
    """Return a row of the user table, as a sign-up and a purchase leave it."""
    return {
        "user_id": person.email,
        "username": person.username,
        "user_account_email": person.email,
        "role": person.role,
        "has_onboarded": True,
        "datasets_purchased": purchased,
    }


def dataset(developer: Person) -> dict[str, Any]:
    """Return the row of the dataset, bought once, before the first phone and the first node."""
    return {
        "dataset_id": DATASET_ID,
        "owner_username": developer.username,
        "app": "Glucose Diary",
        "appURL": "https://example.org/glucose-diary",
        "category": "Health",
        "logo_image_url": "https://example.org/glucose-diary.png",
        "attributes": [column.name for column in COLUMNS],
        "attributeTypes": [column.kind for column in COLUMNS],
        "attributeRangeMins": [Decimal(column.least) for column in COLUMNS],
        "attributeRangeMaxes": [Decimal(column.most) for column in COLUMNS],
        "attributeDescriptions": [column.description for column in COLUMNS],
        "predictable_attributes": list(LABELS),
        "num_devices": 442,
        "numPurchases": 1,
        "placeholder": False,
        "properlySetUp": False,
        "hasNode": False,
        "nodeURL": "",
    }


def model(scientist: Person) -> dict[str, Any]:
    """Return the row that artificienlib writes before its first `/create`."""
    return {
        "model_id": model_id(scientist.username),
        "active_status": 1,
        "version": VERSION,
        "dataset": DATASET_ID,
        "date_submitted": date.today().isoformat(),  # noqa: DTZ011 - as artificienlib does
        "owner_name": scientist.username,
        "percent_complete": 0,
        "devices_trained_this_cycle": 0,
        "loss_this_cycle": -1,
        "acc_this_cycle": -1,
    }


def model_id(username: str) -> str:
    """Name the first model as artificienlib would."""
    return f"{MODEL_NAME}-{VERSION}-{username}"
