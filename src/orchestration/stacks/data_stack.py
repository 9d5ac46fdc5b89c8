"""The data stack: the tables, the bucket of trained models, the secret that signs download links."""

from collections.abc import Sequence

from aws_cdk import Aws, BootstraplessSynthesizer, CfnOutput, Duration, Fn, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from orchestration.stacks.policies import acknowledge

_TEXT = dynamodb.AttributeType.STRING
_NUMBER = dynamodb.AttributeType.NUMBER

_LISTED = (
    "model_id",
    "owner_name",
    "dataset",
    "version",
    "active_status",
    "percent_complete",
    "features",
    "labels",
    "hosted_as",
    "hosted_at",
    "released_at",
    "node_URL",
    "progress_at",
    "download_key",
    "retrieval_failures",
)
"""What lists of models are read with: no counter, so that a loss report writes to no index."""


class DataStack(Stack):
    """One per deployment. Deleting the stack retains tables and bucket, which a new stack can import.

    Names of tables, keys and indexes are fixed: the marketplace and artificienlib use them.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        """Declare the stack."""
        super().__init__(scope, construct_id, synthesizer=BootstraplessSynthesizer())
        self._model_table()
        self._training_table()
        self._dataset_table()
        users = self._table("UserTable", "user_table", key="user_id")
        _index(users, "users_username_index", "username")
        nodes = self._table("NodeTable", "node_table", key="node_id")
        # Sparse: only a node that a request has marked for the reconciler has this attribute.
        _index(nodes, "attention-index", "attention", "node_id", include=())
        keys = self._table("KeyTable", "key_table", key="key_hash", expiry="expires_at")
        _index(keys, "owner-index", "owner", "created_at", _NUMBER)
        self._table("AuditTable", "audit_table", key="subject", sort="at", expiry="expires_at")
        self._export("ModelBucketName", self._model_bucket().bucket_name)
        self._export("DownloadSecretArn", self._download_secret().secret_arn)

    def _export(self, name: str, value: str) -> None:
        CfnOutput(self, name, value=value, export_name=Fn.join("-", [Aws.STACK_NAME, name]))

    def _model_table(self) -> None:
        """Declare what artificienlib writes and the marketplace reads; anybody's library may write it."""
        models = self._table("ModelTable", "model_table", key="model_id")
        _index(models, "owner-active-index", "owner_name", "active_status", _NUMBER)

    def _training_table(self) -> None:
        """Declare the records of accepted models, which only this service may write."""
        records = self._table("TrainingTable", "training_table", key="name")
        # Sparse: the attribute is the dataset's id, while the model trains;
        _index(records, "trains-on-index", "trains_on", include=_LISTED)
        # while it is complete and its file isn't in the bucket yet;
        _index(records, "retrieval-due-index", "retrieval_due", include=_LISTED)
        # while the marketplace may show the address of its node.
        _index(records, "shown-on-index", "shown_on", include=("model_id",))

    def _dataset_table(self) -> None:
        # A Lambda function of the marketplace, which uploads sample data, reads the stream.
        stream = dynamodb.StreamViewType.NEW_IMAGE
        datasets = self._table("DatasetTable", "dataset_table", key="dataset_id", stream=stream)
        _index(datasets, "owner_username-index", "owner_username")
        _index(datasets, "category-num_devices-index", "category", "num_devices", _NUMBER)
        _index(datasets, "placeholder-app", "placeholder", "app")
        _index(datasets, "category-app-index", "category", "app")

    def _table(
        self,
        construct_id: str,
        name: str,
        *,
        key: str,
        sort: str | None = None,
        expiry: str | None = None,
        stream: dynamodb.StreamViewType | None = None,
    ) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            construct_id,
            table_name=name,
            partition_key=dynamodb.Attribute(name=key, type=_TEXT),
            sort_key=dynamodb.Attribute(name=sort, type=_TEXT) if sort else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute=expiry,
            stream=stream,
            removal_policy=RemovalPolicy.RETAIN,
        )

    def _model_bucket(self) -> s3.Bucket:
        """Private, TLS only, versioned: storing a model again keeps the former version."""
        bucket = s3.Bucket(
            self,
            "ModelBucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    noncurrent_version_expiration=Duration.days(90),
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,
        )
        acknowledge(
            bucket,
            {
                "S1": "It is private, and only the service's two roles reach it. An access log would keep "
                "presigned URLs, in one more bucket that outlives the stack."
            },
        )
        return bucket

    def _download_secret(self) -> secretsmanager.Secret:
        """Signs download links. It is kept with the tables, whose links are invalid without it."""
        secret = secretsmanager.Secret(
            self,
            "DownloadSecret",
            description="Signs the links to trained models",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=64, exclude_punctuation=True
            ),
            removal_policy=RemovalPolicy.RETAIN,
        )
        acknowledge(
            secret,
            {
                "SMG4": "A link works for as long as its model's item has it; a new key would void them all. "
                "Withdrawing a model voids its link alone."
            },
        )
        return secret


def _index(
    table: dynamodb.Table,
    name: str,
    key: str,
    sort: str | None = None,
    sort_type: dynamodb.AttributeType = _TEXT,
    *,
    include: Sequence[str] | None = None,
) -> None:
    """Add an index of whole items, or of these attributes and the keys; an empty list is the keys alone."""
    projection = dynamodb.ProjectionType.ALL
    if include is not None:
        projection = dynamodb.ProjectionType.INCLUDE if include else dynamodb.ProjectionType.KEYS_ONLY
    table.add_global_secondary_index(
        index_name=name,
        partition_key=dynamodb.Attribute(name=key, type=_TEXT),
        sort_key=dynamodb.Attribute(name=sort, type=sort_type) if sort else None,
        projection_type=projection,
        non_key_attributes=list(include) if include else None,
    )
