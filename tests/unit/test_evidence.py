"""What all frames of a cine tell of each: more than one frame does where nothing moves, and never less."""

import errno
import os
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from config.errors import StorageFull, StorageUnavailable
from inference.evidence import MOST_FRAMES, NEVER, gather

SIDE = 256
WINDOW = (slice(80, 180), slice(70, 190))
QUIET, LOUD = 0.01, 0.2


def anatomy():
    rows, columns = np.indices((SIDE, SIDE), dtype=np.float32)
    return (0.3 * np.sin(rows / 9 + columns / 31) + 0.2 * np.cos(columns / 12)).astype(np.float32)


def window(*, right=0, count=1):
    apertures = np.zeros((count, SIDE, SIDE), bool)
    apertures[(slice(None), *WINDOW)] = True
    return np.roll(apertures, right, axis=2)


def expose(views, apertures, seed=0):
    """Views with much noise behind the blades and little in the aperture."""
    noise = np.random.default_rng(seed).standard_normal((len(apertures), SIDE, SIDE), np.float32)
    return (views + noise * np.where(apertures, QUIET, LOUD)).astype(np.float32)


def gathered(frames, apertures, own_size=None, chunk=8):
    """All evidence of a cine as whole arrays: pictures, known, numbers of frames, seen_in."""
    own_size = apertures if own_size is None else own_size
    parts = list(gather(lambda start, stop: frames[start:stop], own_size, apertures, chunk=chunk))
    assert [part.first for part in parts] == list(range(0, len(frames), chunk))
    names = ("pictures", "apertures", "frames", "seen_in")
    return tuple(np.concatenate([getattr(part, name) for part in parts]) for name in names)


def deep(hidden):
    return ndimage.binary_erosion(hidden, iterations=40, border_value=1)


def test_one_frame_is_evidence_of_itself_alone():
    apertures = window()
    frames = expose(anatomy(), apertures)
    pictures, known, numbers, seen_in = gathered(frames, apertures)
    assert np.array_equal(pictures, frames)
    assert np.array_equal(known, apertures)
    assert (numbers == 1).all()
    assert (seen_in == NEVER).all()


@pytest.mark.parametrize("count", [2, 4, 16, 100])
def test_a_still_view_is_averaged_and_its_frames_counted(count):
    apertures = window(count=count)
    pictures, _, numbers, _ = gathered(expose(anatomy(), apertures), apertures)
    hidden = ~apertures
    assert np.median(numbers[hidden]) == min(count, MOST_FRAMES)
    assert numbers[hidden].mean() > 0.97 * min(count, MOST_FRAMES)
    error = (pictures - anatomy())[hidden].std()
    assert error == pytest.approx(LOUD / np.sqrt(count), rel=0.1)


def test_measured_pixels_are_the_frames_own():
    apertures = window(count=9)
    frames = expose(anatomy(), apertures)
    pictures, _, numbers, _ = gathered(frames, apertures)
    assert np.array_equal(pictures[apertures], frames[apertures])
    assert (numbers[apertures] == 1).all()


def test_a_still_view_does_not_flicker():
    apertures = window(count=30)
    frames = expose(anatomy(), apertures)
    pictures, _, _, _ = gathered(frames, apertures)
    hidden = ~apertures[0]
    flicker = np.abs(np.diff(pictures, axis=0))[:, hidden].mean()
    assert flicker < 0.02 * np.abs(np.diff(frames, axis=0))[:, ~hidden].mean()


def test_the_same_noise_once_more_is_no_evidence():
    apertures = window(count=12)
    frames = np.repeat(expose(anatomy(), apertures[:1]), 12, axis=0)
    pictures, _, numbers, _ = gathered(frames, apertures)
    assert (numbers == 1).all()
    np.testing.assert_allclose(pictures, frames, atol=1e-3)


def test_a_held_last_image_tells_as_much_as_the_frames_before_it_and_no_more():
    apertures = window(count=20)
    frames = expose(anatomy(), apertures)
    frames[10:] = frames[10]
    pictures, _, numbers, _ = gathered(frames, apertures)
    hidden = ~apertures[0]
    assert np.median(numbers[:, hidden]) == 11
    np.testing.assert_allclose(pictures[19][hidden], frames[:11, hidden].mean(axis=0), atol=0.02)


