"""Asks an engine for one short completion, inside of its container: the startup probe.

A script with two words, the port and the variant, from nothing but Python's standard library. Exit status 0: the
variant itself answered.
"""

from __future__ import annotations

import http.client
import json
import sys

SECONDS = 25


def main(port: int, variant: str) -> int | str:
    """0, or in words what came instead of an answer of the variant."""
    question = {
        "model": variant,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 2,
        "temperature": 0,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(question).encode(), headers)
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        return f"HTTP {answer.status}"
    body = json.load(answer)
    if not body.get("choices"):
        return "a completion without choices came back"
    if variant not in (body.get("system_fingerprint"), body.get("model")):
        return "another variant answered"
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
