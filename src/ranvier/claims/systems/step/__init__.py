"""The findings of STEP, each with the controls that its grid lacks."""

from __future__ import annotations

from ranvier.claims.systems.step.attention import RANDOM_ATTENTION
from ranvier.claims.systems.step.encodings import ENCODINGS
from ranvier.claims.systems.step.energy import ENERGY
from ranvier.claims.systems.step.neurons import NEURONS, SURROGATES
from ranvier.claims.systems.step.sequences import SEQUENCES
from ranvier.claims.systems.step.stems import STEMS
from ranvier.claims.systems.step.temporal import TEMPORAL

CLAIMS = (STEMS, RANDOM_ATTENTION, ENCODINGS, NEURONS, SURROGATES, SEQUENCES, ENERGY, TEMPORAL)
