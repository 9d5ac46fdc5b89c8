"""ECS services and load balancers that CloudFormation creates, for the ECS agent to run and delete."""

from typing import Any

from moto.ecs.models import Service, ecs_backends
from moto.elbv2.models import ELBv2Backend

from local_platform.network import free_address


def give_load_balancers_addresses() -> None:
    """Make each load balancer's DNS name a loopback address of its own; moto's names don't resolve.

    The ECS agent runs the balancer's target on that address, so that clients reach the node there.
    """
    create = ELBv2Backend.create_load_balancer
    used: set[str] = set()

    def create_load_balancer(self: Any, *args: Any, **kwargs: Any) -> Any:
        balancer = create(self, *args, **kwargs)
        balancer.dns_name = free_address(used)
        used.add(balancer.dns_name)
        return balancer

    ELBv2Backend.create_load_balancer = create_load_balancer


def keep_load_balancers_of_services() -> None:
    """Keep the load balancers of a service's template, where the agent finds the address; moto drops them."""
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


def delete_services_with_their_stack() -> None:
    """Delete a service when its stack is deleted; moto leaves it active, so its node would keep running."""

    def delete(self: Any, account_id: str, region_name: str) -> None:
        ecs_backends[account_id][region_name].delete_service(self.cluster_name, self.name, force=True)

    Service.delete = delete
