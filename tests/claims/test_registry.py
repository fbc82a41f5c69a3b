"""Every claim of the library is complete."""

from __future__ import annotations

import pytest

from ranvier.claims import get_claim, list_claims


@pytest.mark.parametrize("name", list_claims())
def test_every_claim_says_what_it_is(name: str) -> None:
    claim = get_claim(name)
    for text in (claim.title, claim.paper, claim.statement, claim.question, claim.data, claim.system):
        assert text.strip()
    quick = claim.scales["quick"]
    assert len(set(quick.seeds)) == len(quick.seeds) > 0
    assert 0 < quick.minutes <= 60
    assert all(rule.text() for rule in claim.rules)
    assert any(rule.essential for rule in claim.rules)
