"""The claims of SPAM (Huang et al., ICLR 2025) and Stable-SPAM."""

from __future__ import annotations

from ranvier.claims.systems.spam import characters, forecasting, quadratics, silent

CLAIMS = (
    quadratics.SPIKES, quadratics.ISOLATED, characters.CORRUPTED, characters.SWEPT, forecasting.CLAIM, silent.CLAIM,
)  # fmt: skip
