"""Responses of the fake CloudFormation about events, resources and stacks, in boto3's shapes."""

from typing import Any

from tests.fakes.cfn_stack import Event, Resource, Snapshot, Stack, timestamp


def described_event(stack: Stack, event: Event) -> dict[str, Any]:
    """Return an event like DescribeStackEvents."""
    step = event.step
    described = {
        "StackId": stack.stack_id,
        "EventId": f"{step.resource or stack.name}-{step.status}-{event.number}",
        "StackName": stack.name,
        "LogicalResourceId": step.resource or stack.name,
        "PhysicalResourceId": event.physical_id,
        "ResourceType": event.kind,
        "Timestamp": timestamp(step.at),
        "ResourceStatus": step.status,
    }
    if step.reason:
        described["ResourceStatusReason"] = step.reason
    if event.token:
        described["ClientRequestToken"] = event.token
    return described


def described_resource(resource: Resource, time: str) -> dict[str, Any]:
    """Return a resource like DescribeStackResources or ListStackResources; `time` is the key of its time."""
    described = {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id,
        "ResourceType": resource.kind,
        time: timestamp(max(resource.times.values())),
        "ResourceStatus": resource.status,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }
    if resource.reason:
        described["ResourceStatusReason"] = resource.reason
    return described


def stack_summary(stack: Stack, snapshot: Snapshot) -> dict[str, Any]:
    """Return a stack like ListStacks: without its parameters, tags and outputs."""
    described = stack.described(snapshot)
    kept = ("StackId", "StackName", "CreationTime", "LastUpdatedTime", "DeletionTime", "StackStatus")
    return {
        key: described[key] for key in (*kept, "StackStatusReason", "DriftInformation") if key in described
    }
