"""Arrays, images, sounds, meshes and sweeps: one sample or one table a file."""

from __future__ import annotations

import gzip
import io
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.targets.alone import alone


def idx() -> bytes:
    return struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 6) + bytes(range(120))


def wav(frames: int = 400) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(np.arange(frames, dtype="<i2").tobytes())
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def image(kind: str, size: int = 12) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def off() -> bytes:
    return b"OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def sweep(channels: int = 4) -> bytes:
    return np.linspace(-5, 5, 40 * channels, dtype="<f4").tobytes()


def spikes() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as writer:
        times = writer.create_dataset("spikes/times", 3, h5py.vlen_dtype(np.float16))
        units = writer.create_dataset("spikes/units", 3, h5py.vlen_dtype(np.uint16))
        for i in range(3):
            times[i] = np.linspace(0, 0.5, 5 + i)
            units[i] = np.arange(5 + i)
        writer["labels"] = np.arange(3, dtype=np.uint16)
    return file.getvalue()


def _read_idx(path: Path) -> object:
    from ranvier.data.idx import read_idx

    return read_idx(path, 3)


def _read_wav(path: Path) -> object:
    from ranvier.data.audio.wav import read_wav

    return read_wav(path.read_bytes(), str(path))


def _read_spikes(path: Path) -> object:
    from ranvier.data.audio.spike_file import read_spike_file

    return read_spike_file(path)


def _read_image(path: Path) -> object:
    from ranvier.data.images import decode

    return decode(path.read_bytes(), str(path))


def _read_off(path: Path) -> object:
    from ranvier.data.points.off import read_off, sample_surface

    return sample_surface(read_off(path.read_bytes(), str(path)), 16, 0)


def _read_sweep(path: Path) -> object:
    from ranvier.data.points.lidar import read_sweep

    return read_sweep(path, 5 if "nuscenes" in path.name else 4)


def _read_labels(path: Path) -> object:
    from ranvier.data.points.lidar import read_semantic_labels

    return read_semantic_labels(path)


def _read_responses(path: Path) -> object:
    from ranvier.circuits import load_recordings

    return load_recordings(path)


def _read_regression(path: Path) -> object:
    from ranvier.diffusion import CascadePolynomialRegression

    return CascadePolynomialRegression.load(path)


def _responses() -> bytes:
    values = np.random.default_rng(0).random((2, 13, 21))
    return npz(uniform=values, biased=values, p_adapt=np.array([0.3, 0.5]))


TARGETS = (
    alone("idx", "images-idx3-ubyte", idx, _read_idx),
    alone("idx.gz", "images-idx3-ubyte.gz", lambda: gzip.compress(idx()), _read_idx),
    alone("wav", "sound.wav", wav, _read_wav),
    alone("spikes.h5", "spikes.h5", spikes, _read_spikes),
    *(alone(f"image.{kind.lower()}", f"picture.{kind.lower()}", lambda kind=kind: image(kind), _read_image)
      for kind in ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")),
    alone("mesh.off", "shape.off", off, _read_off, text=True),
    alone("sweep.bin", "sweep.bin", sweep, _read_sweep),
    alone("sweep.nuscenes.bin", "nuscenes.bin", lambda: sweep(5), _read_sweep),
    alone("semantic.label", "000000.label",
          lambda: np.array([0, 10, 40, 252, 99] * 8, "<u4").tobytes(), _read_labels),
    alone("responses.npz", "responses.npz", _responses, _read_responses),
    alone("regression.npy", "regression.npy", lambda: npy(np.linspace(-1, 1, 36)), _read_regression),
)  # fmt: skip
