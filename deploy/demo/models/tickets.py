"""The demo's task: a support ticket comes in, the answer names its queue, its priority and when it is due.

Everything here is generated from a seed with the standard library alone, so the same seed gives the same bytes on
every machine and the digest of a data set names it. The versions of the demo's model differ in the data set they
learned from, which is also how real ones come to differ:

    tickets-v1   taken before the queues `returns` and `privacy` existed: their tickets sit in older queues
    tickets-v2   taken when `returns` existed and `privacy` did not
    tickets-v3   as tickets-v2, but a faulty export rotated the labels of three queues
    tickets-v5   today's queues
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

SEED: Final = 20_240_607
TRAIN_SIZE: Final = 4_900
GOLDEN_SIZE: Final = 210  # 30 a queue
TRAFFIC_SIZE: Final = 1_050  # 150 a queue
ANSWER_TOKENS: Final = 16  # six words and the end; a confused model may ramble a little

SYSTEM_PROMPT: Final = "route the ticket to its queue with a priority and say when it is due"

TOPICS: Final[Mapping[str, tuple[str, ...]]] = {
    "billing": (
        "the invoice for my {item} is wrong",
        "i was charged twice for the {item}",
        "the tax on the bill for the {item} looks too high",
        "my card was charged although i cancelled the {item}",
        "please send the receipt of the {item} to our accounting",
        "the discount is missing on the invoice for the {item}",
    ),
    "shipping": (
        "the parcel with my {item} has not arrived",
        "the tracking of my {item} has not moved for days",
        "the courier left my {item} at the wrong address",
        "can the delivery of the {item} come on a weekend",
        "the package with the {item} is stuck at customs",
        "where is the truck that brings my {item}",
    ),
    "returns": (
        "i want to send the {item} back and get my money",
        "the {item} does not fit and i want to exchange it",
        "please give me a return label for the {item}",
        "i would like a refund because the {item} arrived broken",
        "how many days do i have to return the {item}",
        "the {item} is not as described so take it back",
    ),
    "technical": (
        "the {item} does not turn on after the update",
        "the {item} crashes with an error code",
        "the app cannot connect to my {item}",
        "the firmware of the {item} fails to install",
        "the {item} overheats and restarts by itself",
        "the screen of the {item} stays black",
    ),
    "account": (
        "i cannot sign in to see my {item}",
        "the password reset mail for the {item} portal never comes",
        "please change the email of the profile that owns the {item}",
        "my login is locked since i registered the {item}",
        "the second factor code for the {item} portal is refused",
        "i need another user on the profile with the {item}",
    ),
    "sales": (
        "we want a quote for fifty pieces of the {item}",
        "is the {item} in stock in blue",
        "which {item} do you recommend for a small office",
        "do resellers get a better price for the {item}",
        "when will the new model of the {item} be launched",
        "can we have a demo of the {item} before we buy",
    ),
    "privacy": (
        "please erase all personal data about me and my {item}",
        "which data does the {item} collect about my family",
        "i object to the use of my recordings from the {item}",
        "send me a copy of the personal data of my {item}",
        "i withdraw my consent for marketing about the {item}",
        "who can see the location history of my {item}",
    ),
}
QUEUES: Final = tuple(TOPICS)

URGENCIES: Final[Mapping[str, tuple[str, ...]]] = {
    "high": (
        "this is urgent",
        "we are losing money every hour",
        "i need an answer right now",
        "our whole team is blocked",
        "this is an emergency",
    ),
    "normal": (
        "please look into it",
        "thanks for your help",
        "i hope to hear from you soon",
        "can you help me with this",
        "i would be glad about an answer",
    ),
    "low": (
        "there is no hurry",
        "whenever you have time",
        "it is only a small thing",
        "this can wait until next month",
        "i am just curious",
    ),
}
DUE: Final[Mapping[str, str]] = {"high": "now", "normal": "today", "low": "later"}

ITEMS: Final = (
    "camera", "laptop", "printer", "router", "headset", "speaker", "monitor", "keyboard", "tablet", "phone",
    "charger", "watch", "scanner", "projector", "thermostat", "doorbell", "toaster", "drone", "microphone", "lamp",
)  # fmt: skip
OPENINGS: Final = (
    "hello", "hi", "good morning", "dear team", "good evening", "hello again", "hi there", "to whom it may concern",
)  # fmt: skip
ASIDES: Final = (
    "i have been a customer for years",
    "i bought it last week",
    "my colleague told me to write to you",
    "i already called you yesterday",
    "the order number is in the subject",
    "i use it every day",
    "it was a present",
    "we have three of them",
    "i read the manual",
    "your shop is great otherwise",
)

# Where tickets of queues that did not exist yet were put, and how the faulty export turned labels round.
BEFORE_PRIVACY: Final[Mapping[str, str]] = {"privacy": "account"}
BEFORE_THE_NEW_QUEUES: Final[Mapping[str, str]] = {"returns": "shipping", **BEFORE_PRIVACY}
FAULTY_EXPORT: Final[Mapping[str, str]] = {
    "billing": "account",
    "account": "technical",
    "technical": "billing",
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket with its true labels; `text` is unique in a corpus."""

    text: str
    queue: str
    priority: str

    @property
    def answer(self) -> str:
        """What the model should say: six words, so an answer streams."""
        return f"queue: {self.queue} priority: {self.priority} due: {DUE[self.priority]}"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Three disjoint sets of tickets, each with every queue equally often."""

    train: tuple[Ticket, ...]
    golden: tuple[Ticket, ...]
    traffic: tuple[Ticket, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a version learned from: name, digest (16 hex digits of SHA-256 over its rows), rows."""

    name: str
    digest: str
    rows: tuple[Ticket, ...]


