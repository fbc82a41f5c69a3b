from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ranvier.encode.cochlea import BasilarMembrane, BushyCell, Cochlea, HairCell
from ranvier.encode.cochlea.encoder import BLOCK, TAPS
from ranvier.encode.cochlea.membrane import hankel0
from ranvier.encode.cochlea.numba_nerve import run, seed_streams
from ranvier.errors import ArgumentError, DataError, RanvierError

RATE = 24000


def tone(frequency: float, seconds: float = 0.3) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


# membrane


def test_the_phase_of_the_wave_is_the_integral_of_its_wave_number() -> None:
    membrane = BasilarMembrane()
    omega = 2 * np.pi * np.array([60.0, 300.0, 1000.0, 5000.0])[:, None]
    x = np.linspace(0, 3.5, 70_001)
    number = omega * np.sqrt(membrane.rho / (membrane.height * membrane.impedance(omega, x[None])))
    integral = np.concatenate([np.zeros((4, 1)), np.cumsum((number[:, 1:] + number[:, :-1]) / 2, 1)], 1) * (x[1] - x[0])
    expected = 2 * number[:, :1] / membrane.alpha + integral
    there = [10_000, 35_000, 70_000]
    np.testing.assert_allclose(membrane.wave_phase(omega, x[None, there]), expected[:, there], rtol=2e-6)


def test_hankel_function_is_scipys() -> None:
    from scipy import special

    z = np.linspace(0.01, 80, 300)[:, None] + 1j * np.linspace(0, 30, 20)
    np.testing.assert_allclose(hankel0(z), special.hankel1(0, z), rtol=1e-7)


def test_each_frequency_has_its_place_where_stiffness_and_mass_balance() -> None:
    membrane = BasilarMembrane()
    frequency = np.array([200.0, 500.0, 1000.0, 2000.0, 4000.0])
    omega = 2 * np.pi * frequency
    best = membrane.places(700)[np.abs(membrane.velocity(omega, membrane.places(700)[:, None])).argmax(0)]
    resonance = np.log(membrane.c0 / (membrane.a + membrane.mass * omega**2)) / membrane.alpha
    assert (np.diff(best) < 0).all()
    assert (best < resonance).all() and (best > resonance - 0.15).all()  # the wave peaks just before it


