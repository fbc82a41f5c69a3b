"""Sound files in memory."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()
