"""What leaves this process over HTTP: the one place that makes HTTP clients."""
