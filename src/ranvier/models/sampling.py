"""The next token, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ranvier.errors import ArgumentError


def next_token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_p: float = 1.0, banned: Sequence[int] = ()
) -> Tensor:
    """The distribution that a next token is drawn from, `[..., V]` in float64, as SpikeGPT's release does it.

    Nucleus first: the probabilities in falling order are kept up to the one where their sum exceeds `top_p` (and what
    equals it); then `p^(1 / temperature)`, normalised. Temperature 0 puts everything on the largest. `banned` tokens
    get none. Raises `ArgumentError` for values out of range.
    """
    if not temperature >= 0 or temperature == float("inf"):
        raise ArgumentError(f"temperature must be a number of at least 0, got {temperature!r}")
    if not 0 < top_p <= 1:
        raise ArgumentError(f"top_p must lie in (0, 1], got {top_p!r}")
    logits = logits.detach().double()
    if banned:
        if not all(0 <= token < logits.shape[-1] for token in banned) or len(set(banned)) >= logits.shape[-1]:
            raise ArgumentError(f"banned must leave some of the {logits.shape[-1]} tokens, got {list(banned)}")
        logits = logits.index_fill(-1, torch.tensor(list(banned), device=logits.device), -torch.inf)
    p = logits.softmax(-1)
    if top_p < 1:
        falling = p.sort(-1, descending=True).values
        place = (falling.cumsum(-1) <= top_p).sum(-1, keepdim=True).clamp(max=p.shape[-1] - 1)
        p = p.masked_fill(p < falling.gather(-1, place), 0)
    if temperature == 0:
        return torch.zeros_like(p).scatter_(-1, p.argmax(-1, keepdim=True), 1.0)
    if temperature != 1:
        # in the log domain, relative to the largest: a power of small probabilities would underflow
        p = (p.log() / temperature).softmax(-1)
    return p / p.sum(-1, keepdim=True)
