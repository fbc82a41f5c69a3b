"""The claims that Ranvier can run: every module of `ranvier.claims.systems` that defines `CLAIM` or `CLAIMS`, and every
plugin that does."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ranvier.claims import systems
from ranvier.claims.claim import Claim
from ranvier.errors import ArgumentError, UnknownNameError, nearest
from ranvier.plugins import load_plugins


@cache
def _all() -> dict[str, Claim]:
    found: dict[str, Claim] = {}
    own = sorted(module.name for module in pkgutil.iter_modules(systems.__path__))
    modules = [import_module(f"{systems.__name__}.{name}") for name in own]
    plugins = [module for module in load_plugins() if hasattr(module, "CLAIM") or hasattr(module, "CLAIMS")]
    for content in (*modules, *plugins):
        claims: tuple[Claim, ...] = getattr(content, "CLAIMS", None) or (content.CLAIM,)
        for claim in claims:
            if claim.name in found:
                raise ArgumentError(f"claims: two claims are called {claim.name!r}")
            found[claim.name] = claim
    return found


def list_claims() -> list[str]:
    """Names of all claims, sorted."""
    return sorted(_all())


def get_claim(name: str) -> Claim:
    """The claim of that name; `UnknownNameError` names the nearest one."""
    claims = _all()
    if name not in claims:
        raise UnknownNameError(f"claim: unknown claim {name!r}{nearest(name, claims)}")
    return claims[name]
