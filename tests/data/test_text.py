"""Tokenizers and windows of text."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranvier.data import load, loader
from ranvier.data.sets import text as sets
from ranvier.data.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    NumberTokenizer,
    TextWindows,
    Tokenizer,
    load_tokenizer,
    tokenizer_from,
)
from ranvier.errors import ArgumentError, DataError

WORDS = "naïve café 雪 \U0001f600 end"


def bpe_definition() -> str:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([WORDS * 5, "the quick brown fox " * 5], trainer)
    return made.to_str()


def every_tokenizer() -> list[Tokenizer]:
    return [ByteTokenizer(), CharTokenizer(WORDS), BPETokenizer(bpe_definition())]


def test_text_survives() -> None:
    for tokenizer in every_tokenizer():
        ids = tokenizer.encode(WORDS)
        assert ids.dtype == np.int64 and 0 <= ids.min() <= ids.max() < tokenizer.vocab_size == len(tokenizer.names())
        assert tokenizer.decode(ids) == WORDS
        feed = tokenizer.feed()
        assert "".join(feed.push(i) for i in ids) == WORDS
        again = tokenizer_from(json.loads(json.dumps(tokenizer.document())), "here")
        assert np.array_equal(again.encode(WORDS), ids) and again.vocab_size == tokenizer.vocab_size


def test_long_feeds_of_pairs() -> None:
    tokenizer = BPETokenizer(bpe_definition())
    text = (WORDS + " the quick brown fox ") * 4
    feed = tokenizer.feed()
    assert "".join(feed.push(i) for i in tokenizer.encode(text)) == text


def test_from_files(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(bpe_definition())
    found = load_tokenizer(path, vocab_size=400)
    assert found.vocab_size == 400 and found.decode(found.encode(WORDS)) == WORDS
    with pytest.raises(ArgumentError, match="vocab_size must be at least"):
        load_tokenizer(path, vocab_size=3)
    for content, words in (
        ("{}", "neither a tokenizer"),
        ("{", "not a tokenizer in JSON"),
        ('{"model": 3}', "not the def"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            load_tokenizer(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_tokenizer(tmp_path / "none.json")


def test_foreign_characters() -> None:
    with pytest.raises(ArgumentError, match="the character 'x' is not one of the 3 characters"):
        CharTokenizer("abc").encode("abxc")
    with pytest.raises(ArgumentError, match="empty"):
        CharTokenizer("")
    assert NumberTokenizer(9).encode("3 8").tolist() == [3, 8]
    for text in ("3 x", "9"):
        with pytest.raises(ArgumentError):
            NumberTokenizer(9).encode(text)


def test_windows() -> None:
    windows = TextWindows(np.arange(11, dtype=np.uint16), length=3)
    assert len(windows) == 3
    x, y = windows.batch([2, 0])
    assert x.T.tolist() == [[6, 7, 8], [0, 1, 2]] and y.tolist() == [[7, 8, 9], [1, 2, 3]]
    assert x.dtype == y.dtype == torch.int64
    assert [t.tolist() for t in windows[-1]] == [[6, 7, 8], [7, 8, 9]]
    assert len(TextWindows(np.arange(11), 3, stride=1)) == 8
    assert len(TextWindows(np.arange(4), 3)) == 1
    with pytest.raises(ArgumentError, match="do not fit"):
        TextWindows(np.arange(3), 3)
    with pytest.raises(ArgumentError, match="stride"):
        TextWindows(np.arange(9), 3, 0)
    batches = list(loader(windows, 2, shuffle=True, seed=1))
    assert [tuple(x.shape) for x, _ in batches] == [(3, 2), (3, 1)]


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe"])
def test_a_file_in_parts(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(WORDS * 40)
    options: dict[str, Any] = {"path": "a.txt", "tokenizer": tokenizer, "length": 8, "split": (0.5, 0.25, 0.25)}
    if tokenizer == "bpe":
        (tmp_path / "t.json").write_text(bpe_definition())
        options["tokenizer_file"] = "t.json"
    found = load("text", tmp_path, **options)
    assert found.kind == "text" and found.input_shape == (8,) and found.tokenizer is not None
    assert found.num_classes == found.tokenizer.vocab_size
    read = [part.tokens for part in (found.train, found.validation, found.test)]
    assert found.tokenizer.decode(np.concatenate(read).tolist()) == WORDS * 40
    assert load("text", tmp_path, **options).fingerprint == found.fingerprint
    assert load("text", tmp_path, **{**options, "length": 9}).fingerprint != found.fingerprint
    small = load("text", tmp_path, train_size=2, **options)
    assert len(small.train) == 2 and small.input_shape == (8,)


def test_a_folder_and_bad_files(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    with pytest.raises(DataError, match="no text"):
        load("text", tmp_path, path="books")
    (folder / "b.txt").write_text("second " * 30)
    (folder / "a.txt").write_text("first " * 30)
    assert load("text", tmp_path, path="books", length=4).train[0][0].tolist() == list(b"firs")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="the text is empty"):
        load("text", tmp_path, path="empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(DataError, match="not UTF-8"):
        load("text", tmp_path, path="latin.txt", tokenizer="chars")
    assert load("text", tmp_path, path="latin.txt", length=4).num_classes == 256
    for options in ({"tokenizer": "words"}, {"tokenizer": "bpe"}, {"split": (0.5, 0.5)}, {"split": (0.5, 0.4, 0.4)}):
        with pytest.raises(ArgumentError):
            load("text", tmp_path, path="latin.txt", length=4, **options)
    with pytest.raises(DataError, match=r"data\.options\.path"):
        load("text", tmp_path)


def test_enwik8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enwik8").write_bytes(b"abcd" * 100)
    with pytest.raises(DataError, match="100,000,000 bytes"):
        load("enwik8", tmp_path)
    monkeypatch.setattr(sets, "_ENWIK8_BYTES", 400)
    found = load("enwik8", tmp_path, length=5)
    assert [len(p.tokens) for p in (found.train, found.validation, found.test)] == [360, 20, 20]
    (tmp_path / "enwik8").unlink()
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
        archive.writestr("enwik8", b"abcd" * 100)
    assert load("enwik8", tmp_path, length=5).fingerprint == found.fingerprint
    (tmp_path / "enwik8.zip").write_bytes((tmp_path / "enwik8.zip").read_bytes()[:50])
    with pytest.raises(DataError, match="not a zip"):
        load("enwik8", tmp_path, length=5)


def test_token_files(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(1000, dtype=np.uint16) % 50)
    found = load("tokens", tmp_path, path="t.npy", length=4, split=(0.8, 0.1, 0.1))
    assert found.num_classes == 50 and isinstance(found.train.tokens, np.ndarray)
    assert load("tokens", tmp_path, path="t.npy", length=4, vocab_size=60, split=(0.8, 0.1, 0.1)).num_classes == 60
    (tmp_path / "t.json").write_text('{"type": "chars", "characters": "ab"}')
    with pytest.raises(DataError, match="holds the token 49"):
        load("tokens", tmp_path, path="t.npy", tokenizer_file="t.json")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "f.npy", np.ones(5))
    for name in ("o.npy", "f.npy", "t.json"):
        with pytest.raises(DataError):
            load("tokens", tmp_path, path=name)


def test_tiny_shakespeare(ranvier_data: Path) -> None:
    found = load("tinyshakespeare", ranvier_data)
    assert found.num_classes == 65
    parts = [part.tokens for part in (found.train, found.validation, found.test)]
    assert sum(map(len, parts)) == 1_115_394 and len(parts[2]) == 111_539
    assert found.tokenizer is not None and found.tokenizer.decode(parts[0][:13].tolist()) == "First Citizen"
