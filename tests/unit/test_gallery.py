"""The page of pictures that shows what the weights make of views that no training saw."""

import numpy as np
import pytest
from PIL import Image

from training import gallery
from training.gallery import draw_gallery


@pytest.fixture
def views(tmp_path):
    _, x = np.mgrid[0:96, 0:96] / 96
    path = tmp_path / "views.npy"
    np.save(path, np.stack([3 + 0.05 * number + 0.3 * np.sin(9 * x) for number in range(20)]).astype(np.float16))
    return path


def test_each_view_is_a_row_of_five_pictures_and_the_page_is_the_same_each_time(
    views, tmp_path, reconstructor, monkeypatch
):
    monkeypatch.setattr(gallery.Reconstructor, "load", lambda _: reconstructor)
    pages = [tmp_path / "one.png", tmp_path / "two.png"]
    for page in pages:
        draw_gallery(views, page, count=2)

    picture = np.asarray(Image.open(pages[0]))
    assert picture.shape == (2 * 196 - 4, 5 * 196 - 4)
    collimated, mean, sample, _, truth = (picture[:192, left : left + 192] for left in range(0, 980, 196))
    for one, other in ((collimated, truth), (mean, sample), (mean, truth)):
        assert np.mean(one != other) > 0.1
    assert pages[0].read_bytes() == pages[1].read_bytes()
