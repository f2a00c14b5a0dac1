"""Simulated cines: what is the same from frame to frame, and what is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.cines import MOTIONS, simulated_cine

SIZE = 128


def _anatomy():
    rows, columns = np.indices((SIZE, SIZE)) / SIZE
    return (3.0 + 0.4 * np.sin(rows * 40 + 6 * columns) + 0.3 * np.cos(columns * 25)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), motion=st.sampled_from(MOTIONS), count=st.integers(1, 6))
def test_every_cine_has_frames_with_something_measured_and_something_hidden(seed, motion, count):
    cine = simulated_cine(_anatomy(), motion, count, seed)
    for frames in (cine.field, cine.full, cine.collimated):
        assert frames.shape == (count, SIZE, SIZE)
        assert frames.dtype == np.float32
        assert np.isfinite(frames).all()
        assert frames.min() >= -1 and frames.max() <= 1
    shares = cine.apertures.mean(axis=(1, 2))
    assert 0 < shares.min() <= shares.max() < 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_seed_gives_the_same_cine_again_and_another_seed_another(motion):
    first, again, other = (simulated_cine(_anatomy(), motion, 3, seed) for seed in (1, 1, 2))
    for name in vars(first):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.collimated, other.collimated)


def test_a_still_view_has_one_field_and_new_noise_in_each_frame():
    cine = simulated_cine(_anatomy(), "still", 4, 5)
    assert (cine.field == cine.field[0]).all()
    assert (cine.apertures == cine.apertures[0]).all()
    for frames in (cine.full, cine.collimated):
        noise = frames - frames.mean(axis=0)
        assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] + 1 / 3) < 0.1


def test_a_wire_advances_through_the_field_and_darkens_nothing_else():
    cine = simulated_cine(_anatomy(), "wire", 12, 3)
    darker = cine.field[0] - cine.field > 0.02
    shares = darker.mean(axis=(1, 2))
    assert (np.diff(shares) >= 0).all()
    assert 0 < shares[-1] < 0.05


def test_breath_moves_the_field_up_and_down_again():
    cine = simulated_cine(_anatomy(), "breathing", 61, 4)
    away = np.abs(cine.field[1:] - cine.field[0]).mean(axis=(1, 2))
    assert away.max() > 0.02
    assert away[19:].min() < 0.3 * away.max()


def test_blades_stand_and_then_step():
    cine = simulated_cine(_anatomy(), "blades", 60, 2)
    stepped = (cine.apertures[1:] != cine.apertures[:-1]).any(axis=(1, 2))
    assert 5 <= stepped.sum() <= 20
    assert (cine.field == cine.field[0]).all()
    sizes = cine.apertures.sum(axis=(1, 2))
    assert sizes.min() >= 0.85 * sizes[0]
