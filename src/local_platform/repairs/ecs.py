"""ECS services that CloudFormation makes: moto forgets their balancer, and leaves them behind."""

from typing import Any

from moto.ecs.models import Service, ecs_backends


def keep_load_balancers() -> None:
    """Give a service the load balancers of its template, by which the agent finds where to listen."""
    create = Service.create_from_cloudformation_json.__func__

    def create_from_cloudformation_json(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        service = create(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs)
        service.load_balancers = [
            {
                "targetGroupArn": balancer["TargetGroupArn"],
                "containerName": balancer["ContainerName"],
                "containerPort": int(balancer["ContainerPort"]),
            }
            for balancer in cloudformation_json["Properties"].get("LoadBalancers", [])
        ]
        return service

    Service.create_from_cloudformation_json = classmethod(create_from_cloudformation_json)


def leave_with_stack() -> None:
    """Delete a service when its stack is deleted; moto leaves it active, and its node would run on."""

    def delete(self: Any, account_id: str, region_name: str) -> None:
        ecs_backends[account_id][region_name].delete_service(self.cluster_name, self.name, force=True)

    Service.delete = delete
