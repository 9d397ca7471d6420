"""A whole Kubernetes of real parts for tests, without containers' usual machinery: see lab.py."""
