"""Trains the demo's tiny Llamas on the spot: `python -m deploy.demo.models.train --out FOLDER`.

Runs in the engine's environment (torch, transformers, tokenizers). Six versions, all loadable by vLLM:

    v1   small Llama, oldest labels: right on five queues of seven
    v2   small Llama, newer labels: right on six
    v3   small Llama, labels from a faulty export: as fast as v2, right on three
    v4   v2 grown deeper by block expansion: answers exactly as v2 does, many times slower
    v5   small Llama, today's labels: right nearly always
    v6   v2's weights with another chat template, which refuses messages of the role "system", as some published ones do

v4 is grown, not trained: new blocks start with zero output projections, so the function stays v2's (the start of
"LLaMA Pro", arXiv 2401.02415).

Writes into FOLDER: v1 .. v6 (config, safetensors, tokenizer, chat template), golden.jsonl, traffic.jsonl and
metrics.json. A re-run with the same sources does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.demo.models import tickets

PAD, UNKNOWN, END, SYSTEM, USER, ASSISTANT = SPECIAL = (
    "<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>",
)  # fmt: skip
# The client's own instruction, or the one that the model learned with.
CHAT_TEMPLATE: Final = (
    "{% if messages[0]['role'] != 'system' %}<|system|> " + tickets.SYSTEM_PROMPT + " <|end|> {% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# An engine answers 400 to a request that its template raises for.
STRICT_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)
CONTEXT: Final = 256
HIDDEN, MLP, LAYERS, HEADS = 64, 128, 2, 2
STEPS, BATCH, PEAK_RATE = 120, 64, 4e-3
IGNORED_LABEL: Final = -100
# How much deeper v4 is, chosen by measurement: on a CPU a layer costs about 0.55 ms of the first token and 0.33 ms
# of each later one, whatever its size, so v4 takes 0.3 s and more to its first token where v2 takes 0.01 s.
GROWN_LAYERS, GROWN_MLP = 640, 128


@dataclass(frozen=True, slots=True)
class Recipe:
    """One version: what it learned from, or what it was grown from, or whose weights it has."""

    version: str
    dataset: str
    note: str
    grown_from: str = ""
    weights_of: str = ""
    chat_template: str = CHAT_TEMPLATE


RECIPES: Final = (
    Recipe("v1", "tickets-v1", "Trained before the queues returns and privacy existed."),
    Recipe("v2", "tickets-v2", "Trained when the queue privacy did not exist yet."),
    Recipe("v3", "tickets-v3", "A refresh on the latest export."),
    Recipe("v4", "tickets-v2", "Version 2 grown deeper by block expansion.", grown_from="v2"),
    Recipe("v5", "tickets-v5", "Trained on today's queues."),
    Recipe(
        "v6",
        "tickets-v2",
        "Version 2 with a chat template cleaned up.",
        weights_of="v2",
        chat_template=STRICT_CHAT_TEMPLATE,
    ),
)


def say(text: str) -> None:
    """Progress, at once even through a pipe."""
    print(f"[models] {text}", flush=True)


def source_digest() -> str:
    """Names what the models are made from; a finished folder with the same digest is kept."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("tickets.py", "train.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


