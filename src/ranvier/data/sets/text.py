"""Texts: any file or folder, tiny Shakespeare, enwik8, and files of tokens."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ranvier.data.bundle import DATASETS, DatasetEntry, Parts, first_existing, located
from ranvier.data.text.corpus import read_text, text_parts, tokenised
from ranvier.data.text.tokenizers import NumberTokenizer, Tokenizer, load_tokenizer
from ranvier.errors import ArgumentError, DataError

Split = tuple[float, float, float]
_ENWIK8_BYTES = 100_000_000


def load_text(
    root: Path | None,
    path: str | None = None,
    tokenizer: str = "bytes",
    tokenizer_file: str | None = None,
    vocab_size: int | None = None,
    length: int = 256,
    stride: int | None = None,
    split: Split = (0.9, 0.05, 0.05),
) -> Parts:
    """The text file `path`, or all .txt files of that folder, as windows of `length` tokens."""
    place = located("text", root, path)
    file = None if tokenizer_file is None else _beside(root, tokenizer_file)
    tokens, made = tokenised(read_text(place), tokenizer, file, place, vocab_size)
    return text_parts(tokens, made, length, stride, _shares(split))


def load_tinyshakespeare(
    root: Path | None, path: str | None = None, tokenizer: str = "chars", length: int = 256, stride: int | None = None,
    validation: float = 0.05,
) -> Parts:  # fmt: skip
    """1.1 MB of plays: the first 90 % for training and selection, the last 10 % for the test."""
    place = located("tinyshakespeare", root, path)
    tokens, made = tokenised(read_text(place), tokenizer, None, place)
    return text_parts(tokens, made, length, stride, _shares((0.9 - validation, validation, 0.1)))


def load_enwik8(
    root: Path | None, path: str | None = None, tokenizer: str = "bytes", length: int = 1024, stride: int | None = None
) -> Parts:
    """The first 10⁸ bytes of an English Wikipedia dump: 90, 5 and 5 million bytes (of tokens in these shares)."""
    place = located("enwik8", root, path)
    if place.suffix == ".zip":
        try:
            with zipfile.ZipFile(place) as archive:
                size = archive.getinfo("enwik8").file_size
                if size != _ENWIK8_BYTES:  # before it is unpacked: what says it is larger is a bomb
                    raise DataError(f"{place}: enwik8 has {_ENWIK8_BYTES:,} bytes, this file {size:,}")
                content = archive.read("enwik8")
        except (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            raise DataError(f"{place}: not a zip with the file 'enwik8' in it ({error})") from error
    else:
        content = read_text(place)
    if len(content) != _ENWIK8_BYTES:
        raise DataError(f"{place}: enwik8 has {_ENWIK8_BYTES:,} bytes, this file {len(content):,}")
    tokens, made = tokenised(content, tokenizer, None, place)
    return text_parts(tokens, made, length, stride, (0.9, 0.05, 0.05))


def load_tokens(
    root: Path | None,
    path: str | None = None,
    tokenizer_file: str | None = None,
    vocab_size: int | None = None,
    length: int = 1024,
    stride: int | None = None,
    split: Split = (0.99, 0.005, 0.005),
) -> Parts:
    """A `.npy` file of token ids (one axis of unsigned integers), read from disk as it is needed."""
    place = located("tokens", root, path)
    try:
        tokens = np.load(place, mmap_mode="r", allow_pickle=False)
        if not isinstance(tokens, np.ndarray):
            raise ValueError("an archive of arrays")
    except Exception as error:  # a broken header ends in whatever Python's own parser raises
        raise DataError(f"{place}: not a .npy file of tokens ({error})") from error
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer) or not len(tokens):
        raise DataError(f"{place}: expected one axis of integers, got shape {tokens.shape} of {tokens.dtype}")
    top = int(tokens.max())
    made: Tokenizer = NumberTokenizer(vocab_size or max(top + 1, 2))
    if tokenizer_file is not None:
        made = load_tokenizer(_beside(root, tokenizer_file), vocab_size)
    if int(tokens.min()) < 0 or top >= made.vocab_size:
        raise DataError(f"{place}: holds the token {top}, but the tokenizer has {made.vocab_size}")
    return text_parts(tokens, made, length, stride, _shares(split))


def _shares(split: Split) -> Split:
    if not isinstance(split, tuple | list) or len(split) != 3:
        raise ArgumentError(f"split must be three shares (training, selection, test), got {split!r}")
    return float(split[0]), float(split[1]), float(split[2])


def _beside(root: Path | None, name: str) -> Path:
    path = Path(name).expanduser()
    return path if root is None or path.is_absolute() else root / path


def _finder(*names: str) -> Callable[[Path | None], Path | None]:
    return lambda root: first_existing(root, *names)


_PLACES = frozenset({"path", "tokenizer_file"})
DATASETS.register("text")(
    DatasetEntry(
        kind="text", load=load_text, find=_finder(), places=_PLACES,
        how="Name a text file: data.options.path=FILE.",
    )
)  # fmt: skip
DATASETS.register("tinyshakespeare")(
    DatasetEntry(
        kind="text", load=load_tinyshakespeare, find=_finder("text/tinyshakespeare.txt", "tinyshakespeare.txt"),
        how="Put tinyshakespeare.txt (1,115,394 characters) into <data folder>/text.",
    )
)  # fmt: skip
DATASETS.register("enwik8")(
    DatasetEntry(
        kind="text", load=load_enwik8, find=_finder("text/enwik8", "enwik8", "text/enwik8.zip", "enwik8.zip"),
        how="Put enwik8 or enwik8.zip (the Hutter prize's) into <data folder>/text.",
    )
)  # fmt: skip
DATASETS.register("tokens")(
    DatasetEntry(
        kind="text", load=load_tokens, find=_finder(), places=_PLACES,
        how="Name a .npy file of token ids: data.options.path=FILE.",
    )
)  # fmt: skip
