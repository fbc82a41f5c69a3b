"""Print the lines of every room of the house and how they differ from main, so that growth is seen before it lands."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 400


def git(*arguments: str) -> str | None:
    """Standard output of a git command in the repository, or None where git or the object is missing."""
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout


def room_of(path: str) -> str:
    """The room that a file of the repository belongs to: a folder of the package, `tests`, `benchmarks`, ..."""
    parts = Path(path).parts
    if parts[:2] == ("src", "ranvier"):
        return f"ranvier/{parts[2]}" if len(parts) > 3 else "ranvier (ground floor)"
    return parts[0]


def totals(files: Iterable[tuple[str, str]]) -> Counter[str]:
    """Lines per room of (path, text) pairs."""
    rooms: Counter[str] = Counter()
    for path, text in files:
        rooms[room_of(path)] += len(text.splitlines())
    return rooms


def sources(names: Iterable[str]) -> list[str]:
    """The Python files of the rooms among `names`."""
    return [n for n in names if n.endswith(".py") and n.split("/")[0] in {"src", "tests", "benchmarks", "scripts"}]


def base_commit() -> str | None:
    """The commit to compare with: where this branch left main, or the commit before on main itself."""
    head = (git("rev-parse", "HEAD") or "").strip()
    for main in ("origin/main", "main"):
        base = (git("merge-base", "HEAD", main) or "").strip()
        if base and base != head:
            return base
    return (git("rev-parse", "--verify", "--quiet", "HEAD~1") or "").strip() or None


def main() -> int:
    here = sources(p.relative_to(ROOT).as_posix() for top in ("src", "tests", "benchmarks", "scripts")
                   for p in sorted((ROOT / top).rglob("*.py")))  # fmt: skip
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in here}
    now = totals(texts.items())
    base = base_commit()
    before: Counter[str] = Counter()
    if base:
        names = sources((git("ls-tree", "-r", "--name-only", base) or "").splitlines())
        before = totals((name, git("show", f"{base}:{name}") or "") for name in names)
    width = max(map(len, [*now, *before, "room"]))
    print(f"{'room':<{width}}  {'lines':>6}  {'change':>6}" + (f"   (against {base[:9]})" if base else ""))
    for room in sorted(now | before):
        change = now[room] - before[room] if base else 0
        print(f"{room:<{width}}  {now[room]:>6}  {change:>+6}" if change else f"{room:<{width}}  {now[room]:>6}")
    print(f"{'total':<{width}}  {now.total():>6}  {now.total() - before.total() if base else 0:>+6}")
    long = {n: c for n, t in texts.items() if n.startswith("src/") and (c := len(t.splitlines())) > LONG}
    for name, lines in long.items():
        print(f"note: {name} has {lines} lines; over {LONG} it is probably two ideas")
    return 0


if __name__ == "__main__":
    sys.exit(main())
