"""Runs NIR graphs in other libraries: `python peer_reader.py FOLDER PEER...`, in the peers' environment.

For every `PEER-CASE.nir` in the folder with its input `PEER-CASE-in.npy` it writes `PEER-CASE-out.npy`, or the error
as `PEER-CASE.txt`.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import nir
import numpy as np
import torch


def outputs(peer: str, graph: nir.NIRGraph, x: torch.Tensor) -> torch.Tensor:
    """Outputs of every step of sequences `[T, B, ...]`, starting from rest."""
    if peer == "sinabs":
        from sinabs.nir import from_nir

        out = from_nir(graph, num_timesteps=x.shape[0])(x.transpose(0, 1).flatten(0, 1))
        out = out[0] if isinstance(out, tuple) else out
        return out.unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)
    if peer == "norse":
        from norse.torch.utils.import_nir import from_nir

        net = from_nir(graph, dt=1e-3)
    elif peer == "snntorch":
        from snntorch.import_nir import import_from_nir

        net = import_from_nir(graph)
    else:
        from spikingjelly.activation_based.nir_exchange import import_from_nir

        net = import_from_nir(graph).eval()
    found, state = [], None
    for x_t in x:
        out = net(x_t) if state is None else net(x_t, state)
        if isinstance(out, tuple):
            out, state = out[0], out[1]
        found.append(out)
    return torch.stack(found)


if __name__ == "__main__":
    folder, peers = Path(sys.argv[1]), sys.argv[2:]
    for path in sorted(folder.glob("*.nir")):
        peer = path.stem.split("-")[0]
        if peer not in peers:
            continue
        try:
            with torch.no_grad():
                out = outputs(peer, nir.read(path), torch.from_numpy(np.load(path.with_name(f"{path.stem}-in.npy"))))
            np.save(path.with_name(f"{path.stem}-out.npy"), out.numpy())
        except Exception:
            path.with_suffix(".txt").write_text(traceback.format_exc())
