"""LPIPS by the encoder of Models Genesis: the key map, and the distance computed by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from config.errors import ConfigError, WeightsError
from tests.thesis_checkpoints import genesis_shapes, numbered
from training.perceptual import GenesisEncoder, features, load_encoder, lpips, read_encoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return GenesisEncoder(width=4)


def picture(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (32, 32)).astype(np.float32)


def write(path, tensors):
    torch.save({"epoch": 80, "state_dict": tensors, "optimizer_state_dict": {"state": {}}}, path)
    return path


def test_the_encoder_has_the_sizes_of_models_genesis():
    sizes = {name: tuple(tensor.shape) for name, tensor in GenesisEncoder().state_dict().items()}
    theirs = {name: shape for name, shape in genesis_shapes().items() if ".down_tr" in name}
    assert sorted(sizes.values()) == sorted(theirs.values())
    assert sizes["levels.3.1.convolution.weight"] == (512, 256, 3, 3, 3)


def test_each_tensor_finds_its_place_and_the_decoder_is_left_out(tmp_path):
    written = numbered(genesis_shapes(width=4))
    encoder = read_encoder(write(tmp_path / "Genesis_Chest_CT.pt", written), GenesisEncoder(width=4))

    for ours, theirs in (
        (encoder.levels[0][0].convolution.weight, "down_tr64.ops.0.conv1.weight"),
        (encoder.levels[1][1].norm.bias, "down_tr128.ops.1.bn1.bias"),
        (encoder.levels[2][0].convolution.bias, "down_tr256.ops.0.conv1.bias"),
        (encoder.levels[3][1].convolution.weight, "down_tr512.ops.1.conv1.weight"),
    ):
        assert ours.min() == ours.max() == written[f"module.{theirs}"].max()


def test_the_whole_encoder_is_read_by_default(tmp_path):
    path = write(tmp_path / "Genesis_Chest_CT.pt", numbered(genesis_shapes()))
    encoder = load_encoder(path)
    assert encoder.levels[3][1].convolution.weight.shape[0] == 512


def test_the_distance_is_the_mean_squared_difference_of_averaged_features(encoder):
    a, b = picture(1), picture(2)

    made = []
    for grey in (a, b):
        x = torch.from_numpy(np.stack([grey] * 16))[None, None]
        for index, level in enumerate(encoder.levels):
            x = F.max_pool3d(x, 2) if index else x
            for convolution, norm in ((part.convolution, part.norm) for part in level):
                x = F.conv3d(x, convolution.weight, convolution.bias, padding=1)
                mean, variance = x.mean(dim=(0, 2, 3, 4)), x.var(dim=(0, 2, 3, 4), correction=0)
                x = (x - mean[:, None, None, None]) / (variance[:, None, None, None] + 1e-5).sqrt()
                x = (x * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]).clamp(min=0)
        made.append(x[0].mean(dim=(1, 2, 3)).detach().numpy())

    assert made[0].shape == (32,)
    np.testing.assert_allclose(features(encoder, a).numpy(), made[0], atol=1e-5)
    assert lpips(encoder, a, b) == pytest.approx(float(np.mean((made[0] - made[1]) ** 2)), rel=1e-3)


def test_a_picture_is_no_distance_from_itself_and_as_far_there_as_back(encoder):
    a, b = picture(1), picture(2)
    assert lpips(encoder, a, a) == 0
    assert lpips(encoder, a, b) == lpips(encoder, b, a) > 0


def test_running_statistics_are_not_used_as_in_models_genesis(encoder):
    before = features(encoder.eval(), picture(1))
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.running_mean.fill_(5.0)
    assert torch.equal(features(encoder, picture(1)), before)


def test_other_files_are_told_in_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pt: not found"):
        load_encoder(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match=r"no Models Genesis: it holds no down_tr64"):
        load_encoder(write(tmp_path / "other.pt", {"a": torch.zeros(2)}))
    with pytest.raises(
        WeightsError, match=r"down_tr64\.ops\.0\.conv1\.weight has the shape 2x1x3x3x3, where 32x1x3x3x3"
    ):
        load_encoder(write(tmp_path / "small.pt", numbered(genesis_shapes(width=4))))
