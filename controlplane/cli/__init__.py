"""`headgate`, the command for pipelines: a client of the REST API and nothing else."""
