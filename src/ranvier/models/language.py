"""The contract of every language model: token ids in, next-token logits out, at constant memory in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.errors import ArgumentError, ShapeError
from ranvier.models.sampling import next_token_probabilities
from ranvier.state import Memory, carry, stream

READ = 1024  # tokens of a prompt that are read at once


class LanguageModel(nn.Module):
    """Base of the language models.

    A subclass defines `tokens_to_logits(ids)` from ids `[T, B]`, time first like every sequence, to logits `[T, B, V]`;
    its memory lives in `Stateful` modules, so that `ranvier.carry` and `ranvier.stream` continue a text.

    Args:
        vocab_size: V.
        batch_first: take ids `[B, T]` and return logits `[B, T, V]` instead.
    """

    task = "language"

    def __init__(self, vocab_size: int, batch_first: bool = False) -> None:
        super().__init__()
        if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or vocab_size < 2:
            raise ArgumentError(f"vocab_size must be an integer of at least 2, got {vocab_size!r}")
        self.vocab_size, self.batch_first = vocab_size, batch_first

    @property
    def num_classes(self) -> int:
        """The number of tokens, under the name that classifiers use."""
        return self.vocab_size

    def has_time(self, ids: Tensor) -> bool:
        """Whether the first axis of `ids` is time, for those who count operations a step."""
        return ids.dim() == 2 and not self.batch_first

    def tokens_to_logits(self, ids: Tensor) -> Tensor:
        """Logits `[T, B, V]` of ids `[T, B]`."""
        raise ArgumentError(f"{type(self).__name__} does not define tokens_to_logits")

    def forward(self, ids: Tensor, state: Memory | None = None, return_state: bool = False) -> Any:
        """Next-token logits `[T, B, V]` of ids `[T, B]`, `[T, V]` of `[T]`; with `batch_first` `[B, T, V]` of `[B, T]`.

        `state` continues the text that returned it; with `return_state` the result is `(logits, state)`. Without them
        an open `ranvier.carry` block decides. Raises `ShapeError` and `ArgumentError` for ids that are none.
        """
        if state is not None or return_state:
            logits, after = stream(self, ids, state)
            return (logits, after) if return_state else logits
        if torch.compiler.is_compiling():  # looking at values would cut the graph
            return self._laid_out(ids)
        self._check(ids)
        try:
            return self._laid_out(ids)
        except RuntimeError as error:
            if "allocate memory" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            raise ArgumentError(
                f"ids of shape {tuple(ids.shape)} do not fit into memory at once; read the text in chunks inside "
                "ranvier.carry, or train with ranvier.train.backward_in_chunks"
            ) from error

    def _laid_out(self, ids: Tensor) -> Tensor:
        if ids.dim() == 1:
            return self.tokens_to_logits(ids.unsqueeze(1)).squeeze(1)
        if self.batch_first:
            return self.tokens_to_logits(ids.T).transpose(0, 1)
        return self.tokens_to_logits(ids)

    def step(self, ids: Tensor, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """One token a text: ids `[B]` and the state in, logits `[B, V]` and the new state out."""
        if ids.dim() != 1:
            raise ShapeError(f"step takes one token a text, ids [B], got shape {tuple(ids.shape)}")
        axis = 1 if self.batch_first else 0
        logits, state = stream(self, ids.unsqueeze(axis), state)
        return logits.squeeze(axis), state

    def prefill(self, ids: Tensor) -> tuple[Tensor, Memory]:
        """Logits of the last token `[B, V]` and the state after a prompt, read in parallel, `READ` tokens at a time."""
        self._check(ids)
        memory = Memory()
        return self._read(ids.unsqueeze(1) if ids.dim() == 1 else ids.T if self.batch_first else ids, memory), memory

    def _read(self, ids: Tensor, memory: Memory) -> Tensor:
        """Logits `[B, V]` after ids `[T, B]` at the memory of `READ` of them; `memory` is advanced."""
        axis = 1 if self.batch_first else 0
        with carry(self, memory):
            parts = [self(part.T if self.batch_first else part).select(axis, -1) for part in ids.split(READ)]
        return parts[-1]

    @torch.no_grad()
    def sample(
        self, prompt: Tensor, max_new_tokens: int, temperature: float = 1.0, top_p: float = 1.0,
        seed: int | None = None, banned: Sequence[int] = (), memory: Memory | None = None,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Yield the next tokens `[B]`, one after the other, at constant memory.

        Args:
            prompt: ids `[T]` or as the model takes them; at least one token a text.
            max_new_tokens: how many tokens to draw for every text.
            temperature, top_p, banned: of `next_token_probabilities`.
            seed: of the draws; None draws from PyTorch's global generator.
            memory: a text to continue, of which `prompt` is the next part; it is advanced.

        The net runs in eval mode and is put back into the mode that it was in.
        """
        if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
            raise ArgumentError(f"max_new_tokens must be an integer of at least 0, got {max_new_tokens!r}")
        self._check(prompt)
        ids = prompt.unsqueeze(1) if prompt.dim() == 1 else prompt.T if self.batch_first else prompt
        generator = None
        if seed is not None:
            generator = torch.Generator(device=ids.device).manual_seed(seed)
        training = self.training
        self.eval()
        memory = Memory() if memory is None else memory
        try:
            for _ in range(max_new_tokens):
                with torch.no_grad():
                    last = self._read(ids, memory)
                p = next_token_probabilities(last, temperature, top_p, banned)
                token = torch.multinomial(p, 1, generator=generator).squeeze(1)
                yield token
                ids = token.unsqueeze(0)
        finally:
            self.train(training)

    def generate(
        self, prompt: Tensor, max_new_tokens: int = 333, temperature: float = 1.0, top_p: float = 1.0,
        seed: int | None = None, banned: Sequence[int] = (), memory: Memory | None = None,
    ) -> Tensor:  # fmt: skip
        """The tokens that `sample` yields, laid out like `prompt` (`[n]`, `[n, B]`, or `[B, n]` with `batch_first`)."""
        drawn = list(self.sample(prompt, max_new_tokens, temperature, top_p, seed, banned, memory))
        texts = 1 if prompt.dim() == 1 else prompt.shape[0 if self.batch_first else 1]
        new = torch.stack(drawn) if drawn else prompt.new_zeros((0, texts))
        if prompt.dim() == 1:
            return new.squeeze(1)
        return new.T if self.batch_first else new

    def _check(self, ids: Tensor) -> None:
        if not isinstance(ids, Tensor) or ids.dim() not in (1, 2) or ids.numel() == 0:
            shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
            layout = "[B, T]" if self.batch_first else "[T, B]"
            raise ShapeError(f"ids must be {layout} or [T] with at least one token, got {shape}")
        if ids.is_floating_point() or ids.dtype == torch.bool or ids.is_complex():
            raise ArgumentError(f"ids must be integers, got {ids.dtype}")
        if ids.is_meta:
            return
        low, high = (int(end) for end in ids.aminmax())
        if low < 0 or high >= self.vocab_size:
            raise ArgumentError(
                f"ids must lie in 0 .. {self.vocab_size - 1}, got {low if low < 0 else high}: the text was cut into "
                "tokens with another vocabulary"
            )