def test_frames_that_come_again_and_again_count_once():
    apertures = window(count=24)
    frames = np.tile(expose(anatomy(), apertures[:4]), (6, 1, 1))
    _, _, numbers, _ = gathered(frames, apertures)
    assert numbers.max() <= 4


def test_noise_that_a_recursive_filter_carries_on_counts_for_less():
    apertures = window(count=60)
    noise = expose(np.zeros((SIDE, SIDE)), apertures)
    for index in range(1, 60):
        noise[index] = 0.6 * noise[index - 1] + 0.8 * noise[index]
    pictures, _, numbers, _ = gathered(anatomy() + noise, apertures)
    hidden = ~apertures
    worth = (LOUD / (pictures - anatomy())[hidden].std()) ** 2
    assert np.median(numbers[hidden]) == pytest.approx(worth, rel=0.25)
    assert worth < 30


def test_black_behind_the_blades_is_no_evidence():
    apertures = window(count=6)
    frames = np.where(apertures, expose(anatomy(), apertures), np.float32(-1))
    pictures, _, numbers, _ = gathered(frames, apertures)
    assert (numbers == 1).all()
    assert (pictures[~apertures] == -1).all()


def test_a_black_cine_stays_black():
    frames = np.full((5, SIDE, SIDE), -1, np.float32)
    pictures, _, numbers, _ = gathered(frames, window(count=5))
    assert (pictures == -1).all()
    assert (numbers == 1).all()


def test_an_exposure_that_goes_up_and_down_is_no_motion():
    apertures = window(count=20)
    brightness = 0.1 * np.sin(np.arange(20))[:, None, None]
    _, _, numbers, _ = gathered(expose(anatomy() + brightness, apertures), apertures)
    assert np.median(numbers[~apertures]) == 20


def test_what_moves_behind_the_blades_leaves_no_trail():
    apertures = window(count=32)
    views = np.repeat(anatomy()[None], 32, axis=0)
    for index, view in enumerate(views):
        view[20:60, 10 + 7 * index : 16 + 7 * index] -= 0.6
    pictures, _, numbers, _ = gathered(expose(views, apertures), apertures)
    present, passed = (slice(24, 56), slice(123, 127)), (slice(24, 56), slice(88, 92))
    assert (pictures - anatomy())[16][present].mean() == pytest.approx(-0.6, abs=0.1)
    assert (pictures - anatomy())[16][passed].mean() == pytest.approx(0, abs=0.1)
    assert numbers[16][present].mean() < 4
    assert np.median(numbers[16, 200:]) == 32


def test_a_wire_in_the_aperture_does_not_take_the_evidence_from_behind_the_blades():
    apertures = window(count=32)
    views = np.repeat(anatomy()[None], 32, axis=0)
    for index, view in enumerate(views):
        view[118:120, 70 : 80 + 3 * index] -= 0.5
    _, _, numbers, _ = gathered(expose(views, apertures), apertures)
    assert np.median(numbers[:, deep(~apertures[0])]) == 32


def test_a_wire_in_a_small_aperture_does_not_either():
    apertures = np.zeros((32, 256, 256), bool)
    apertures[:, 104:152, 104:152] = True
    views = np.repeat(anatomy()[None], 32, axis=0)
    for index, view in enumerate(views):
        view[124:126, 104 : 106 + index] -= 0.5
    _, _, numbers, _ = gathered(expose(views, apertures), apertures)
    assert np.median(numbers[:, deep(~apertures[0])]) == 32


def test_breathing_in_the_aperture_makes_every_frame_stand_alone():
    apertures = window(count=40)
    shifts = 8 * np.sin(np.arange(40) / 3)
    views = np.stack([ndimage.shift(anatomy(), (shift, 0), mode="mirror") for shift in shifts])
    frames = expose(views, apertures)
    pictures, _, numbers, _ = gathered(frames, apertures)
    hidden = ~apertures
    assert np.median(numbers[hidden]) < 3
    assert (pictures - views)[hidden].std() < (frames - views)[hidden].std()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_frames_of_views_that_differ_stand_alone(count):
    apertures = window(count=count)
    views = np.stack([np.roll(anatomy(), 23 * index, axis=0) for index in range(count)])
    frames = expose(views, apertures)
    pictures, _, numbers, _ = gathered(frames, apertures)
    assert np.median(numbers[~apertures]) == 1
    assert np.abs(pictures - frames).mean() < 0.01


