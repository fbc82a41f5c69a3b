"""Write the software bill of materials: a CycloneDX 1.5 document of the pinned dependencies, without the network.

    python scripts/sbom.py > sbom.json

Versions are the pins of `constraints.txt`; who needs what comes from `pyproject.toml`, and the licence of a package
that is installed from its own metadata. The document has no time of day: the same files give the same one.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*([^\s;#]+)")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(name: str) -> str:
    """The name as the index spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """`{name: version}` of a constraints file; a line that pins nothing is an error."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.split("#")[0].strip():
            continue
        match = _PIN.match(line.strip())
        if match is None:
            raise SystemExit(f"constraints.txt, line {number}: {line!r} does not pin a version with ==")
        found[canonical(match[1])] = match[2]
    return found


def purl(name: str, version: str) -> str:
    """The package URL."""
    return f"pkg:pypi/{name}@{version}"


def component(name: str, version: str, needed_by: list[str]) -> dict[str, Any]:
    """One dependency; `needed_by`: "required" or the extras that ask for it."""
    found: dict[str, Any] = {
        "type": "library", "bom-ref": purl(name, version), "name": name, "version": version,
        "purl": purl(name, version),
        "scope": "required" if "required" in needed_by else "optional",
    }  # fmt: skip
    licence = _licence(name)
    if licence is not None:
        found["licenses"] = [{"license": {"name": licence}}]
    if needed_by:
        found["properties"] = [{"name": "ranvier:needed-by", "value": ", ".join(needed_by)}]
    return found


def document(root: Path = ROOT) -> dict[str, Any]:
    """The bill of materials."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = pins((root / "constraints.txt").read_text(encoding="utf-8"))
    needed: dict[str, list[str]] = {}
    asked = {"required": project["dependencies"], **project.get("optional-dependencies", {})}
    for group, requirements in asked.items():
        for requirement in requirements:
            match = _NAME.match(requirement)
            if match is not None and canonical(match[0]) != project["name"] and group not in ("all",):
                needed.setdefault(canonical(match[0]), []).append(group)
    main = purl(project["name"], project["version"])
    components = [component(name, version, needed.get(name, [])) for name, version in sorted(versions.items())]
    content = json.dumps(components, sort_keys=True)
    direct = [c["bom-ref"] for c in components if c["name"] in needed]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, main + content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library", "bom-ref": main, "name": project["name"], "version": project["version"],
                "purl": main, "licenses": [{"license": {"id": project["license"]}}],
            },
            "properties": [
                {"name": "ranvier:not-pinned", "value": ", ".join(sorted(set(needed) - set(versions))) or "none"}
            ],
        },
        "components": components,
        "dependencies": [{"ref": main, "dependsOn": direct}, *({"ref": c["bom-ref"]} for c in components)],
    }  # fmt: skip


def _licence(name: str) -> str | None:
    """What an installed package says of itself."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    text = found.get("License-Expression") or found.get("License") or ""
    if text and len(text) <= 80 and "\n" not in text and text.upper() != "UNKNOWN":
        return text
    classifiers = [c.rpartition(" :: ")[2] for c in found.get_all("Classifier") or [] if c.startswith("License ::")]
    return classifiers[0] if classifiers else None


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1, ensure_ascii=False)
    print()