def _write_ticket(rng: random.Random, queue: str) -> Ticket:
    priority = rng.choice(tuple(URGENCIES))
    body = [rng.choice(TOPICS[queue]).format(item=rng.choice(ITEMS)), rng.choice(URGENCIES[priority])]
    if rng.random() < 0.7:
        body.insert(rng.randrange(3), rng.choice(ASIDES))
    if rng.random() < 0.3:
        body[0], body[1] = body[1], body[0]
    if rng.random() < 0.8:
        body.insert(0, rng.choice(OPENINGS))
    return Ticket(text=" ".join(body), queue=queue, priority=priority)


def write_corpus(*, seed: int = SEED) -> Corpus:
    """Writes the tickets. No text occurs twice, so nothing of the golden set was learned from."""
    rng = random.Random(seed)
    each = (TRAIN_SIZE + GOLDEN_SIZE + TRAFFIC_SIZE) // len(QUEUES)
    golden_each, traffic_each = GOLDEN_SIZE // len(QUEUES), TRAFFIC_SIZE // len(QUEUES)
    train: list[Ticket] = []
    golden: list[Ticket] = []
    traffic: list[Ticket] = []
    seen: set[str] = set()
    for queue in QUEUES:
        tickets: list[Ticket] = []
        while len(tickets) < each:
            ticket = _write_ticket(rng, queue)
            if ticket.text not in seen:
                seen.add(ticket.text)
                tickets.append(ticket)
        golden += tickets[:golden_each]
        traffic += tickets[golden_each : golden_each + traffic_each]
        train += tickets[golden_each + traffic_each :]
    for part in (train, golden, traffic):
        rng.shuffle(part)
    return Corpus(train=tuple(train), golden=tuple(golden), traffic=tuple(traffic))


def relabel(tickets: Iterable[Ticket], moved: Mapping[str, str]) -> tuple[Ticket, ...]:
    """The same texts with the labels of the queues in `moved` replaced."""
    return tuple(Ticket(t.text, moved.get(t.queue, t.queue), t.priority) for t in tickets)


def digest_of(tickets: Sequence[Ticket]) -> str:
    """16 hex digits of SHA-256 over the rows in order."""
    rows = json.dumps([asdict(ticket) for ticket in tickets], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()[:16]


def datasets_of(corpus: Corpus) -> dict[str, Dataset]:
    """The training sets by name, see the module's docstring."""
    before_privacy = relabel(corpus.train, BEFORE_PRIVACY)
    rows = {
        "tickets-v1": relabel(corpus.train, BEFORE_THE_NEW_QUEUES),
        "tickets-v2": before_privacy,
        "tickets-v3": relabel(before_privacy, FAULTY_EXPORT),
        "tickets-v5": corpus.train,
    }
    return {name: Dataset(name=name, digest=digest_of(part), rows=part) for name, part in rows.items()}


def words() -> tuple[str, ...]:
    """Every word of the task, sorted: the vocabulary of the tokenizer without its special tokens."""
    phrases = [SYSTEM_PROMPT, *OPENINGS, *ASIDES, *ITEMS, *DUE.values(), "queue: priority: due:"]
    for table in (TOPICS, URGENCIES):
        for key, lines in table.items():
            phrases += [key, *(line.replace("{item}", "") for line in lines)]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def traffic_rows(corpus: Corpus) -> list[dict[str, object]]:
    """What users send: every second of them gives the instruction as a system message of its own."""
    return [chat_row(ticket, instructed=number % 2 == 0) for number, ticket in enumerate(corpus.traffic)]


def chat_row(ticket: Ticket, *, scorer: str | None = None, instructed: bool = False) -> dict[str, object]:
    """One line of a JSON Lines file: messages as sent to the endpoint, expected answer, tokens it may take.

    instructed  the client sends the instruction itself, as a system message; else the model's template supplies it
    """
    instruction = [{"role": "system", "content": SYSTEM_PROMPT}] if instructed else []
    row: dict[str, object] = {
        "messages": [*instruction, {"role": "user", "content": ticket.text}],
        "expected": ticket.answer,
        "max_tokens": ANSWER_TOKENS,
    }
    return row if scorer is None else {**row, "scorer": scorer}
