"""Model stores: MLflow over its REST API, and one in memory."""
