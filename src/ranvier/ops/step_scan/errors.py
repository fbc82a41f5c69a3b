"""Why a neuron cannot have a generated kernel."""

from __future__ import annotations


class CannotFuse(Exception):  # noqa: N818  a reason, caught inside the room; no user sees it raised
    """The equations are outside what kernels are generated for, and where; the neuron then runs its loop."""
