"""Beyond one GPU: how many are needed, and the service as a deployment of several replicas."""
