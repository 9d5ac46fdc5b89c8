"""The composition root: builds and connects all parts of both processes."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from flask import Flask
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from orchestration import api, aws
from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.dynamo import (
    DynamoApiKeys,
    DynamoAuditLog,
    DynamoDatasets,
    DynamoModels,
    DynamoNodes,
    DynamoUsers,
    Migration,
    ModelItems,
    Table,
)
from orchestration.adapters.jws import PUBLISHED_KEYS, KeySet, fetcher
from orchestration.adapters.model_bucket import DownloadLinks, S3ModelBucket
from orchestration.adapters.node_databases import DataApi, OneDirectory, SharedCluster
from orchestration.adapters.node_secrets import SecretsManagerNodeSecrets
from orchestration.adapters.pygrid import PygridServer
from orchestration.adapters.upload_tokens import SignedUploadTokens
from orchestration.api.limits import RateLimits
from orchestration.control.collect import Resync, Retrieval
from orchestration.control.launch import Launcher
from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import Inspection, SupersededStacks
from orchestration.control.reconciler import Intervals, Reconciler
from orchestration.control.records import Records
from orchestration.domain.decision import Budget, Rules
from orchestration.domain.demand import IdleTimeout, Waker
from orchestration.domain.node import Quota
from orchestration.domain.ports import NodeDatabases
from orchestration.domain.progress import ProgressService
from orchestration.domain.publication import Publication
from orchestration.logs import configure_logs
from orchestration.provisioning.ecs_tasks import EcsTasks
from orchestration.provisioning.names import DATABASE_PORT
from orchestration.provisioning.node_resources import AwsNodeResources
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.orchestration_helper import CloudFormationNodeStacks
from orchestration.requests.accounts import AccountService
from orchestration.requests.devices import DeviceService, ReportRules
from orchestration.requests.models import ModelService
from orchestration.requests.nodes import NodeService
from orchestration.requests.uploads import UploadService
from orchestration.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBServiceResource

DAY = 86_400


def create_app(settings: Settings | None = None) -> Flask:
    """Return the Flask app of the service. By default, the settings are read from the environment."""
    settings = settings or Settings.from_environment()
    configure_logs(settings.log_level)
    app = Flask("orchestration", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies)  # type: ignore[method-assign]
    CORS(app)
    api.register(app, Parts(settings).services)
    return app


def create_reconciler(settings: Settings) -> Reconciler:
    """Return the reconciler."""
    configure_logs(settings.log_level)
    return Parts(settings).reconciler


@dataclass(frozen=True)
class Parts:
    """Each part of a process, created when it is first needed."""

    settings: Settings

    # The web process

    @cached_property
    def services(self) -> api.Services:
        settings = self.settings
        return api.Services(
            tokens=self.tokens,
            nodes=NodeService(
                models=self.models,
                datasets=self.datasets,
                users=self.users,
                nodes=self.nodes,
                publication=self.publication,
                upload_tokens=self.upload_tokens,
                budget=self.budget,
                quota=self.quota,
                clock=time.time,
            ),
            devices=DeviceService(
                datasets=self.datasets,
                models=self.models,
                nodes=self.nodes,
                accounts=self.accounts,
                waker=self.waker,
                rules=ReportRules(
                    bound=settings.loss_bound,
                    late=settings.loss_late,
                    device_seen_within=settings.device_seen_within,
                    key_required=settings.loss_needs_key,
                ),
                clock=time.time,
            ),
            models=ModelService(
                models=self.models, links=self.links, presign=self.bucket.fresh_url, clock=time.time
            ),
            accounts=self.accounts,
            progress=self.progress,
            uploads=UploadService(
                progress=self.progress,
                models=self.models,
                tokens=self.upload_tokens,
                audit=self.audit,
                binding=settings.upload_binding,
                clock=time.time,
            ),
            limits=RateLimits(
                per_address=settings.rate_per_address,
                per_caller=settings.rate_per_caller,
                per_node=settings.rate_per_node,
                losses_per_model=settings.rate_losses_per_model,
                storage=settings.rate_storage,
            ),
            audit=self.audit,
        )

    @cached_property
    def tokens(self) -> CognitoTokens:
        settings = self.settings
        url = settings.jwks_url or f"{settings.issuer}/.well-known/jwks.json"
        keys = KeySet(fetcher(url), untrusted=() if settings.local_mode else PUBLISHED_KEYS)
        return CognitoTokens(keys, settings.issuer, settings.app_client_ids, time.time)

    @cached_property
    def upload_tokens(self) -> SignedUploadTokens:
        return SignedUploadTokens(self.settings.download_secret.get_secret_value())

    # The reconciler

    @cached_property
    def reconciler(self) -> Reconciler:
        settings = self.settings
        return Reconciler(
            nodes=self.nodes,
            models=self.models,
            stacks=self.stacks,
            lifecycle=self.lifecycle,
            resync=Resync(
                models=self.models,
                server=self.server,
                secrets=self.secrets,
                progress=self.progress,
                audit=self.audit,
                clock=time.time,
                silent_after=settings.model_silent_after,
            ),
            retrieval=Retrieval(
                models=self.models,
                server=self.server,
                secrets=self.secrets,
                bucket=self.bucket,
                link_of=self.links.link,
                audit=self.audit,
                clock=time.time,
            ),
            idle_timeout=IdleTimeout(
                nodes=self.nodes,
                models=self.models,
                clock=time.time,
                timeout=settings.node_grace,
                stale_after=settings.model_stale_days * DAY,
            ),
            superseded=self.superseded,
            waker=self.waker,
            clock=time.time,
            intervals=Intervals(
                passes=settings.reconcile_interval,
                steady=settings.ready_interval,
                attention=settings.attention_interval,
            ),
        )

    @cached_property
    def inspection(self) -> Inspection:
        return Inspection(
            nodes=self.nodes,
            datasets=self.datasets,
            stacks=self.stacks,
            resources=AwsNodeResources(
                self._session.client("ecs", config=aws.CONFIG),
                self._session.client("elbv2", config=aws.CONFIG),
                self.settings.node_stack_prefix,
            ),
            node_databases=self.node_databases,
            lifecycle=self.lifecycle,
            superseded=self.superseded,
            clock=time.time,
        )

    @cached_property
    def migration(self) -> Migration:
        items, records = (self._table(self.settings.model_table), self._table(self.settings.training_table))
        return Migration(items, records, self.users, time.time)

    @cached_property
    def superseded(self) -> SupersededStacks:
        return SupersededStacks(
            records=self.records, stacks=self.stacks, secrets=self.secrets, clock=time.time
        )

    @cached_property
    def lifecycle(self) -> Lifecycle:
        return Lifecycle(
            records=self.records,
            stacks=self.stacks,
            secrets=self.secrets,
            server=self.server,
            models=self.models,
            launcher=Launcher(
                records=self.records,
                stacks=self.stacks,
                secrets=self.secrets,
                node_databases=self.node_databases,
                clock=time.time,
                quota=self.quota,
            ),
            publication=self.publication,
            clock=time.time,
            rules=Rules(deadline=self.settings.node_deadline, budget=self.budget),
        )

    @cached_property
    def records(self) -> Records:
        return Records(self.nodes, self.audit)

    # Both processes

    @cached_property
    def budget(self) -> Budget:
        return Budget(attempts=self.settings.node_attempts, cool_down=self.settings.node_cool_down)

    @cached_property
    def quota(self) -> Quota:
        return Quota(per_buyer=self.settings.nodes_per_buyer, in_all=self.settings.nodes_in_all)

    @cached_property
    def progress(self) -> ProgressService:
        return ProgressService(models=self.models, nodes=self.nodes, clock=time.time)

    @cached_property
    def publication(self) -> Publication:
        return Publication(self.nodes, self.datasets, self.models)

    @cached_property
    def waker(self) -> Waker:
        return Waker(self.nodes, self.models, time.time)

    @cached_property
    def server(self) -> PygridServer:
        return PygridServer(local_mode=self.settings.local_mode)

    @cached_property
    def accounts(self) -> AccountService:
        keys = DynamoApiKeys(self._table(self.settings.key_table))
        return AccountService(self.users, keys, time.time, overlap=self.settings.legacy_key_days * DAY)

    @cached_property
    def audit(self) -> DynamoAuditLog:
        return DynamoAuditLog(self._table(self.settings.audit_table), time.time, self.settings.audit_days)

    @cached_property
    def links(self) -> DownloadLinks:
        return DownloadLinks(self.settings.public_url, self.settings.download_secret.get_secret_value())

    @cached_property
    def models(self) -> DynamoModels:
        items = ModelItems(self._table(self.settings.model_table))
        return DynamoModels(self._table(self.settings.training_table), items)

    @cached_property
    def datasets(self) -> DynamoDatasets:
        return DynamoDatasets(self._table(self.settings.dataset_table))

    @cached_property
    def users(self) -> DynamoUsers:
        return DynamoUsers(self._table(self.settings.user_table))

    @cached_property
    def nodes(self) -> DynamoNodes:
        return DynamoNodes(self._table(self.settings.node_table))

    @cached_property
    def bucket(self) -> S3ModelBucket:
        client = self._session.client("s3", config=aws.CONFIG_PRESIGNING)
        return S3ModelBucket(client, self.settings.model_bucket)

    @cached_property
    def secrets(self) -> SecretsManagerNodeSecrets:
        return SecretsManagerNodeSecrets(
            self._session.client("secretsmanager", config=aws.CONFIG),
            self.settings.callback_address,
            self.node_databases.new_url,
        )

    @cached_property
    def node_databases(self) -> NodeDatabases:
        settings = self.settings
        if settings.node_database_url is not None:
            return OneDirectory(settings.node_database_url.get_secret_value())
        client = self._session.client("rds-data", config=aws.CONFIG_ONE_ATTEMPT)
        api = DataApi(client, settings.database_cluster_arn, settings.database_secret_arn)
        return SharedCluster(api, f"{settings.database_endpoint}:{DATABASE_PORT}")

    @cached_property
    def stacks(self) -> CloudFormationNodeStacks:
        return CloudFormationNodeStacks(
            self._session.client("cloudformation", config=aws.CONFIG),
            EcsTasks(self._session.client("ecs", config=aws.CONFIG)),
            prefix=self.settings.node_stack_prefix,
            cluster_stack=self.settings.cluster_stack,
            shape=self.shape,
            role_arn=self.settings.node_stack_role_arn,
        )

    @cached_property
    def shape(self) -> NodeShape:
        settings = self.settings
        return NodeShape(
            image=settings.node_image,
            cpu=settings.node_cpu,
            memory=settings.node_memory,
            spot=settings.node_spot,
            read_only=settings.node_read_only,
            min_reports=settings.node_min_reports,
        )

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(region_name=self.settings.aws_default_region)

    @cached_property
    def _dynamo(self) -> "DynamoDBServiceResource":
        return self._session.resource("dynamodb", config=aws.CONFIG)

    def _table(self, name: str) -> Table:
        # The resource's client, unlike the resource itself, may be used by many threads.
        return Table(self._dynamo.meta.client, name)
