"""Names and ports that the stacks' templates and the running service share."""

CLUSTER_STACK = "artificien-cluster"
DATA_STACK = "artificien-data"
ORCHESTRATION_STACK = "artificien-orchestration"
NODE_STACK = "artificien-node"
"""Also the prefix of the names of a node's stack, load balancer, target group, service, task definition."""

CLUSTER_NAME_OUTPUT = "ClusterName"
NODE_ADDRESS_OUTPUT = "PyGridNodeLoadBalancerDNS"

SERVICE_PORT = 5001
DATABASE_PORT = 5432