def test_motion_that_is_plain_behind_the_blades_is_no_noise_carried_on():
    apertures = window(count=40)
    still = np.repeat(anatomy()[None], 40, axis=0)
    views = np.stack([ndimage.shift(anatomy(), (8 * np.sin(index / 3), 0), mode="mirror") for index in range(40)])
    # The measured region shows nothing of the motion.
    frames = np.where(apertures, expose(still, apertures), views + 0.1 * expose(0 * still, apertures)).astype(
        np.float32
    )
    pictures, _, numbers, _ = gathered(frames, apertures)
    assert np.median(numbers[~apertures]) < 3
    assert np.abs(pictures - views)[~apertures].mean() < 1.2 * np.abs(frames - views)[~apertures].mean()


@pytest.mark.parametrize("pixels_a_frame", [0.02, 0.05, 0.1, 0.3])
def test_a_drift_too_slow_to_see_in_one_frame_smears_no_more_than_noise_does(pixels_a_frame):
    apertures = window(count=80)
    views = np.stack([ndimage.shift(anatomy(), (pixels_a_frame * i, 0), mode="mirror") for i in range(80)])
    frames = expose(views, apertures)
    pictures, _, _, _ = gathered(frames, apertures)
    hidden = ~apertures[0]
    for index in (0, 40, 79):
        smeared = ndimage.gaussian_filter((pictures[index] - views[index]) * hidden, 2)
        noisy = ndimage.gaussian_filter((frames[index] - views[index]) * hidden, 2)
        assert smeared.std() <= noisy.std()


def test_a_pixel_that_another_frame_measured_is_known_from_the_nearest_one():
    apertures = np.concatenate([window(count=4), window(right=40, count=8), window(count=4)])
    frames = expose(anatomy(), apertures)
    pictures, known, numbers, seen_in = gathered(frames, apertures)
    # The part that only the first and the last four frames measured, clear of their blades.
    once = (slice(90, 170), slice(80, 108))
    assert (seen_in[(4, *once)] == 3).all()
    assert (seen_in[(11, *once)] == 12).all()
    assert np.array_equal(pictures[(4, *once)], frames[(3, *once)])
    assert known[(slice(None), *once)].all()
    assert (numbers[(slice(None), *once)] == 1).all()


def test_an_open_frame_shows_the_whole_field_of_its_neighbours():
    apertures = window(count=7)
    apertures[3] = True
    frames = expose(anatomy(), apertures)
    pictures, known, _, seen_in = gathered(frames, apertures)
    assert (seen_in[0][~apertures[0]] == 3).all()
    assert (seen_in[3] == NEVER).all()
    assert known.all()
    np.testing.assert_allclose(pictures[6][~apertures[6]], frames[3][~apertures[6]], atol=1e-3)


def test_what_was_measured_before_the_view_moved_is_forgotten():
    apertures = np.concatenate([window(count=4), window(right=60, count=8)])
    views = np.concatenate([np.repeat(anatomy()[None], 8, axis=0), np.repeat(anatomy()[None, ::-1, ::-1], 4, axis=0)])
    _, _, _, seen_in = gathered(expose(views, apertures), apertures)
    once = (slice(90, 170), slice(80, 115))
    assert (seen_in[(7, *once)] == 3).all()
    assert (seen_in[(slice(8, None), *once)] == NEVER).all()


