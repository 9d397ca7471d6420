"""Which Deployments run a server of models, and what its arguments say. A server is taken for one only by what names
one: the image of an engine that answers as OpenAI does, or the command that starts one. Anything else may be anything.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from rollouts.adapters.clusters.kubernetes.container import PORT
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, text
from rollouts.domain.images import Image


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server of models with an OpenAI API, and how it is started.

    images        repositories of its images, whatever registry they are copied to: their last words
    commands      words that start it, one after the other
    port          where it answers unless it is told otherwise
    key_variable  of its environment, with which it asks for an API key; empty: there is none
    """

    images: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    port: int
    key_variable: str = ""


VLLM = KnownServer(
    ("vllm/vllm-openai", "vllm/vllm-openai-cpu"),
    (("vllm", "serve"), ("vllm.entrypoints.openai.api_server",)),
    PORT,
    "VLLM_API_KEY",
)
SERVERS = (
    VLLM,
    KnownServer(("lmsysorg/sglang",), (("sglang.launch_server",),), 30_000),
    KnownServer(("ggml-org/llama.cpp",), (("llama-server",),), 8_080, "LLAMA_API_KEY"),
    KnownServer(("huggingface/text-generation-inference",), (("text-generation-launcher",),), 80, "API_KEY"),
)
SERVED_NAME = "--served-model-name"
NAMES_MODEL = ("--model", "--model-path", "--model-id")


def engine_container(
    raw: Mapping[str, Any], repositories: Collection[str], model: str = ""
) -> Mapping[str, Any] | None:
    """The container of a Deployment's pods in which an engine is started; None: none is recognised. Of several, the
    first that answers to `model`, else the first.

    repositories   of images that the cluster starts engines from, beside those that are known
    """
    containers = parts(part(part(part(raw, "spec"), "template"), "spec"), "containers")
    found = [one for one in containers if known_server(one, repositories) is not None]
    return next((one for one in found if model in models_of(words_in(one))), found[0] if found else None)


def known_server(container: Mapping[str, Any], repositories: Collection[str]) -> KnownServer | None:
    """What is started in the container; None: it is not recognised. `repositories`: as above, of vLLM."""
    repository, words = Image.stored(text(container, "image")).repository, words_in(container)
    for server in SERVERS:
        if _starts(server, words) or any(
            repository == known or repository.endswith(f"/{known}") for known in server.images
        ):
            return server
    return VLLM if repository in repositories else None


def words_in(container: Mapping[str, Any]) -> list[str]:
    """The command of the container with its arguments, without what is no text."""
    found = [container.get(name) for name in ("command", "args")]
    return [one for words in found if isinstance(words, list) for one in words if isinstance(one, str)]


def models_of(words: list[str]) -> tuple[str, ...]:
    """The names to which the engine answers, as its arguments say; empty: they do not."""
    served = values_of(words, SERVED_NAME)
    if served:
        return served
    for option in NAMES_MODEL:
        found = value_of(words, option)
        if found:
            return (found,)
    after = dict(pairwise(words)).get("serve", "")
    return () if not after or after.startswith("-") else (after,)


def value_of(words: list[str], option: str) -> str | None:
    """The first value of an option, "" where none follows it; None: it is not set."""
    found = values_of(words, option)
    if found:
        return found[0]
    return "" if any(_option(word) == option for word in words) else None


def values_of(words: list[str], option: str) -> tuple[str, ...]:
    """All values of an option that takes several: the last one counts where it is set again."""
    found: tuple[str, ...] = ()
    for at, word in enumerate(words):
        if _option(word) != option:
            continue
        _, is_joined, value = word.partition("=")
        after = takewhile(lambda one: not one.startswith("-"), words[at + 1 :])
        found = (value,) if is_joined else tuple(after)
    return found


def _option(word: str) -> str:
    """The option that the word sets, as it is written in manuals: vLLM takes underscores for dashes."""
    return word.partition("=")[0].replace("_", "-") if word.startswith("--") else ""


def _starts(server: KnownServer, words: list[str]) -> bool:
    """Whether the words of one of its commands stand there one after the other, the first with or without a path."""
    plain = [word.rsplit("/", 1)[-1] for word in words]
    return any(
        tuple(plain[at : at + len(command)]) == command
        for command in server.commands
        for at in range(len(plain) - len(command) + 1)
    )
