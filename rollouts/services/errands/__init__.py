"""What may take long or hang, in workers of its own: files, probes, MLflow, housekeeping."""
