"""What moto 5.2.5 lacks to stand in for AWS here: one file a repair, each with its reason and a test."""

from local_platform.repairs import cluster_types, cognito_srp, load_balancers
from local_platform.repairs import dynamodb_numbers as numbers
from local_platform.repairs import ecs as ecs_services


def apply() -> None:
    """Repair moto in this process. Call it once, before the first request."""
    cluster_types.add_cluster_types()
    load_balancers.give_own_addresses()
    ecs_services.keep_load_balancers()
    ecs_services.leave_with_stack()
    cognito_srp.check_passwords()
    numbers.add_any_numbers()