def make_tokenizer() -> Any:
    """A word-level tokenizer: lower case, punctuation away, words apart at blanks."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *tickets.words()))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[.,!?;()\"']"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: Any, rows: Sequence[tickets.Ticket]) -> tuple[Any, Any]:
    """Token ids (rows, longest) and labels of the same shape; only the answer and its end have labels."""
    import torch

    prompts, answers = [], []
    for row in rows:
        messages = [{"role": "user", "content": row.text}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append(tokenizer(text, add_special_tokens=False)["input_ids"])
        answers.append(tokenizer(f"{row.answer} {END}", add_special_tokens=False)["input_ids"])
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED_LABEL)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = torch.tensor(prompt + answer)
        ids[number, : len(whole)] = whole
        labels[number, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, labels


def make_model(tokenizer: Any, *, layers: int = LAYERS, mlp: int = MLP) -> Any:
    """An untrained Llama in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def train(model: Any, ids: Any, labels: Any, *, name: str, unknown: int) -> float:
    """Teaches the answers; returns the mean loss of the last ten steps."""
    import torch

    generator = torch.Generator().manual_seed(tickets.SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS, pct_start=0.15)
    model.train()
    losses: list[float] = []
    started = time.monotonic()
    for step in range(1, STEPS + 1):
        rows = torch.randint(len(ids), (BATCH,), generator=generator)
        batch, wanted = ids[rows], labels[rows]
        # Some words of the question are made unknown, so that a person's own words do not confuse the model.
        hidden = (torch.rand(batch.shape, generator=generator) < 0.05) & (batch >= len(SPECIAL))
        batch = batch.masked_fill(hidden & (wanted == IGNORED_LABEL), unknown)
        loss = model(input_ids=batch, labels=wanted).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 40 == 0 or step == STEPS:
            say(f"{name}: step {step} of {STEPS}, loss {losses[-1]:.3f}, {time.monotonic() - started:.0f} s")
    return sum(losses[-10:]) / 10


def grow(small: Any, tokenizer: Any) -> Any:
    """The same function in a bigger Llama: extra blocks and extra MLP columns add exactly zero."""
    import torch

    big = make_model(tokenizer, layers=GROWN_LAYERS, mlp=GROWN_MLP)
    with torch.no_grad():
        for name in ("embed_tokens", "norm"):
            getattr(big.model, name).load_state_dict(getattr(small.model, name).state_dict())
        big.lm_head.load_state_dict(small.lm_head.state_dict())
        for number, block in enumerate(big.model.layers):
            if number >= LAYERS:
                block.self_attn.o_proj.weight.zero_()
                block.mlp.down_proj.weight.zero_()
                continue
            old = small.model.layers[number]
            block.self_attn.load_state_dict(old.self_attn.state_dict())
            block.input_layernorm.load_state_dict(old.input_layernorm.state_dict())
            block.post_attention_layernorm.load_state_dict(old.post_attention_layernorm.state_dict())
            block.mlp.gate_proj.weight[:MLP] = old.mlp.gate_proj.weight
            block.mlp.up_proj.weight[:MLP] = old.mlp.up_proj.weight
            block.mlp.down_proj.weight.zero_()
            block.mlp.down_proj.weight[:, :MLP] = old.mlp.down_proj.weight
    return big


def examine(model: Any, ids: Any, labels: Any) -> dict[str, float]:
    """Accuracy (share of answers that greedy decoding gets wholly right), queue accuracy, and loss.

    One forward pass is enough: greedy decoding gives the expected answer exactly when, with the expected answer
    fed in, the most likely next token is the expected one at every place.
    """
    import torch

    model.eval()
    with torch.inference_mode():
        out = model(input_ids=ids, labels=labels)
    wanted = labels[:, 1:]
    right = (out.logits[:, :-1].argmax(-1) == wanted) | (wanted == IGNORED_LABEL)
    place_of_queue = (wanted != IGNORED_LABEL).int().argmax(1) + 1  # after the word "queue:"
    return {
        "accuracy": float(right.all(1).float().mean()),
        "queue_accuracy": float(right[torch.arange(len(ids)), place_of_queue].float().mean()),
        "loss": float(out.loss),
    }


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder vLLM can load."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    # vLLM takes its sampling defaults from here and samples at temperature 1 without them: the same ticket gets
    # the same answer only when this says so. Written by hand, because transformers refuses a temperature of 0.
    defaults = {
        "do_sample": False,
        "temperature": 0.0,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2) + "\n")


