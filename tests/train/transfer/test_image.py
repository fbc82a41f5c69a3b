"""The value channel, and images in the shape of events."""

from __future__ import annotations

import colorsys

import pytest
import torch

from ranvier.errors import ArgumentError, ShapeError
from ranvier.train.transfer import StaticToEvent, value_channel


def test_value_is_that_of_colorsys() -> None:
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    found = value_channel(images)
    assert torch.equal(found, images.amax(1, keepdim=True))
    for b, i, j in ((0, 0, 0), (1, 3, 4), (0, 2, 1)):
        assert colorsys.rgb_to_hsv(*images[b, :, i, j].tolist())[2] == float(found[b, 0, i, j])


def test_grey_images_stay() -> None:
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(value_channel(grey), grey)
    assert torch.equal(value_channel(grey.expand(-1, 3, -1, -1)), grey)
    torch.testing.assert_close(value_channel(grey.expand(-1, 3, -1, -1), "grey"), grey)


def test_blue_is_the_last_channel() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(value_channel(images, "blue"), images[:, 2:])


def test_constant_over_steps_and_polarities() -> None:
    images = torch.rand(3, 3, 8, 8)
    found = StaticToEvent(5, 2, 12)(images)
    assert found.shape == (5, 3, 2, 12, 12)
    assert torch.equal(found, found[:1, :, :1].expand_as(found))
    kept = StaticToEvent(2)(images)
    assert torch.equal(kept[1, :, 0], images.amax(1))


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="1 or 3"):
        value_channel(torch.rand(2, 2, 4, 4))
    with pytest.raises(ArgumentError, match="channel"):
        value_channel(torch.rand(2, 3, 4, 4), "red")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match=r"\[0, 1\]"):
        StaticToEvent(2)(torch.full((1, 3, 2, 2), 255.0))
    with pytest.raises(ArgumentError, match="T must"):
        StaticToEvent(0)
