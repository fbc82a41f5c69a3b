"""Safetensors files piece by piece: a checkpoint is not in memory a second time, and is hashed while it is written."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import IO

import torch
from torch import Tensor

from ranvier.errors import CheckpointError

# Names of the dtypes in the order in which tensors lie in a file: the widest first, so that all of them are aligned.
_DTYPES = {
    torch.uint64: "U64", torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.uint32: "U32",
    torch.int32: "I32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint16: "U16", torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
_ORDER = {dtype: place for place, dtype in enumerate(_DTYPES)}
# A system copies a gigabyte in one call ten times as slowly as in pieces that stay in its caches.
_PIECE = 1 << 20


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file that `safetensors.torch.save` makes of contiguous copies on the CPU, in order."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"tensor {name!r} cannot be written: safetensors has no {tensor.dtype}")
    ordered = sorted(tensors.items(), key=lambda entry: (_ORDER[entry[1].dtype], entry[0].encode()))
    table, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        table[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    head = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little") + head
    for _, tensor in ordered:
        if tensor.numel():
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            if sys.byteorder == "big":
                flat = flat.reshape(-1, tensor.element_size())[:, ::-1].reshape(-1)
            for begin in range(0, len(flat), _PIECE):
                yield flat[begin : begin + _PIECE].data


def write_tensors(file: IO[bytes], tensors: Mapping[str, Tensor]) -> str:
    """Write them to an open file; returns the SHA-256 of what was written."""
    digest = hashlib.sha256()
    for piece in pieces(tensors):
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest()
