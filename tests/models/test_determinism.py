"""The same seed and the same input give the same numbers, twice and with another number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def passed(
    make: Callable[..., nn.Module], given: Callable[..., Tensor], name: str, count: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Initial weights; then output, gradients and statistics of one training pass with `count` threads."""
    torch.set_num_threads(count)
    torch.manual_seed(7)
    net: Any = make(name).double().train()
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    out = net(given(net, None, 3))
    out.float().square().mean().backward()
    found = {"out": out.detach(), **{name: p.grad for name, p in net.named_parameters() if p.grad is not None}}
    return weights, found | {name: b.clone() for name, b in net.named_buffers()}


def test_the_same_twice_and_with_two_threads(
    small: Callable[..., nn.Module], random_input: Callable[..., Tensor], architecture: str
) -> None:
    first, again = (passed(small, random_input, architecture, 1) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.keys() == other.keys() and len(one) > 1
        for name in one:
            assert torch.equal(one[name], other[name]), name
    one, two = first[1], passed(small, random_input, architecture, 2)[1]
    for name in one:  # sums may be taken in another order, which flips no spike in float64
        torch.testing.assert_close(one[name], two[name], rtol=1e-8, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
