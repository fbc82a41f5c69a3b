"""A GRU language model over token ids time first."""

from __future__ import annotations

from torch import Tensor, nn


class GRULanguageModel(nn.Module):
    """Ids `[T, B]` to logits `[T, B, V]`."""

    def __init__(self, vocab: int, width: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.gru = nn.GRU(width, hidden, layers)
        self.head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.embed(ids))[0])
