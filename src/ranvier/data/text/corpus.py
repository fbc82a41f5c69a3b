"""A text, its tokenizer, and its cut into parts for training, selection and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.data.bundle import Parts
from ranvier.data.cache import digest
from ranvier.data.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, load_tokenizer
from ranvier.data.text.windows import TextWindows
from ranvier.errors import ArgumentError, DataError

TOKENIZERS = ("bytes", "chars", "bpe")


def read_text(path: Path) -> bytes:
    """The bytes of a text file, or of all `.txt` files of a folder in the order of their names, a line feed between."""
    files = sorted(path.glob("**/*.txt")) if path.is_dir() else [path]
    try:
        content = b"\n".join(file.read_bytes() for file in files)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise DataError(f"{path}: the text is empty" if not path.is_dir() else f"{path}: holds no text in .txt files")
    return content


def tokenised(
    content: bytes, tokenizer: str, tokenizer_file: Path | None, where: Path, vocab_size: int | None = None
) -> tuple[NDArray[np.integer], Tokenizer]:
    """The tokens of a text and the tokenizer that made them.

    Args:
        tokenizer: "bytes", "chars" (every character of this text is a token) or "bpe" from `tokenizer_file`.
    """
    if tokenizer not in TOKENIZERS:
        raise ArgumentError(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {tokenizer!r}")
    if (tokenizer == "bpe") != (tokenizer_file is not None):
        raise ArgumentError("tokenizer='bpe' goes with a tokenizer_file, and only that")
    if tokenizer == "bytes":
        return np.frombuffer(content, np.uint8), ByteTokenizer()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start}); use tokenizer='bytes'") from error
    made = CharTokenizer(text) if tokenizer_file is None else load_tokenizer(tokenizer_file, vocab_size)
    tokens = made.encode(text)
    return tokens.astype(np.uint16 if made.vocab_size <= 1 << 16 else np.int32), made


def text_parts(
    tokens: NDArray[np.integer], tokenizer: Tokenizer, length: int, stride: int | None,
    shares: tuple[float, float, float],
) -> Parts:  # fmt: skip
    """Windows of the first share for training, of the next for selection (may be 0), of the last for the test.

    Training windows start every `stride` tokens (every `length` by default), the others follow each other.
    """
    if min(shares) < 0 or not shares[0] or not shares[2] or abs(sum(shares) - 1) > 1e-9:
        raise ArgumentError(
            f"split must be three shares of the text that add up to 1, of which the middle one may be 0, got {shares}"
        )
    ends = [round(len(tokens) * end) for end in (shares[0], shares[0] + shares[1])]
    train, validation, test = tokens[: ends[0]], tokens[ends[0] : ends[1]], tokens[ends[1] :]
    content = digest(np.asarray(tokens))
    return Parts(
        train=TextWindows(train, length, stride), test=TextWindows(test, length),
        classes=tokenizer.names(), content=content, tokenizer=tokenizer,
        validation=TextWindows(validation, length) if len(validation) else None,
    )  # fmt: skip
