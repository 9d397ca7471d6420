"""Traffic by the Gateway API of Kubernetes: an HTTPRoute an endpoint, and what its conditions say."""
