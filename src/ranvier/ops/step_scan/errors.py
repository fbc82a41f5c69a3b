"""Why a neuron cannot have a generated kernel."""

from __future__ import annotations


class CannotFuse(Exception):
    """The equations are outside what kernels are generated for; the message says where. The neuron then runs its loop."""