def test_the_causal_wave_comes_after_the_sound_and_the_published_one_before() -> None:
    for phase, early in (("causal", True), ("published", False)):
        response = BasilarMembrane(phase=phase).filters(8, RATE, TAPS)  # pyright: ignore[reportArgumentType]
        energy = np.fft.irfft(response[1:], axis=1) ** 2
        after = energy[:, : TAPS // 2].sum(1) / energy.sum(1)
        assert (after > 0.98).all() if early else (after < 0.25).all()
        delay = energy[:, : TAPS // 2].argmax(1) if early else TAPS - energy[:, TAPS // 2 :].argmax(1) - TAPS // 2
        assert (np.diff(delay) > 0).all()  # low frequencies, far from the base, are further away in time


def test_long_sounds_are_filtered_in_blocks_without_seams() -> None:
    ear = Cochlea(channels=5, level=None, ramp=0.0)
    sound = np.random.default_rng(0).normal(size=2 * BLOCK + 77)
    velocity = ear.velocity(sound, RATE)
    taps = np.fft.irfft(ear.membrane.filters(5, RATE, TAPS).astype(np.complex128), TAPS, axis=1)
    for c in range(5):
        kernel = np.roll(taps[c], 256)
        whole = np.convolve(sound, kernel)[256 : 256 + len(sound)]
        np.testing.assert_allclose(velocity[:, c], whole, atol=2e-5 * np.abs(whole).max())


# hair cells and bushy cells


def test_a_hair_cell_rests_in_silence_at_the_published_rate() -> None:
    firing = HairCell().firing(np.zeros((500, 2)), RATE)
    np.testing.assert_allclose(firing * RATE, 64.7656, rtol=1e-4)


def kernel_state(channels: int, cell: HairCell, fibres: int, pause: int, seed: int = 3) -> tuple[Any, ...]:
    hair = np.empty((4, channels), np.float32)
    hair[:3] = np.array(cell.rest())[:, None]
    streams = np.empty(channels, np.uint64)
    seed_streams(np.uint64(seed), streams)
    return (
        hair, np.zeros((2, channels)), np.zeros(channels, np.int64), np.zeros((pause, channels), np.uint8),
        np.full(channels, fibres, np.int64), streams,
    )  # fmt: skip


def test_the_kernel_is_the_two_definitions_one_after_the_other() -> None:
    rng = np.random.default_rng(1)
    velocity = (40 * rng.normal(size=(3000, 6))).astype(np.float32)
    cell, bushy = HairCell(), BushyCell()
    pause, steps = bushy.refractory_samples(RATE), cell.steps(RATE).astype(np.float32)
    out = np.empty(10_000, np.int64), np.empty(10_000, np.uint16)
    arrivals, firing = np.empty((3000, 6), np.int64), np.empty((3000, 6))
    state = kernel_state(6, cell, 40, pause)
    alone = np.array([1.0, 0.0, 0.0])  # the current forgets at once and drives nothing: it is the number of arrivals
    for t in range(3000):
        run(velocity[t : t + 1], t, steps, alone, pause, 40, *state, *out)
        firing[t], arrivals[t] = state[0][3], state[1][1]
    np.testing.assert_allclose(firing, cell.firing(velocity, RATE), rtol=2e-3)
    expected = bushy.spikes(arrivals, RATE)
    state = kernel_state(6, cell, 40, pause)
    found = run(velocity, 0, steps, bushy.steps(RATE), pause, 40, *state, *out)
    spikes = np.zeros((3000, 6), np.bool_)
    spikes[out[0][:found], out[1][:found]] = True
    assert found > 20 and spikes.sum() == found
    np.testing.assert_array_equal(spikes, expected)


def test_fibres_fire_at_the_rate_of_a_renewal_process_with_a_pause() -> None:
    pause, fibres, p = 24, 40, 0.02
    state = kernel_state(400, HairCell(), fibres, pause)
    # A cell of constant c: nothing moves, so that every fibre fires with the probability p when it can.
    frozen = np.array([0, 0, 0, 0, 0, p / HairCell().rest()[1], 5, 300, 1], np.float32)
    counting = np.array([1.0, 1.0, 0.0])  # the current keeps everything
    out = np.empty(400, np.int64), np.empty(400, np.uint16)
    run(np.zeros((4000, 400), np.float32), 0, frozen, counting, pause, fibres, *state, *out)
    counts = state[1][1] / 4000
    mean, variance = 1 / p + pause - 1, (1 - p) / p**2  # of the interval
    assert counts.mean() == pytest.approx(fibres / mean, rel=0.01)
    spread = np.sqrt(fibres * variance / mean**3 / 4000)
    assert counts.std() == pytest.approx(spread, rel=0.15)


def test_streams_of_random_numbers_belong_to_their_channel() -> None:
    few, many = np.empty(3, np.uint64), np.empty(9, np.uint64)
    seed_streams(np.uint64(7), few)
    seed_streams(np.uint64(7), many)
    np.testing.assert_array_equal(few, many[:3])
    assert len(set(many.tolist())) == 9


# the whole ear


def test_spikes_follow_the_tone() -> None:
    ear = Cochlea(channels=70)
    peaks = []
    for frequency in (300, 1000, 3000):
        train = ear(tone(frequency), RATE)
        assert train.channels == 70 and train.duration == pytest.approx(0.3)
        assert (np.diff(train.times) >= 0).all() and train.times[-1] < 0.3
        counts = np.bincount(train.units, minlength=70)
        peaks.append(int(counts.argmax()))
    assert peaks[0] > peaks[1] > peaks[2]
    place = np.log(1e9 / (0.05 * (2 * np.pi * 1000) ** 2)) / 3 / 3.5 * 70
    assert peaks[1] == pytest.approx(place, abs=4)


def test_refractory_and_repeatable_and_of_any_rate() -> None:
    ear = Cochlea(channels=40)
    sound = np.random.default_rng(2).normal(size=4000)
    train, again, other = ear(sound, 8000, seed=5), ear(torch.from_numpy(sound), 8000, seed=5), ear(sound, 8000, seed=6)
    np.testing.assert_array_equal(train.times, again.times)
    np.testing.assert_array_equal(train.units, again.units)
    assert len(train) != len(other) or (train.times != other.times).any()
    assert 100 < len(train) < 40 * 0.5 * 1000
    for unit in range(40):
        assert (np.diff(train.times[train.units == unit]) >= 1e-3 - 1e-9).all()
    loud = ear(100 * sound, 8000, seed=5)  # the level is set
    assert len(loud) == pytest.approx(len(train), rel=0.02)


@pytest.mark.parametrize(
    ("sound", "rate", "said"),
    [
        (np.zeros(0), 8000, "is empty"),
        (np.zeros(100), 8000, "100 samples is silent"),
        (np.array([0.1, np.nan]), 8000, "sample 1: nan"),
        (np.zeros((2, 100)), 8000, "of one channel"),
        (np.ones(10, np.complex64), 8000, "real numbers"),
        (np.ones(10), 0, "rate must be samples a second"),
    ],
)
def test_bad_sound(sound: np.ndarray, rate: int, said: str) -> None:
    with pytest.raises(RanvierError, match=said) as caught:
        Cochlea(channels=2)(sound, rate)
    assert isinstance(caught.value, DataError | ArgumentError)


def test_bad_arguments() -> None:
    for make, said in (
        (lambda: Cochlea(channels=0), "channels must be an integer from 1"),
        (lambda: Cochlea(level=-1), "level"),
        (lambda: Cochlea(ramp=-1), "ramp"),
        (lambda: BasilarMembrane(alpha=0), "alpha must be a positive number"),
        (lambda: BasilarMembrane(phase="late"), "phase must be"),  # pyright: ignore[reportArgumentType]
        (lambda: BushyCell(fibres=300), "fibres must be"),
        (lambda: HairCell(h=float("inf")), "h must be"),
        (lambda: Cochlea(channels=2)(tone(500), RATE, seed=-1), "seed must be"),
    ):
        with pytest.raises(ArgumentError, match=said):
            make()
