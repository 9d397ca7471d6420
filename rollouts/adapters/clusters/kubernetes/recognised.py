"""Which Deployments run a server of models, and what its arguments say. A server is taken for one only by what names
one: the image of an engine that answers as OpenAI does, or the command that starts one. Anything else may be anything.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise, takewhile
from typing import Any

from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, text
from rollouts.domain.images import Image

# Repositories of images of engines with an OpenAI API, whatever registry they are copied to: their last words.
IMAGES = (
    "vllm/vllm-openai",
    "vllm/vllm-openai-cpu",
    "lmsysorg/sglang",
    "huggingface/text-generation-inference",
    "ggml-org/llama.cpp",
)
COMMANDS = (
    ("vllm", "serve"),
    ("vllm.entrypoints.openai.api_server",),
    ("sglang.launch_server",),
    ("llama-server",),
    ("text-generation-launcher",),
)
SERVED_NAME = "--served-model-name"
NAMES_MODEL = ("--model", "--model-path", "--model-id")


def engine_container(raw: Mapping[str, Any], repositories: Collection[str]) -> Mapping[str, Any] | None:
    """The container of a Deployment's pods in which an engine is started; None: none is recognised.

    repositories   of images that the cluster starts engines from, beside those that are known
    """
    for container in parts(part(part(part(raw, "spec"), "template"), "spec"), "containers"):
        if _is_engine_image(text(container, "image"), repositories) or _starts_engine(words_in(container)):
            return container
    return None


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
    return "" if any(word == option or word.startswith(f"{option}=") for word in words) else None


def values_of(words: list[str], option: str) -> tuple[str, ...]:
    """All values of an option that takes several: the last one counts where it is set again."""
    found: tuple[str, ...] = ()
    for at, word in enumerate(words):
        if word.startswith(f"{option}="):
            found = (word.partition("=")[2],)
        elif word == option:
            found = tuple(takewhile(lambda one: not one.startswith("-"), words[at + 1 :]))
    return found


def _is_engine_image(image: str, repositories: Collection[str]) -> bool:
    repository = Image.stored(image).repository
    return repository in repositories or any(
        repository == known or repository.endswith(f"/{known}") for known in IMAGES
    )


def _starts_engine(words: list[str]) -> bool:
    """Whether the words of one of these commands stand there one after the other, the first with or without a path."""
    plain = [word.rsplit("/", 1)[-1] for word in words]
    return any(
        tuple(plain[at : at + len(command)]) == command
        for command in COMMANDS
        for at in range(len(plain) - len(command) + 1)
    )
