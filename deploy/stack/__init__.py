"""The whole product on one machine, under one process manager: `python -m deploy.stack up|down|status`."""
