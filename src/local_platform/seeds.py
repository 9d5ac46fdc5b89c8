"""What a new platform contains: a user pool, two users, a dataset and a model.

Attributes are those that the marketplace and artificienlib write. The dataset describes the diabetes study of
Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (2004): ten measurements of 442 patients,
and the progression of their disease a year later. The ranges are the study's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_platform.clients import LocalAws

DATASET_ID = "Diabetes progression"
"""With a capital letter and a space, because app developers choose any name."""
MODEL_NAME = "first-look"
VERSION = "1.0"
AUTH_FLOWS = ["ALLOW_USER_SRP_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
"""SRP for artificienlib and the marketplace; passwords for `artificien local token`."""


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute of the dataset, with the range that the marketplace shows."""

    name: str
    kind: str
    minimum: str
    maximum: str
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
class User:
    """A user of the marketplace."""

    username: str
    password: str
    role: str

    @property
    def email(self) -> str:
        """The user's e-mail address, which is also the key of the item in the user table."""
        return f"{self.username}@example.org"


@dataclass(frozen=True, slots=True)
class Pool:
    """A Cognito user pool and its app client."""

    pool_id: str
    client_id: str

    def key_set_path(self) -> str:
        """Return the path of the pool's public keys, relative to the URL of AWS."""
        return f"/{self.pool_id}/.well-known/jwks.json"


def create_pool(aws: "LocalAws", users: Iterable[User]) -> Pool:
    """Create a user pool with an app client and these users."""
    cognito = aws.client("cognito-idp")
    pool_id = cognito.create_user_pool(PoolName="artificien")["UserPool"]["Id"]
    client = cognito.create_user_pool_client(
        UserPoolId=pool_id, ClientName="artificienlib", ExplicitAuthFlows=AUTH_FLOWS
    )
    add_users(aws, pool_id, users)
    return Pool(pool_id, client["UserPoolClient"]["ClientId"])


def add_users(aws: "LocalAws", pool_id: str, users: Iterable[User]) -> None:
    """Add confirmed users, who can log in with their passwords at once."""
    cognito = aws.client("cognito-idp")
    for user in users:
        email = {"Name": "email", "Value": user.email}
        cognito.admin_create_user(UserPoolId=pool_id, Username=user.username, UserAttributes=[email])
        cognito.admin_set_user_password(
            UserPoolId=pool_id, Username=user.username, Password=user.password, Permanent=True
        )


def write_items(aws: "LocalAws", scientist: User, developer: User, legacy_key: str) -> None:
    """Write the items of both users, the dataset and the model.

    `legacy_key` is the API key in plain text that the developer got on signing up.
    """
    tables = aws.resource("dynamodb")
    users = tables.Table("user_table")
    users.put_item(Item=user_item(scientist, purchased=[DATASET_ID]))
    users.put_item(Item=user_item(developer, purchased=[]) | {"api_key": legacy_key})
    tables.Table("dataset_table").put_item(Item=dataset_item(developer))
    tables.Table("model_table").put_item(Item=model_item(scientist.username))


def user_item(user: User, purchased: list[str]) -> dict[str, Any]:
    """Return an item of the user table, as the marketplace leaves it after a sign-up and purchases."""
    return {
        "user_id": user.email,
        "username": user.username,
        "user_account_email": user.email,
        "role": user.role,
        "has_onboarded": True,
        "datasets_purchased": purchased,
    }


def dataset_item(developer: User) -> dict[str, Any]:
    """Return the item of the dataset: purchased once, no device has called yet, no node."""
    return {
        "dataset_id": DATASET_ID,
        "owner_username": developer.username,
        "app": "Glucose Diary",
        "appURL": "https://example.org/glucose-diary",
        "category": "Health",
        "logo_image_url": "https://example.org/glucose-diary.png",
        "attributes": [column.name for column in COLUMNS],
        "attributeTypes": [column.kind for column in COLUMNS],
        "attributeRangeMins": [Decimal(column.minimum) for column in COLUMNS],
        "attributeRangeMaxes": [Decimal(column.maximum) for column in COLUMNS],
        "attributeDescriptions": [column.description for column in COLUMNS],
        "predictable_attributes": list(LABELS),
        "num_devices": 442,
        "numPurchases": 1,
        "placeholder": "placeholder",  # the catalogue queries all datasets by it
        "properlySetUp": False,
        "hasNode": False,
        "nodeURL": "",
    }


def model_item(username: str, name: str = MODEL_NAME) -> dict[str, Any]:
    """Return the item that artificienlib writes before its first `/create`."""
    return {
        "model_id": model_id(username, name),
        "active_status": 1,
        "version": VERSION,
        "dataset": DATASET_ID,
        "date_submitted": date.today().isoformat(),  # noqa: DTZ011 - as artificienlib does
        "owner_name": username,
        "percent_complete": 0,
        "devices_trained_this_cycle": 0,
        "loss_this_cycle": -1,
        "acc_this_cycle": -1,
    }


def model_id(username: str, name: str = MODEL_NAME) -> str:
    """Return the id that artificienlib gives a model."""
    return f"{name}-{VERSION}-{username}"
