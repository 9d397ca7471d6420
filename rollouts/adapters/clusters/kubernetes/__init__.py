"""Variants as workloads of a Kubernetes cluster.

`profile` is how this cluster is used, as the operator wrote it down; `names` and `objects` make a variant's objects
from it; `client` and `errors` speak to the API server; `diagnosis` says what a workload's status, events and log mean.
"""
