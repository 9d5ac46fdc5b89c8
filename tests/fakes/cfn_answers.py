"""What the fake CloudFormation says of events, resources and stacks, in boto3's shapes."""

from typing import Any

from tests.fakes.cfn_stack import Event, Resource, Snapshot, Stack, timestamp


def event_told(stack: Stack, event: Event) -> dict[str, Any]:
    """Write an event as DescribeStackEvents does."""
    step = event.step
    told = {
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
        told["ResourceStatusReason"] = step.reason
    if event.token:
        told["ClientRequestToken"] = event.token
    return told


def resource_told(resource: Resource, time: str) -> dict[str, Any]:
    """Write a resource as DescribeStackResources and ListStackResources do, each with its word for `time`."""
    told = {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id,
        "ResourceType": resource.kind,
        time: timestamp(max(resource.times.values())),
        "ResourceStatus": resource.status,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }
    if resource.reason:
        told["ResourceStatusReason"] = resource.reason
    return told


def summary_told(stack: Stack, snapshot: Snapshot) -> dict[str, Any]:
    """Write a stack as ListStacks does: without what it was made with."""
    told = stack.told(snapshot)
    kept = ("StackId", "StackName", "CreationTime", "LastUpdatedTime", "DeletionTime", "StackStatus")
    return {key: told[key] for key in (*kept, "StackStatusReason", "DriftInformation") if key in told}
