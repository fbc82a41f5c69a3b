"""Messages, the lossy link, trust in senders, federated averaging."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ranvier.errors import ArgumentError, DataError
from ranvier.loop import (
    Comms,
    FedAvg,
    GapFollow,
    LidarNav2D,
    Message,
    PersistenceMap,
    SectorAuction,
    SenseActLoop,
    Tick,
)
from ranvier.loop.multi import Client, message_bits, stochastic_round
from ranvier.loop.multi.message import RANGE_STEP
from ranvier.loop.sensing import build


@given(
    st.lists(st.tuples(st.integers(0, 29), st.lists(st.floats(0, 8), min_size=4, max_size=4)), max_size=30),
    st.integers(0, 255),
)
def test_messages_survive_the_wire(shared: list[tuple[int, list[float]]], sender: int) -> None:
    message = Message(
        sender,
        3.2,
        17.001,
        1.0,
        12_300,
        0.5,
        (True, False) * 15,
        tuple(s for s, _ in shared),
        tuple(tuple(r) for _, r in shared),
    )
    assert message.bits == 128 + 37 * len(shared) == message_bits(len(shared))
    wire = message.encode()
    assert len(wire) == math.ceil(message.bits / 8)
    again = Message.decode(wire)
    assert (again.sender, again.time_ms, again.intended, again.sectors) == (
        sender,
        12_300,
        message.intended,
        message.sectors,
    )
    for a, b in zip(again.ranges, message.ranges, strict=True):
        assert all(abs(x - y) <= RANGE_STEP / 2 + 1e-9 for x, y in zip(a, b, strict=True))


def test_broken_messages() -> None:
    with pytest.raises(DataError):
        Message.decode(b"123")
    with pytest.raises(DataError):
        Message.decode(b"\xff" * 21)
    with pytest.raises(ArgumentError, match="pose"):
        Message(0, math.nan, 0, 0, 0, 1, (False,) * 30, (), ())


def run(comms: Comms | None, worlds: int = 3, ticks: int = 60):
    loop = SenseActLoop(
        LidarNav2D(worlds, 3, max_ticks=ticks),
        None,
        PersistenceMap(),
        build("priority:4", gate=True),
        GapFollow(),
        None,
        comms,
        strict=True,
        trace=True,
    )
    return loop, loop.run(worlds)


def test_bits_are_exactly_those_of_the_messages() -> None:
    loop, report = run(Comms(auction=SectorAuction()))
    for row, episode in enumerate(report.episodes):
        sent = sum(1 for e in loop.ledger.trace if e.stage == "radio" and int(e.amounts["bits"][row]) > 0)
        assert episode.counts["radio"]["bits"] == sent * message_bits(4)
        assert episode.energy_nj["radio"] == 50 * episode.counts["radio"]["bits"]
    loop.ledger.check()


def test_a_dead_link_is_like_silence_but_costs() -> None:
    _, silent = run(None)
    _, lost = run(Comms(loss=1.0))
    assert [e.ticks for e in silent.episodes] == [e.ticks for e in lost.episodes]
    assert lost.energy()["radio"] > 0


def test_where_a_sender_stands_is_in_the_way() -> None:
    seen: list[torch.Tensor] = []

    def check(lp: SenseActLoop, tick: Tick) -> None:
        gap = tick.position[1] - tick.position[0]
        beam = round(float(torch.atan2(gap[1], gap[0])) / (2 * torch.pi / 120)) % 120
        seen.append(lp._bodies[0, beam] - (gap.norm() - 0.25))  # pyright: ignore[reportPrivateUsage]
        assert bool((lp._bodies[0] > 1e8).any())  # pyright: ignore[reportPrivateUsage]

    loop = SenseActLoop(LidarNav2D(1, 2, max_ticks=8), None, PersistenceMap(), build("priority:6", gate=True),
                        GapFollow(), None, Comms(), strict=True)  # fmt: skip
    loop.run(1, seed=3, on_tick=check)
    assert len(seen) == 8 and all(0 <= float(gap) < 0.01 for gap in seen)  # a beam passes near the middle


def test_liars_lose_trust_and_the_honest_keep_it() -> None:
    comms = Comms(liars=(2,))
    run(comms, worlds=6, ticks=120)
    honest = comms.trust[:, :2, :2].mean().item()
    lied_to = comms.trust[:, :2, 2].mean().item()
    assert honest > 0.8 and lied_to < 0.3


def test_auction_discounts_what_a_neighbour_has_seen() -> None:
    auction = SectorAuction()
    covered = torch.zeros(1, 1, 30, dtype=torch.bool)
    covered[..., 0] = True
    factor = auction.discount(
        torch.zeros(1, 2).double(), torch.tensor([[[-0.5, 0.0]]]).double(), covered, torch.ones(1, 1)
    )
    assert factor[0, 0] == 0.25 and factor[0, 10] == 1.0
    doubted = auction.discount(
        torch.zeros(1, 2).double(), torch.tensor([[[-0.5, 0.0]]]).double(), covered, torch.zeros(1, 1)
    )
    assert (doubted == 1).all()


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_full_clients_average_like_the_centre() -> None:
    server = net()
    clients = [Client(10), Client(30)]
    fed = FedAvg(server, clients)
    updates = [{k: v + i for k, v in server.state_dict().items()} for i in range(2)]
    expected = {k: v + 0.75 for k, v in server.state_dict().items()}
    fed.average(updates)
    for name, value in server.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6)


def test_narrow_clients_touch_their_channels_only() -> None:
    server = net()
    before = {k: v.clone() for k, v in server.state_dict().items()}
    uncut = {"0.weight": (False, True), "2.weight": (True, False), "2.bias": (True, True)}
    fed = FedAvg(server, [Client(5, width=0.5)], lambda name: uncut.get(name, (False, False)))
    part = fed.download(fed.clients[0])
    assert (part["0.weight"][4:] == 0).all() and torch.equal(part["0.weight"][:4], before["0.weight"][:4])
    fed.average([{k: v + 1 for k, v in part.items()}])
    after = server.state_dict()
    assert torch.allclose(after["0.weight"][:4], before["0.weight"][:4] + 1)
    assert torch.equal(after["0.weight"][4:], before["0.weight"][4:])
    assert torch.equal(after["2.weight"][:, 4:], before["2.weight"][:, 4:])


def test_rounding_is_unbiased_and_rounds_train() -> None:
    x = torch.randn(50).double()
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([stochastic_round(x, 4, generator) for _ in range(4000)]).mean(0)
    step = x.abs().max() / 7
    assert (mean - x).abs().max() < 5 * step / 2 / math.sqrt(4000)
    assert len(stochastic_round(x, 4, generator).unique()) <= 15
    assert stochastic_round(x, 16) is x
    data, target = torch.randn(64, 4), torch.randn(64, 2)
    server = net()

    def loss(model: nn.Module) -> torch.Tensor:
        return (model(data) - target).square().mean()

    def train(model: nn.Module, index: int, client: Client) -> None:
        for _ in range(20):
            model.zero_grad()
            loss(model).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.05 * p.grad  # pyright: ignore[reportOperatorIssue]

    before = loss(server).item()
    fed = FedAvg(server, [Client(32), Client(32, bits=8)])
    for _ in range(3):
        fed.round(train, net)
    assert loss(server).item() < before
    with pytest.raises(ArgumentError, match="bits"):
        Client(1, bits=5)
