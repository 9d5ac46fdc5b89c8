"""Repairs of moto 5.2.5, where it differs from AWS in what the platform needs. One file for each topic."""


def apply() -> None:
    """Repair moto in this process. Call it once, before the first request."""
    # Imported here, because moto takes a second to import and most tests need one repair only.
    from local_platform.repairs import cluster_types, cognito_srp, dynamodb_numbers, ecs

    cluster_types.add_cluster_types()
    cognito_srp.check_passwords()
    dynamodb_numbers.add_any_numbers()
    ecs.give_load_balancers_addresses()
    ecs.keep_load_balancers_of_services()
    ecs.delete_services_with_their_stack()
