"""The demo's tickets: the same on every machine, nothing of the golden set learned from, versions that differ."""

from __future__ import annotations

import json
from collections import Counter

import pytest

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
    words,
    write_corpus,
)
from registry.domain.golden import parse_jsonl
from registry.domain.scoring import score


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
