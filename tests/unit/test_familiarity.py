"""What a picture is known by, and how its strangeness is told."""

import numpy as np
import torch

from inference.familiarity import Familiarity, count_traits, traits

CHANNELS = (16, 16, 32, 32)


def features(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sides = (64, 32, 16, 8)
    return [torch.randn(count, c, side, side, generator=draw) for c, side in zip(CHANNELS, sides, strict=True)]


def pictures(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, 256, 256)).astype(np.float32)


def left_half(count):
    aperture = np.zeros((count, 256, 256), bool)
    aperture[:, :, :128] = True
    return aperture


def test_traits_are_as_many_as_the_channels_say_and_each_picture_has_its_own():
    seen, shown = features(3), pictures(3)
    together = traits(seen, shown, left_half(3))

    assert together.shape == (3, count_traits(CHANNELS))
    alone = traits([level[1:2] for level in seen], shown[1:2], left_half(1))
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_traits_of_the_aperture_do_not_depend_on_what_lies_behind_the_blades():
    seen = features(1)
    changed = [level.clone() for level in seen]
    for level in changed:
        level[..., level.shape[-1] // 2 :] += 3

    before, after = (traits(part, pictures(1), left_half(1))[0] for part in (seen, changed))

    first = CHANNELS[0]
    inside, behind = slice(0, 2 * first), slice(2 * first, 3 * first)
    np.testing.assert_allclose(after[inside], before[inside], atol=1e-5)
    np.testing.assert_allclose(after[behind], before[behind] + 3, atol=1e-4)


def test_a_picture_that_measures_nothing_or_all_has_finite_traits():
    for open_pixels in (np.zeros((1, 256, 256), bool), np.ones((1, 256, 256), bool)):
        assert np.isfinite(traits(features(1), pictures(1), open_pixels)).all()


def test_strangeness_is_one_at_the_limit_and_bounded_far_beyond():
    known = Familiarity(
        centre=np.zeros(2, np.float32),
        spread=np.ones(2, np.float32),
        layer=np.array([[1], [0]], np.float32),
        offset=np.zeros(1, np.float32),
        odds=np.array([3], np.float32),
        limit=np.array([6], np.float32),
    )

    near, at, beyond, far, farther = known.strangeness(np.array([[1, 9], [2, 0], [3, 0], [8, 0], [900, 0]], np.float32))

    assert near < at < beyond < far
    np.testing.assert_allclose(at, 1, rtol=1e-5)
    assert far == farther <= 1e6 * 1.001
