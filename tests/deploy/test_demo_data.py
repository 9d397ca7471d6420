"""The demo's tickets: the same on every machine, nothing of the golden set learned from, versions that differ."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deploy.demo.models.tickets import (
    FAULTY_EXPORT,
    GOLDEN_SIZE,
    QUEUES,
    SYSTEM_PROMPT,
    TRAFFIC_SIZE,
    TRAIN_SIZE,
    Corpus,
    chat_row,
    datasets_of,
    digest_of,
    traffic_rows,
    words,
    write_corpus,
)
from deploy.demo.models.train import CHAT_TEMPLATE, RECIPES, STRICT_CHAT_TEMPLATE
from registry.domain.golden import parse_jsonl
from registry.domain.scoring import score
from rollouts.domain.gates.policy import GatePolicy, as_written

STORY = Path(__file__).resolve().parents[2] / "deploy" / "demo" / "story.json"
QUESTION = {"role": "user", "content": "where is my camera"}
INSTRUCTION = {"role": "system", "content": SYSTEM_PROMPT}


def rendered(template: str, *messages: dict[str, str]) -> str:
    """The prompt, made as engines make it; raises jinja2.TemplateError where they answer 400."""

    def raise_exception(words: str) -> None:
        raise jinja2.TemplateError(words)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return write_corpus()


def test_corpus__same_seed__same_digests(corpus: Corpus) -> None:
    again = write_corpus()
    assert digest_of(again.golden) == digest_of(corpus.golden)
    assert {n: d.digest for n, d in datasets_of(again).items()} == {
        n: d.digest for n, d in datasets_of(corpus).items()
    }


def test_corpus__pinned_seed__pinned_golden_digest(corpus: Corpus) -> None:
    # The same on every Python and machine; a change of the words or the seed is a new golden set and shows here.
    assert digest_of(corpus.golden) == "9c924627b39184f9"


def test_corpus__other_seed__other_tickets(corpus: Corpus) -> None:
    assert digest_of(write_corpus(seed=1).golden) != digest_of(corpus.golden)


def test_corpus__parts__disjoint_and_of_the_promised_sizes(corpus: Corpus) -> None:
    train, golden, traffic = (
        {t.text for t in part} for part in (corpus.train, corpus.golden, corpus.traffic)
    )
    assert (len(train), len(golden), len(traffic)) == (TRAIN_SIZE, GOLDEN_SIZE, TRAFFIC_SIZE)
    assert not train & golden
    assert not train & traffic
    assert not golden & traffic


def test_golden__queues__equally_often(corpus: Corpus) -> None:
    assert set(Counter(t.queue for t in corpus.golden).values()) == {GOLDEN_SIZE // len(QUEUES)}


@pytest.mark.parametrize(
    ("name", "right"),
    [("tickets-v1", 5 / 7), ("tickets-v2", 6 / 7), ("tickets-v3", 3 / 7), ("tickets-v5", 1.0)],
)
def test_datasets__share_of_true_labels__what_the_version_can_reach(
    corpus: Corpus, name: str, right: float
) -> None:
    truth = {t.text: t.answer for t in corpus.train}
    rows = datasets_of(corpus)[name].rows
    assert sum(truth[row.text] == row.answer for row in rows) / len(rows) == pytest.approx(right)


def test_faulty_export__turns_labels_round__none_is_lost() -> None:
    assert set(FAULTY_EXPORT) == set(FAULTY_EXPORT.values())
    assert all(before != after for before, after in FAULTY_EXPORT.items())


def test_words__every_ticket_and_answer__in_the_vocabulary(corpus: Corpus) -> None:
    known = set(words())
    asked = f"{SYSTEM_PROMPT} " + " ".join(f"{t.text} {t.answer}" for t in (*corpus.train, *corpus.golden))
    assert set(asked.split()) <= known


def test_golden_rows__read_by_the_registry__scored_exactly(corpus: Corpus) -> None:
    text = "".join(json.dumps(chat_row(t, scorer="exact")) + "\n" for t in corpus.golden)
    examples = parse_jsonl(text)
    assert len(examples) == GOLDEN_SIZE
    first = examples[0]
    # The engine's answers begin with a blank.
    assert score(f" {first.expected}", first.expected, first.scorer) == 1.0
    assert score("queue: nowhere", first.expected, first.scorer) == 0.0


def test_traffic__half_of_the_users__send_the_instruction_themselves(corpus: Corpus) -> None:
    rows = traffic_rows(corpus)
    roles = Counter(tuple(message["role"] for message in row["messages"]) for row in rows)  # type: ignore[attr-defined]
    assert roles == {("system", "user"): TRAFFIC_SIZE // 2, ("user",): TRAFFIC_SIZE // 2}


def test_golden_rows__no_system_message__every_version_can_be_asked(corpus: Corpus) -> None:
    rows = [chat_row(ticket, scorer="exact") for ticket in corpus.golden]
    assert all(
        row["messages"] == [{"role": "user", "content": t.text}]
        for row, t in zip(rows, corpus.golden, strict=True)
    )


def test_chat_template__instruction_of_the_client__same_prompt_as_without() -> None:
    prompt = f"<|system|> {SYSTEM_PROMPT} <|end|> <|user|> where is my camera <|end|> <|assistant|>"
    assert rendered(CHAT_TEMPLATE, QUESTION) == prompt
    assert rendered(CHAT_TEMPLATE, INSTRUCTION, QUESTION) == prompt


def test_chat_template__other_instruction__takes_the_place_of_the_usual_one() -> None:
    prompt = rendered(CHAT_TEMPLATE, {"role": "system", "content": "be short"}, QUESTION)
    assert prompt == "<|system|> be short <|end|> <|user|> where is my camera <|end|> <|assistant|>"


def test_strict_chat_template__system_message__refused_and_all_else_the_same() -> None:
    assert rendered(STRICT_CHAT_TEMPLATE, QUESTION) == rendered(CHAT_TEMPLATE, QUESTION)
    with pytest.raises(jinja2.TemplateError, match="System role not supported"):
        rendered(STRICT_CHAT_TEMPLATE, INSTRUCTION, QUESTION)


def test_recipes__v6__the_weights_of_v2_and_the_only_strict_template() -> None:
    assert [recipe.version for recipe in RECIPES if recipe.chat_template != CHAT_TEMPLATE] == ["v6"]
    assert [(recipe.version, recipe.weights_of) for recipe in RECIPES if recipe.weights_of] == [("v6", "v2")]


def test_story__policy__is_valid_and_judges_refusals_and_departures_beside_errors() -> None:
    body = json.loads(STORY.read_text())["policy"]
    policy = GatePolicy.from_json({"name": "tickets-default", "version": 1, **as_written(body)})
    kinds = {gate.kind: gate.weight for gate in policy.gates}
    assert {"error_rate", "refused", "abandoned"} <= set(kinds)
    assert sum(kinds.values()) == pytest.approx(1)


def test_story__every_rollout__is_of_a_version_that_is_made() -> None:
    told = [
        version for chapter in json.loads(STORY.read_text())["rollouts"] for version in chapter["versions"]
    ]
    assert sorted(told) == [recipe.version for recipe in RECIPES]
