"""The bill of materials has what CycloneDX 1.5 asks for, and every pin."""

from __future__ import annotations

import importlib.util
import json
import re
import uuid
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document(sbom: ModuleType) -> None:
    found = json.loads(json.dumps(sbom.document()))
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", found["serialNumber"])
    uuid.UUID(found["serialNumber"].removeprefix("urn:uuid:"))
    assert found["metadata"]["component"]["name"] == "ranvier"
    refs = [c["bom-ref"] for c in found["components"]]
    assert len(refs) == len(set(refs))
    for c in found["components"]:
        assert c["type"] == "library" and c["scope"] in ("required", "optional")
        assert c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" == c["bom-ref"]
        for entry in c.get("licenses", []):
            assert entry["license"]["name"]
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line.split("#")[0]]
    assert len(refs) == len(pinned) >= 40
    by_name = {c["name"]: c for c in found["components"]}
    assert by_name["torch"]["scope"] == "required" and by_name["ruff"]["scope"] == "optional"
    links = {d["ref"]: d.get("dependsOn", []) for d in found["dependencies"]}
    assert set(links) == {*refs, found["metadata"]["component"]["bom-ref"]}
    assert by_name["torch"]["bom-ref"] in links[found["metadata"]["component"]["bom-ref"]]
    assert found == json.loads(json.dumps(sbom.document()))  # no time of day in it


def test_a_line_that_pins_nothing_is_refused(sbom: ModuleType) -> None:
    assert sbom.pins("# a\n\nTorch_X==1.2.3  # why\n") == {"torch-x": "1.2.3"}
    with pytest.raises(SystemExit, match="line 2"):
        sbom.pins("a==1\nb>=2\n")
