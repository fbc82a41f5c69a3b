"""Every random generator that training may draw from, as tensors."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import CheckpointError

_PYTHON_WORDS = 625  # 624 words of state and the position


def seed_all(seed: int, rank: int = 0, step: int = 0) -> None:
    """Seed PyTorch (all devices), NumPy's and Python's global generators for one process (that joins at `step`)."""
    own = np.random.SeedSequence([seed, rank, step] if step else [seed, rank]).generate_state(3)
    torch.manual_seed(int(own[0]))
    np.random.seed(int(own[1]))
    random.seed(int(own[2]))


def random_state() -> dict[str, Tensor]:
    """The state of the generators of this process, as uint8 tensors."""
    _, words, position, has_gauss, gauss = np.random.get_state()  # pyright: ignore[reportAssignmentType]
    numpy_state = np.asarray(words, np.uint32).tobytes() + np.array([position, has_gauss], np.int64).tobytes()
    _, python_words, python_gauss = random.getstate()
    python_state = np.array(python_words, np.uint32).tobytes()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": _to_tensor(numpy_state + np.float64(gauss).tobytes()),
        "python": _to_tensor(python_state + np.float64(np.nan if python_gauss is None else python_gauss).tobytes()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    """Put back what `random_state` returned."""
    try:
        torch.set_rng_state(state["torch"])
        raw = state["numpy"].numpy().tobytes()
        position, has_gauss = np.frombuffer(raw, np.int64, 2, 624 * 4)
        gauss = np.frombuffer(raw, np.float64, 1, 624 * 4 + 16)[0]
        words = np.frombuffer(raw, np.uint32, 624)
        np.random.set_state(("MT19937", words, int(position), int(has_gauss), float(gauss)))
        raw = state["python"].numpy().tobytes()
        python_words = np.frombuffer(raw, np.uint32, _PYTHON_WORDS)
        python_gauss = float(np.frombuffer(raw, np.float64, 1, _PYTHON_WORDS * 4)[0])
        random.setstate((3, tuple(int(w) for w in python_words), None if np.isnan(python_gauss) else python_gauss))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the random state of the checkpoint cannot be restored ({error})") from error


def _to_tensor(raw: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(raw, np.uint8).copy())
