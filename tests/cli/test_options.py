from __future__ import annotations

import pytest

from ranvier.cli.options import key_values
from ranvier.errors import ConfigError


def test_values_are_what_they_look_like() -> None:
    given = ["T=4", "lr=1e-3", "neuron.type=plif", "neuron.tau=2.5", "hidden=[8, 16]", "flag=true", "none=", "text=a=b"]
    assert key_values(given) == {
        "T": 4, "lr": 0.001, "neuron": {"type": "plif", "tau": 2.5}, "hidden": [8, 16], "flag": True, "none": None,
        "text": "a=b",
    }  # fmt: skip
    assert key_values(None) == {}


@pytest.mark.parametrize(
    "wrong", [["T"], ["=4"], ["a..b=1"], ["a=1", "a.b=2"], ["a=[1"], ["a=!!python/name:os.system"]]
)
def test_wrong_arguments_name_themselves(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match="argument"):
        key_values(wrong)
