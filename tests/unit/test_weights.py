"""Weights on disk: what loads, and the one clear sentence for what does not."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from config.errors import WeightsError
from inference.familiarity import count_traits
from inference.vae import VAE
from inference.weights import VAE_CHANNELS, digest_of, load_weights, read_weights, write_card, write_weights
from tests.weights import PROFILE

CHANNELS = (16, 16, 32, 32)


@pytest.fixture
def copied(models, tmp_path):
    """A folder of profiles with a copy of the untrained one in it, which a test may spoil."""
    shutil.copytree(models / PROFILE, tmp_path / PROFILE)
    return tmp_path


def mistake(models):
    """The sentence that loading the profile ends with."""
    with pytest.raises(WeightsError) as caught:
        load_weights(PROFILE, models)
    return str(caught.value)


def each_network(models):
    return sorted((models / PROFILE).glob("*.safetensors"))


def spoil_card(models, **changes):
    card = models / PROFILE / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_a_profile_loads_ready_for_use(models):
    weights = load_weights(PROFILE, models)

    assert (weights.profile, weights.version) == (PROFILE, "0.0")
    assert not weights.vae.training and not weights.palette.training
    for network in (weights.vae, weights.palette):
        assert all(tensor.dtype == torch.float32 for tensor in network.state_dict().values())


def test_the_digest_is_the_same_each_time_and_known_without_loading(models):
    digest = load_weights(PROFILE, models).digest

    assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    assert load_weights(PROFILE, models).digest == digest_of(PROFILE, models) == digest


def test_the_digest_changes_with_any_network_and_with_nothing_else(copied):
    before = digest_of(PROFILE, copied)
    write_card(copied / PROFILE, "7.0", {"examples": 12})
    assert digest_of(PROFILE, copied) == before

    seen = {before}
    for path in each_network(copied):
        state = load_file(path)
        first = next(iter(state))
        state[first] = state[first] + 1
        save_file(state, path)
        write_card(copied / PROFILE, "7.0", {})
        seen.add(digest_of(PROFILE, copied))
    assert len(seen) == len(each_network(copied)) + 1


def test_a_changed_byte_anywhere_is_found(copied):
    for path in each_network(copied):
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert mistake(copied) == (
                f"weights {PROFILE}/{path.name} do not match the digest in model.json; install them again"
            )
        path.write_bytes(whole)
    assert load_weights(PROFILE, copied)


def test_a_missing_file_is_told_by_name(copied):
    for path in each_network(copied):
        kept = path.read_bytes()
        path.unlink()
        assert mistake(copied) == f"weights {PROFILE}/{path.name} are missing; install them again"
        path.write_bytes(kept)


def test_a_profile_that_is_not_there(tmp_path):
    assert mistake(tmp_path) == (
        f"weights of profile {PROFILE} are not installed: {tmp_path / PROFILE} holds no model.json; the administrator "
        "of this machine puts them there"
    )
    with pytest.raises(WeightsError, match="are not installed"):
        digest_of(PROFILE, tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"{}", b'{"version": "1"}', b"\xff\xfe"])
def test_a_card_that_cannot_be_read(copied, content):
    (copied / PROFILE / "model.json").write_bytes(content)

    assert mistake(copied) == f"weights of profile {PROFILE}: model.json is damaged; install them again"


@pytest.mark.parametrize("claimed", [None, 3, "all of them", ["a"]])
def test_a_card_whose_digests_are_none(copied, claimed):
    spoil_card(copied, sha256=claimed)

    assert mistake(copied) == f"weights of profile {PROFILE}: model.json is damaged; install them again"


def test_a_card_that_leaves_a_network_out_vouches_for_nothing(copied):
    spoil_card(copied, sha256={})

    assert "do not match the digest in model.json" in mistake(copied)


def sealed(models, path):
    """Let the card vouch for a file as it is."""
    write_card(path.parent, "0.0", {})
    return mistake(models)


def test_a_file_that_is_no_safetensors(copied):
    for path in each_network(copied):
        kept = path.read_bytes()
        path.write_bytes(b"not tensors at all")
        assert sealed(copied, path) == f"weights {PROFILE}/{path.name} are missing or damaged; install them again"
        path.write_bytes(kept)


def test_weights_of_another_network(copied):
    path = copied / PROFILE / "vae.safetensors"
    write_weights(VAE(CHANNELS, 4), path)

    assert sealed(copied, path) == f"weights {PROFILE}/vae.safetensors belong to another network"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["distilled", "calibration"])
def test_numbers_that_are_not_finite(copied, name, value):
    path = copied / PROFILE / f"{name}.safetensors"
    state = load_file(path)
    next(tensor for tensor in state.values() if tensor.numel() > 3).view(-1)[3] = value
    save_file(state, path)

    assert sealed(copied, path) == f"weights {PROFILE}/{name}.safetensors hold numbers that are not finite"


def test_a_file_that_is_cut_off(copied):
    for path in each_network(copied):
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        assert sealed(copied, path) == f"weights {PROFILE}/{path.name} are missing or damaged; install them again"
        path.write_bytes(kept)


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: without(state, "factors"),
        lambda state: without(state, "layer"),
        lambda state: state | {"more": torch.zeros(1)},
        lambda state: state | {"factors": torch.ones(5)},
        lambda state: state | {"centre": torch.zeros(3)},
        lambda state: state | {"odds": torch.zeros(7)},
        lambda state: state | {"layer": torch.zeros(())},
        lambda state: state | {"limit": torch.zeros(1, dtype=torch.float64)},
    ],
)
def test_a_calibration_of_other_networks(copied, change):
    path = copied / PROFILE / "calibration.safetensors"
    save_file(change(load_file(path)), path)

    assert sealed(copied, path) == f"weights {PROFILE}/calibration.safetensors belong to another network"


@pytest.mark.parametrize("name", ["factors", "spread"])
def test_a_calibration_whose_widths_are_none(copied, name):
    path = copied / PROFILE / "calibration.safetensors"
    state = load_file(path)
    save_file(state | {name: torch.zeros_like(state[name])}, path)

    assert sealed(copied, path) == f"weights {PROFILE}/calibration.safetensors hold a width that is not above zero"


def test_a_profile_of_a_later_fullfield(copied):
    spoil_card(copied, format=3)

    assert mistake(copied) == f"weights of profile {PROFILE} are of a later Fullfield; install that"


def test_a_profile_of_an_earlier_fullfield(copied):
    spoil_card(copied, format=1)

    assert mistake(copied) == (
        f"weights of profile {PROFILE} are of an earlier Fullfield; in the folder of their training, "
        "`fullfield train distil`, then `fullfield train calibrate` make them whole"
    )


@pytest.mark.parametrize("value", ["2", None, [1]])
def test_a_card_whose_format_is_no_number(copied, value):
    spoil_card(copied, format=value)

    assert mistake(copied) == f"weights of profile {PROFILE}: model.json is damaged; install them again"


def test_an_untrained_profile_knows_no_stranger_and_takes_errors_to_be_normal(models):
    known = load_weights(PROFILE, models).calibration
    traits = np.random.default_rng(0).normal(0, 100, (5, count_traits(VAE_CHANNELS))).astype(np.float32)

    assert (known.strangeness(traits) < 1e-6).all()
    assert known.factors == pytest.approx(1.645, abs=0.001)


def test_weights_come_back_as_written_but_for_half_precision(tmp_path):
    torch.manual_seed(0)
    written, read = VAE(CHANNELS, 4), VAE(CHANNELS, 4)
    write_weights(written, tmp_path / "vae.safetensors")

    read_weights(read, tmp_path / "vae.safetensors")

    for first, second in zip(written.state_dict().values(), read.state_dict().values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0.001, atol=1e-4)
