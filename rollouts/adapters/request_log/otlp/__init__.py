"""A request log of a gateway on a cluster: its access log comes over OTLP and is kept where all processes can read.

    gateway (Envoy) --gRPC--> receiver --> pending --> store <-- GatewayRequestLog

`receiver` takes what comes, `wire` and `records` read it, `pending` holds it until a store has it, `redis_store` and
`file_store` keep it for a quarter of an hour, `log` is the port. Which attributes a gateway has to send stands in
deploy/kubernetes/attribution.yaml; why it is done so in docs/adr/0006.
"""
