"""Resource types of the cluster stack that moto's CloudFormation skips: without them its outputs fail."""

import json
import secrets
import string
from typing import Any, Self

from moto.secretsmanager.models import secretsmanager_backends


class _Resource:
    """The methods that moto calls on every resource."""

    def __init__(self, physical_id: str, attributes: dict[str, Any] | None = None) -> None:
        self.physical_resource_id = physical_id
        self._attributes = attributes or {}

    @classmethod
    def has_cfn_attr(cls, _attribute: str) -> bool:
        """Accept every attribute here; a wrong one fails when it is read."""
        return True

    def get_cfn_attribute(self, attribute: str) -> Any:
        return self._attributes[attribute]

    def is_created(self) -> bool:
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        """Do nothing: the resource exists in the stack only."""


class Secret(_Resource):
    """A secret, with a generated password if the template requests one."""

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Self:
        properties = cloudformation_json["Properties"]
        created: str = secretsmanager_backends[account_id][region_name].create_secret(
            name=properties.get("Name", resource_name),
            secret_string=secret_string(properties),
            secret_binary=None,
            description=properties.get("Description"),
            tags=properties.get("Tags"),
            kms_key_id=properties.get("KmsKeyId"),
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(created)["ARN"])

    def delete(self, account_id: str, region_name: str) -> None:
        backend = secretsmanager_backends[account_id][region_name]
        backend.delete_secret(
            self.physical_resource_id, recovery_window_in_days=None, force_delete_without_recovery=True
        )


class SecretAttachment(_Resource):
    """Returns the secret unchanged: there is no database whose address could be added to it."""

    @classmethod
    def create_from_cloudformation_json(
        cls, _resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
    ) -> Self:
        return cls(cloudformation_json["Properties"]["SecretId"])


class DatabaseCluster(_Resource):
    """A name without a database, because local nodes use SQLite."""

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Self:
        name = resource_name.lower()
        port = cloudformation_json["Properties"].get("Port", 5432)
        return cls(
            name,
            {
                "DBClusterArn": f"arn:aws:rds:{region_name}:{account_id}:cluster:{name}",
                "Endpoint.Address": f"{name}.cluster-local.{region_name}.rds.amazonaws.com",
                "Endpoint.Port": str(port),
            },
        )


class DatabaseInstance(_Resource):
    """An instance of the cluster; moto's own type requires a storage size, which Aurora doesn't have."""

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> Self:
        return cls(resource_name.lower())


RESOURCE_TYPES = {
    "AWS::SecretsManager::Secret": Secret,
    "AWS::SecretsManager::SecretTargetAttachment": SecretAttachment,
    "AWS::RDS::DBCluster": DatabaseCluster,
    "AWS::RDS::DBInstance": DatabaseInstance,
}


def add_cluster_types() -> None:
    """Add the types of the database and its secret to moto's CloudFormation."""
    from moto.cloudformation.parsing import get_model_map  # it imports the models of all services

    get_model_map().update(RESOURCE_TYPES)


def secret_string(properties: dict[str, Any]) -> str:
    """Return the value of a secret: the given one, or a generated password in the given JSON template."""
    rules = properties.get("GenerateSecretString")
    if rules is None:
        return str(properties.get("SecretString", ""))
    excluded = set(rules.get("ExcludeCharacters", ""))
    letters = [letter for letter in string.ascii_letters + string.digits if letter not in excluded]
    password = "".join(secrets.choice(letters) for _ in range(rules.get("PasswordLength", 32)))
    if "GenerateStringKey" not in rules:
        return password
    return json.dumps(json.loads(rules["SecretStringTemplate"]) | {rules["GenerateStringKey"]: password})
