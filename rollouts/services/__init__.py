"""What changes rollouts. Each service is one mutation (or one tick), shared by pages, API, tasks and command."""