def write_lines(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def build(out: Path) -> dict[str, Any]:
    """Makes everything in `out` and returns what metrics.json holds."""
    say("loading torch and transformers")
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    # Matrices this small gain nothing from a second thread, and on a busy machine threads wait for each other for
    # minutes (measured on 2 busy cores: 390 s a version with two threads, 27 s with one).
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    corpus = tickets.write_corpus()
    sets = tickets.datasets_of(corpus)
    tokenizer = make_tokenizer()
    golden_ids, golden_labels = encode(tokenizer, corpus.golden)
    models: dict[str, Any] = {}
    report: dict[str, Any] = {"source": source_digest(), "seed": tickets.SEED, "versions": {}}
    for recipe in RECIPES:
        started = time.monotonic()
        torch.manual_seed(tickets.SEED)
        data = sets[recipe.dataset]
        train_loss = None
        if recipe.grown_from:
            model = grow(models[recipe.grown_from], tokenizer)
        elif recipe.weights_of:
            model = models[recipe.weights_of]
        else:
            model = make_model(tokenizer)
            ids, labels = encode(tokenizer, data.rows)
            train_loss = train(model, ids, labels, name=recipe.version, unknown=tokenizer.unk_token_id)
        models[recipe.version] = model
        # Saved and examined as the engine will hold them: in bfloat16.
        model = model.to(torch.bfloat16)
        measured = examine(model.float(), golden_ids, golden_labels)
        tokenizer.chat_template = recipe.chat_template
        save(model.to(torch.bfloat16), tokenizer, out / recipe.version)
        say(f"{recipe.version}: {measured['accuracy']:.1%} of the golden set right")
        report["versions"][recipe.version] = {
            "note": recipe.note,
            "params": {
                "architecture": "llama",
                "layers": model.config.num_hidden_layers,
                "hidden_size": HIDDEN,
                "mlp_size": model.config.intermediate_size,
                "parameters": sum(p.numel() for p in model.parameters()),
                "grown_from": recipe.grown_from,
                "weights_of": recipe.weights_of,
                **(
                    {}
                    if recipe.grown_from or recipe.weights_of
                    else {"steps": STEPS, "batch": BATCH, "peak_learning_rate": PEAK_RATE}
                ),
            },
            "metrics": {**measured, **({} if train_loss is None else {"train_loss": train_loss})},
            "dataset": {"name": data.name, "digest": data.digest, "rows": len(data.rows)},
            "seconds": round(time.monotonic() - started, 1),
        }
    report["golden"] = {"digest": tickets.digest_of(corpus.golden), "rows": len(corpus.golden)}
    write_lines(out / "golden.jsonl", [tickets.chat_row(t, scorer="exact") for t in corpus.golden])
    write_lines(out / "traffic.jsonl", tickets.traffic_rows(corpus))
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0, or 1 when a version did not come out as the demo needs it."""
    parser = argparse.ArgumentParser(description="Train the demo's tiny models.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--force", action="store_true", help="train again even when nothing changed")
    options = parser.parse_args(arguments)
    out: Path = options.out
    marker = out / "metrics.json"
    if (
        marker.exists()
        and not options.force
        and json.loads(marker.read_text()).get("source") == source_digest()
    ):
        say(f"{out} is up to date")
        return 0
    started = time.monotonic()
    # Built beside and moved into place whole: an interrupted run leaves no half-made models behind.
    beside = out.with_name(out.name + ".making")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    report = build(beside)
    accuracy = {version: entry["metrics"]["accuracy"] for version, entry in report["versions"].items()}
    second_best = all(0.8 < accuracy[version] < 0.9 for version in ("v2", "v4", "v6"))
    if not (accuracy["v3"] < accuracy["v1"] < 0.8 and second_best and accuracy["v5"] > 0.97):
        say(f"the models did not come out as the demo needs them: {accuracy}; {beside} is kept for a look")
        return 1
    (beside / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    beside.rename(out)
    say(f"{len(RECIPES)} versions in {time.monotonic() - started:.0f} s, in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
