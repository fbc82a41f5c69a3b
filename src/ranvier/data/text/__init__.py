"""Text: tokenizers, and long texts as windows of tokens."""

from __future__ import annotations

from ranvier.data.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Feed,
    NumberTokenizer,
    Tokenizer,
    load_tokenizer,
    tokenizer_from,
)
from ranvier.data.text.windows import TextWindows

__all__ = [
    "BPETokenizer", "ByteTokenizer", "CharTokenizer", "Feed", "NumberTokenizer", "TextWindows", "Tokenizer",
    "load_tokenizer", "tokenizer_from",
]  # fmt: skip
