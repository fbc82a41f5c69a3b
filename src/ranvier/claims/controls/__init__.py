"""Conventional networks that claims compare with, at equal size."""

from __future__ import annotations
