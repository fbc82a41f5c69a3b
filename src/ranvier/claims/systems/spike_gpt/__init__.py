"""The claims of SpikeGPT (Zhu et al., TMLR 2024)."""

from __future__ import annotations

from ranvier.claims.systems.spike_gpt import cost, recall, streaming, text

CLAIMS = (text.CLAIM, recall.CLAIM, streaming.CLAIM, cost.CLAIM)