def test_hidden_pixels_near_an_edge_that_moved_are_not_averaged_over_its_penumbra():
    apertures = np.concatenate([window(count=10), window(right=-4, count=10)])
    shadow = np.where(ndimage.binary_dilation(apertures, np.ones((1, 9, 9))) & ~apertures, 0.5, 0)
    pictures, known, _, _ = gathered(expose(anatomy() + shadow, apertures), apertures)
    uncovered = ~known[0] & (shadow[0] == 0) & (shadow[10] > 0)
    assert uncovered.sum() > 100
    assert (pictures[0] - anatomy())[uncovered].mean() == pytest.approx(0, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(40, 600),
    width=st.integers(40, 600),
    edges=st.lists(st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)), min_size=2, max_size=5),
)
def test_every_pixel_measured_at_another_time_was_measured_then_and_not_now(height, width, edges):
    own_size = np.zeros((len(edges), height, width), bool)
    reduced = np.zeros((len(edges), SIDE, SIDE), bool)
    for large, small, (top, left) in zip(own_size, reduced, edges, strict=True):
        for mask in (large, small):
            h, w = mask.shape
            mask[round(top * h) : round((top + 0.4) * h), round(left * w) : round((left + 0.4) * w)] = True
    _, known, _, seen_in = gathered(expose(anatomy(), reduced), reduced, own_size)
    assert seen_in.shape == own_size.shape
    present, rows, columns = np.nonzero(seen_in != NEVER)
    assert own_size[seen_in[present, rows, columns], rows, columns].all()
    assert not own_size[present, rows, columns].any()
    assert (known | ~reduced)[reduced].all()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 9),
    contrast=st.sampled_from([0.0, 1e-4, 0.3, 2.0]),
    chunk=st.integers(1, 9),
)
def test_every_cine_gives_pictures_of_at_least_one_frame_whatever_the_chunks(seed, count, contrast, chunk):
    rng = np.random.default_rng(seed)
    apertures = np.repeat(window(), count, axis=0)
    for index in np.flatnonzero(rng.random(count) < 0.3):
        apertures[index] = rng.choice([window(right=30)[0], np.ones((SIDE, SIDE), bool)])
    noise = contrast * rng.standard_normal((count, SIDE, SIDE))
    frames = np.clip(anatomy() * rng.choice([0, 1]) + noise, -1, 1).astype(np.float32)
    pictures, known, numbers, _ = gathered(frames, apertures, chunk=chunk)
    assert np.isfinite(pictures).all() and pictures.min() >= -1 and pictures.max() <= 1
    assert numbers.min() == 1 and numbers.max() <= count
    assert (numbers[known] == 1).all()
    assert np.array_equal(pictures[apertures], frames[apertures])
    for value, other in zip((pictures, known, numbers), gathered(frames, apertures, chunk=count), strict=False):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("length", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_the_frames_of_a_long_cine_are_never_in_memory_together(length):
    apertures = np.broadcast_to(window(), (length, SIDE, SIDE))
    noise = expose(np.zeros((SIDE, SIDE)), apertures[:1])[0]
    view = anatomy()

    def frames(start, stop):
        return np.stack([view + np.where(window()[0], noise, np.roll(noise, 7 * i)) for i in range(start, stop)])

    tracemalloc.start()
    try:
        count = sum(len(evidence.pictures) for evidence in gather(frames, apertures, apertures))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == length
    assert peak < 40e6


def test_a_disk_too_small_for_what_is_learnt_is_told_and_left_as_it_was(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    few, many = window(count=2), window(count=6)
    free = os.statvfs(small_disk).f_bavail

    with pytest.raises(StorageFull, match=rf"^The disk for temporary files, {small_disk}, is full\.$"):
        gathered(expose(anatomy(), many), many)

    assert os.statvfs(small_disk).f_bavail == free
    _, _, numbers, _ = gathered(expose(anatomy(), few), few)
    assert np.median(numbers[~few]) == 2


@pytest.mark.parametrize(
    ("number", "error", "told"),
    [
        (errno.ENOSPC, StorageFull, "is full"),
        (errno.EDQUOT, StorageFull, "is full"),
        (errno.EIO, StorageUnavailable, "cannot be used: Input/output error"),
    ],
)
def test_a_disk_that_fails_is_told_in_the_projects_words(monkeypatch, number, error, told):
    apertures = window(count=2)

    def fails(*_):
        raise OSError(number, os.strerror(number))

    class Failing(tempfile.SpooledTemporaryFile):
        write = fails

    monkeypatch.setattr(tempfile, "TemporaryFile", Failing)
    with pytest.raises(error, match=told):
        gathered(expose(anatomy(), apertures), apertures)


def test_an_error_of_who_reads_the_evidence_stays_his_own():
    apertures = window(count=2)
    frames = expose(anatomy(), apertures)
    with pytest.raises(OSError, match="elsewhere"):
        for _ in gather(lambda start, stop: frames[start:stop], apertures, apertures):
            raise OSError(errno.ENOSPC, "elsewhere")
