"""Nothing public changes by accident. A change that is meant: `python scripts/public_api.py > tests/public_api.txt`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_public_names_and_signatures() -> None:
    spec = importlib.util.spec_from_file_location("public_api", ROOT / "scripts" / "public_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    now, kept = set(module.lines()), set((ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").splitlines())
    assert len(kept) > 300
    told = [f"- {line}" for line in sorted(kept - now)] + [f"+ {line}" for line in sorted(now - kept)]
    assert not told, "the public interface differs from tests/public_api.txt:\n" + "\n".join(told)
