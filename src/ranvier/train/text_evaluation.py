"""How well a language model knows a text: bits and perplexity, by overlapping windows or as one stream."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ranvier.data.samples import Subset
from ranvier.data.text import TextWindows, Tokenizer
from ranvier.errors import ArgumentError
from ranvier.models import LanguageModel
from ranvier.state import carry
from ranvier.train.assemble import load_splits
from ranvier.train.run import load_run, tokenizer_of


@dataclass(frozen=True)
class TextEvaluation:
    """Figures of one text.

    Attributes:
        tokens: scored: all but the first.
        loss: nats a token.
        bits_per_token, perplexity: of it.
        bits_per_character, bits_per_byte: where a tokenizer says how many there are; the unit matters.
        context, stride: of the windows; None for a stream.
        seconds: wall-clock.
    """

    tokens: int
    loss: float
    bits_per_token: float
    perplexity: float
    bits_per_character: float | None
    bits_per_byte: float | None
    context: int | None
    stride: int | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@torch.no_grad()
def evaluate_text(
    net: LanguageModel,
    tokens: Any,
    *,
    context: int = 1024,
    stride: int | None = None,
    streaming: bool = False,
    batch_size: int = 8,
    tokenizer: Tokenizer | None = None,
    device: str | torch.device = "cpu",
) -> TextEvaluation:
    """Score a text of token ids `[N]`, each token once.

    Args:
        context, stride: windows of `context` tokens that start every `stride` (a quarter of it by default); the first
            is scored whole, of the others only the last `stride` tokens, so that each token but the first ones has
            seen at least `context − stride` others.
        streaming: read the text as one stream with carried state instead; `context` is then the size of a step.
        tokenizer: for bits a character and a byte.

    Raises `ArgumentError` for a text of fewer than two tokens, or for windows that do not fit together.
    """
    text = torch.as_tensor(tokens).to(torch.int64)
    if text.dim() != 1 or len(text) < 2:
        raise ArgumentError(f"tokens must be ids [N] of at least two tokens, got shape {tuple(text.shape)}")
    stride = max(1, context // 4) if stride is None else stride
    if context < 1 or not 1 <= stride <= context:
        raise ArgumentError(f"stride must lie in 1 .. context={context}, got {stride}")
    started = time.perf_counter()
    training, batch_first = net.training, net.batch_first
    net.to(device).eval()
    net.batch_first = False
    try:
        scorer = _streamed if streaming else _strided
        total = scorer(net, text, context, stride, batch_size, device)
    finally:
        net.train(training)
        net.batch_first = batch_first
    scored = len(text) - 1
    loss = total / scored
    bits = total / math.log(2)
    characters = octets = None
    if tokenizer is not None:
        known = tokenizer.decode(text[1:].tolist())
        characters, octets = len(known), scored if tokenizer.kind == "bytes" else len(known.encode())
    return TextEvaluation(
        scored, loss, bits / scored, math.exp(min(loss, 700.0)),
        bits / characters if characters else None, bits / octets if octets else None,
        None if streaming else context, None if streaming else stride, time.perf_counter() - started,
    )  # fmt: skip


def evaluate_run_text(
    run: str | os.PathLike[str],
    *,
    split: str = "test",
    context: int | None = None,
    stride: int | None = None,
    streaming: bool = False,
    batch_size: int = 8,
    data_root: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> TextEvaluation:
    """`evaluate_text` for a trained run on a part of its own text; `context` is the training length by default."""
    net, recipe = load_run(run)
    if not isinstance(net, LanguageModel):
        raise ArgumentError(f"{run} holds no language model: --context, --stride and --stream are for text")
    if data_root is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(data_root)})})
    splits = load_splits(recipe)
    part = {"train": splits.train, "validation": splits.validation, "test": splits.test}.get(split)
    while isinstance(part, Subset):  # of a limited part the whole text is read
        part = part.dataset
    if not isinstance(part, TextWindows):
        raise ArgumentError(f"split: the run has no part {split!r} that is a whole text")
    context = part.length if context is None else context
    return evaluate_text(
        net, torch.from_numpy(part.tokens.astype("int64")), context=context,
        stride=min(stride, context) if stride else None, streaming=streaming, batch_size=batch_size,
        tokenizer=tokenizer_of(run), device=device,
    )  # fmt: skip


def _nats(logits: Tensor, target: Tensor) -> float:
    """Summed cross-entropy of logits `[T, B, V]` with tokens `[T, B]`."""
    return float(F.cross_entropy(logits.flatten(0, 1).double(), target.flatten(), reduction="sum"))


def _streamed(net: LanguageModel, text: Tensor, context: int, _: int, __: int, device: str | torch.device) -> float:
    total = 0.0
    with carry(net):
        for start in range(0, len(text) - 1, context):
            part = text[start : min(start + context, len(text) - 1)].to(device)
            target = text[start + 1 : start + 1 + len(part)].to(device)
            total += _nats(net(part.unsqueeze(1)), target.unsqueeze(1))
    return total


def _strided(
    net: LanguageModel, text: Tensor, context: int, stride: int, batch_size: int, device: str | torch.device
) -> float:
    last = len(text) - 1  # inputs are text[:last]
    context = min(context, last)
    starts = [0]
    while starts[-1] + context < last:
        starts.append(min(starts[-1] + stride, last - context))
    total, done = 0.0, 0
    for first in range(0, len(starts), batch_size):
        group = starts[first : first + batch_size]
        ids = torch.stack([text[s : s + context] for s in group], 1).to(device)
        target = torch.stack([text[s + 1 : s + context + 1] for s in group], 1).to(device)
        logits = net(ids)
        for column, start in enumerate(group):
            fresh = max(0, done - start)  # the first position of this window that nobody has scored
            total += _nats(logits[fresh:, column : column + 1], target[fresh:, column : column + 1])
            done = start + context
    return total
