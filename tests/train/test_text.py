"""Language models through the trainer: loss, runs that continue, evaluation of a text."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranvier.data.text import ByteTokenizer, CharTokenizer
from ranvier.errors import ArgumentError, ConfigError, ShapeError
from ranvier.models import LanguageModel, SpikeGPT
from ranvier.state import carry
from ranvier.train import (
    Interrupted,
    Recipe,
    RunError,
    backward_in_chunks,
    evaluate,
    evaluate_text,
    fit,
    load_run,
    next_token_loss,
    parse_recipe,
    session,
    tokenizer_of,
)

TEXT = "the quick brown fox jumps over the lazy dog. " * 60


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


def recipe(path: Path, **train: Any) -> Recipe:
    return parse_recipe({
        "name": "text", "seed": 1,
        "data": {"name": "text", "batch_size": 8, "options": {"path": str(path), "tokenizer": "chars", "length": 32}},
        "model": {"name": "spike_gpt_41m", "args": {"n_layer": 1, "n_embd": 16, "dropout": 0.1}},
        "train": {"epochs": 3, "lr": 1e-2, "l2_wrap": 1e-4, "threads": 1, "accelerator": "cpu", **train},
    })  # fmt: skip


class Table(LanguageModel):
    """Logits that depend on the last token only."""

    def __init__(self, vocab: int) -> None:
        super().__init__(vocab)
        self.table = nn.Embedding(vocab, vocab)

    def tokens_to_logits(self, ids: Tensor) -> Tensor:
        return self.table(ids)


def test_loss_is_the_mean_of_all_tokens() -> None:
    logits, target = torch.randn(5, 3, 7), torch.randint(7, (3, 5))
    expected = torch.stack([
        F.cross_entropy(logits[t, b], target[b, t]) for t in range(5) for b in range(3)
    ]).mean()  # fmt: skip
    torch.testing.assert_close(next_token_loss(logits, target), expected)
    with pytest.raises(ShapeError, match="next tokens"):
        next_token_loss(logits, target.T)


def test_l2_wrap_only_pulls_the_largest_logit() -> None:
    logits, target = torch.randn(5, 3, 7, dtype=torch.float64, requires_grad=True), torch.randint(7, (3, 5))
    plain, wrapped = next_token_loss(logits, target), next_token_loss(logits, target, l2_wrap=1e-4)
    assert torch.equal(plain, wrapped)
    (a,) = torch.autograd.grad(plain * 3, logits)
    (b,) = torch.autograd.grad(wrapped * 3, logits)
    largest, place = logits.max(-1, keepdim=True)
    torch.testing.assert_close(b - a, torch.zeros_like(a).scatter(-1, place, largest * 1e-4 / 15 * 3))


def test_a_run_on_a_text_file(corpus: Path, tmp_path: Path) -> None:
    result = fit(recipe(corpus, epochs=12), tmp_path / "run", progress=False)
    assert result.test.accuracy is None and result.test.loss < 2.9 < math.log(28)
    assert result.validation is not None and set(result.validation) == {"loss"}
    net, _ = load_run(tmp_path / "run")
    tokenizer = tokenizer_of(tmp_path / "run")
    assert isinstance(net, SpikeGPT) and tokenizer.vocab_size == net.vocab_size == 28
    assert evaluate(tmp_path / "run").loss == pytest.approx(result.test.loss, rel=1e-5)
    made = net.generate(torch.from_numpy(tokenizer.encode("the ").copy()), 20, seed=0)
    assert len(tokenizer.decode(made.tolist())) == 20
    with pytest.raises(RunError, match="not the folder of a run on text"):
        tokenizer_of(tmp_path)


def test_an_interrupted_run_continues_to_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe(corpus), tmp_path / "whole", progress=False)
    real, done = session.Session._update, []

    def update(self: session.Session, *args: Any) -> None:
        real(self, *args)
        done.append(1)
        if len(done) == 13:
            os.kill(os.getpid(), 2)  # Ctrl-C

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_update", update)
        with pytest.raises(Interrupted):
            fit(recipe(corpus), tmp_path / "cut", progress=False)
    fit(recipe(corpus), tmp_path / "cut", progress=False)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_wrong_loss_and_text(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not fit a language model"):
        fit(recipe(corpus, loss="tet"), tmp_path / "a", progress=False)
    corpus.write_text("short")
    with pytest.raises(ArgumentError, match="do not fit into a text of"):
        fit(recipe(corpus), tmp_path / "b", progress=False)


def test_chunks_cover_a_long_text() -> None:
    net = SpikeGPT(vocab_size=9, n_layer=2, n_embd=8, dropout=0.0, init="torch_default").double()
    ids, target = torch.randint(9, (20, 2)), torch.randint(9, (2, 20))
    loss = backward_in_chunks(net, ids, target, 7)
    assert loss == pytest.approx(float(next_token_loss(net(ids), target).detach()))
    got = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    with carry(net) as memory:  # the same by hand
        for part, wanted in zip(ids.split(7), target.split(7, 1), strict=True):
            (F.cross_entropy(net(part).flatten(0, 1), wanted.T.flatten(), reduction="sum") / 40).backward()
            memory.detach()
    for a, b in zip(got, (p.grad for p in net.parameters()), strict=True):
        torch.testing.assert_close(a, b)
    assert backward_in_chunks(net, ids, target, 100) == pytest.approx(loss)


@pytest.mark.parametrize(("context", "stride"), [(8, 2), (8, 8), (8, 3), (100, 25), (5, 1)])
def test_every_token_is_scored_once(context: int, stride: int) -> None:
    net, text = Table(6), torch.randint(6, (50,))
    found = evaluate_text(net, text, context=context, stride=stride, batch_size=3)
    expected = F.cross_entropy(net.table(text[:-1]), text[1:]).item()
    assert found.tokens == 49 and found.loss == pytest.approx(expected, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(expected), rel=1e-6)
    assert found.bits_per_token == pytest.approx(expected / math.log(2), rel=1e-6)
    stream = evaluate_text(net, text, context=context, streaming=True)
    assert stream.loss == pytest.approx(expected, rel=1e-6) and stream.context is None


def test_windows_see_what_they_should() -> None:
    net = SpikeGPT(vocab_size=9, n_layer=2, n_embd=8, init="torch_default").double().eval()
    text = torch.randint(9, (40,))
    total = 0.0
    with torch.no_grad():
        for i in range(39):  # token i + 1 is scored in the first window of 16 that reaches it
            end = 16 if i < 16 else min(16 + 4 * math.ceil((i - 15) / 4), 39)
            logits = net(text[end - 16 : i + 1])[-1]
            total += float(F.cross_entropy(logits, text[i + 1]))
        whole = float(F.cross_entropy(net(text[:-1]), text[1:]))
    assert evaluate_text(net, text, context=16, stride=4).loss == pytest.approx(total / 39, rel=1e-9)
    assert evaluate_text(net, text, context=7, streaming=True).loss == pytest.approx(whole, rel=1e-9)


def test_units() -> None:
    words = "naïve café " * 3
    net = Table(256)
    octets = ByteTokenizer()
    found = evaluate_text(net, octets.encode(words), tokenizer=octets)
    characters, size = len(words) - 1, len(words.encode()) - 1
    assert found.bits_per_byte == pytest.approx(found.bits_per_token)
    assert found.bits_per_character == pytest.approx(found.bits_per_token * size / characters)
    letters = CharTokenizer(words)
    found = evaluate_text(Table(letters.vocab_size), letters.encode(words), tokenizer=letters)
    assert found.bits_per_character == pytest.approx(found.bits_per_token)
    assert found.bits_per_byte == pytest.approx(found.bits_per_token * characters / size)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="at least two tokens"):
        evaluate_text(Table(3), [1])
    with pytest.raises(ArgumentError, match="stride"):
        evaluate_text(Table(3), [1, 2, 0], context=4, stride=5)
