"""Text to token ids and back: bytes, characters, and byte-pair encodings from a file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import ArgumentError, DataError
from ranvier.extras import require

Ids = NDArray[np.int64]
_MAX_BYTES = 1 << 26  # of a tokenizer's file; GPT-NeoX's has 2 MB


class Tokenizer:
    """What every tokenizer does: `encode` text to ids, `decode` ids to text, and describe itself as JSON."""

    kind: str
    vocab_size: int

    def encode(self, text: str) -> Ids:
        """The ids of `text`, `[n]`; `ArgumentError` for what has none."""
        raise ArgumentError(f"{type(self).__name__} does not define encode")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`."""
        raise ArgumentError(f"{type(self).__name__} does not define decode")

    def feed(self) -> Feed:
        """Decodes one id after the other."""
        return Feed(self)

    def names(self) -> tuple[str, ...]:
        """A name for every token, in the order of their ids."""
        return tuple(str(i) for i in range(self.vocab_size))

    def document(self) -> dict[str, Any]:
        """All that `tokenizer_from` needs."""
        return {"type": self.kind}


class Feed:
    """Text as its tokens arrive: what is complete, no half characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """The text that `token` adds (empty while a character is not complete)."""
        self._ids.append(int(token))
        text = self._tokenizer.decode(self._ids)
        if text.endswith("�"):
            return ""
        new = text[len(self._shown) :]
        # Only a tail is decoded again: enough for a character and for the space before a word.
        self._ids = self._ids[-8:]
        self._shown = self._tokenizer.decode(self._ids)
        return new


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8."""

    kind = "bytes"
    vocab_size = 256

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(int(i) for i in ids).decode("utf-8", "replace")

    def feed(self) -> Feed:
        return _ByteFeed(self)


class _ByteFeed(Feed):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(bytes([int(token)]))


class CharTokenizer(Tokenizer):
    """The characters of a text, sorted: each is a token."""

    kind = "chars"

    def __init__(self, characters: str) -> None:
        self._points = np.array(sorted({ord(c) for c in characters}), np.uint32)
        if not len(self._points):
            raise ArgumentError("characters must name at least one character, got an empty text")
        self.vocab_size = len(self._points)

    @property
    def characters(self) -> str:
        """All of them, in the order of their ids."""
        return "".join(chr(p) for p in self._points)

    def encode(self, text: str) -> Ids:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = np.searchsorted(self._points, points).clip(max=self.vocab_size - 1)
        foreign = self._points[ids] != points
        if foreign.any():
            raise ArgumentError(
                f"the character {text[int(foreign.argmax())]!r} is not one of the {self.vocab_size} characters of the "
                "training text"
            )
        return ids.astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(chr(self._points[int(i)]) for i in ids)

    def feed(self) -> Feed:
        return _CharFeed(self)

    def names(self) -> tuple[str, ...]:
        return tuple(self.characters)

    def document(self) -> dict[str, Any]:
        return {"type": self.kind, "characters": self.characters}


class _CharFeed(Feed):
    def push(self, token: int) -> str:
        return self._tokenizer.decode([token])


class NumberTokenizer(Tokenizer):
    """Ids whose meaning is not known: text is the numbers themselves, apart by blanks."""

    kind = "numbers"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> Ids:
        try:
            ids = np.array([int(word) for word in text.split()], np.int64)
        except ValueError as error:
            raise ArgumentError(f"expected token ids apart by blanks, got {text!r:.60}") from error
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ArgumentError(f"token ids must lie in 0 .. {self.vocab_size - 1}, got {text!r:.60}")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(f" {int(i)}" for i in ids)

    def feed(self) -> Feed:
        return _CharFeed(self)

    def document(self) -> dict[str, Any]:
        return {"type": self.kind, "vocab_size": self.vocab_size}


class BPETokenizer(Tokenizer):
    """A byte-pair encoding from a `tokenizer.json` (GPT-NeoX-20B's, say), through the package `tokenizers`.

    `vocab_size` may be given where a model has more rows than the file has tokens.
    """

    kind = "bpe"

    def __init__(self, definition: str, vocab_size: int | None = None) -> None:
        module = require("tokenizers", extra="text")
        try:
            self._inner: Any = module.Tokenizer.from_str(definition)
        except Exception as error:  # the package raises bare Exceptions
            raise DataError(f"not the definition of a tokenizer ({error})") from error
        known = self._inner.get_vocab_size(with_added_tokens=True)
        if vocab_size is not None and vocab_size < known:
            raise ArgumentError(f"vocab_size must be at least the {known} tokens of the file, got {vocab_size}")
        self._definition = definition
        self.vocab_size: int = vocab_size or known

    def encode(self, text: str) -> Ids:
        return np.asarray(self._inner.encode(text).ids, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=False)

    def document(self) -> dict[str, Any]:
        return {"type": self.kind, "definition": json.loads(self._definition), "vocab_size": self.vocab_size}


def load_tokenizer(path: str | Path, vocab_size: int | None = None) -> Tokenizer:
    """A tokenizer from a file: a byte-pair encoding's `tokenizer.json`, or what a run stored."""
    path = Path(path).expanduser()
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: larger than {_MAX_BYTES} bytes; is this a tokenizer?")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a tokenizer in JSON ({error})") from error
    return tokenizer_from(document, str(path), vocab_size)


def tokenizer_from(document: Any, where: str, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer that `Tokenizer.document` described, or the one of a `tokenizer.json`."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "chars" and isinstance(document.get("characters"), str):
        return CharTokenizer(document["characters"])
    if kind == "numbers" and isinstance(document.get("vocab_size"), int):
        return NumberTokenizer(document["vocab_size"])
    if kind == "bpe" and isinstance(document.get("definition"), dict):
        return BPETokenizer(json.dumps(document["definition"]), document.get("vocab_size"))
    if isinstance(document, dict) and "model" in document:
        return BPETokenizer(json.dumps(document), vocab_size)
    raise DataError(f"{where}: neither a tokenizer of Ranvier's nor a tokenizer.json with a 'model'")
