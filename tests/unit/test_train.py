"""The training loops, on networks so small that a step takes a moment."""

import hashlib
import json
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from config.errors import ConfigError, FullfieldError
from inference.palette import Palette
from inference.vae import VAE
from inference.weights import VAE_LATENT_CHANNELS, read_weights, sha256_of
from tests.pairs import write_pairs
from training import examples, loop, provenance
from training.distil import distil_task
from training.examples import Examples
from training.loop import Material, train
from training.pairs import read_pairs
from training.provenance import commit
from training.rehearsal import rehearse
from training.seal import seal
from training.settings import DistilSettings, PaletteSettings, TrainingSettings, VAESettings
from training.teacher import draw_by_teacher
from training.train import train_aperture, train_palette, train_vae, vae_task

CHANNELS = (16, 16, 32, 32)
SETTINGS = TrainingSettings(steps=4, batch=1, warm_up=1, validate_every=2, seed=3, mixed_precision="no")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data"), train=2, val=2)


@pytest.fixture(scope="module")
def material(data):
    return Material(training=read_pairs(data, "train"), validation=read_pairs(data, "val"), projections=None)


@pytest.fixture(scope="module", autouse=True)
def accelerate_starts_anew():
    """Accelerate holds a process to the precision that it began with."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def few_examples_are_held_out(monkeypatch):
    """Each run validates several times; what counts here needs no more examples on redrawn objects than these."""
    monkeypatch.setattr(examples, "HELD_OUT_EXAMPLES", 1)


def changed(**changes):
    return SETTINGS.model_copy(update=changes)


def small_vae():
    torch.manual_seed(0)
    return VAE(CHANNELS, VAE_LATENT_CHANNELS)


def teach_vae(material, out, **changes):
    return train_vae(material, changed(**changes), out, CHANNELS)


def teach_palette(material, out, **changes):
    priors = [small_vae(), small_vae()]
    return train_palette(small_vae(), priors, material, changed(**changes), out, CHANNELS)


def teach_aperture(material, out, **changes):
    return train_aperture(material, changed(**changes), out, CHANNELS)


def distil(material, out):
    settings = DistilSettings(**SETTINGS.model_dump() | {"draws": 2})
    draws = draw_by_teacher(out, material, settings, out / "draws.npy", (CHANNELS, CHANNELS))
    task = distil_task(draws, Palette(CHANNELS), small_vae(), settings, CHANNELS)
    return train(task, material, settings, out, out / "palette.safetensors")


both = pytest.mark.parametrize("teach", [teach_vae, teach_palette])


def run_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def checkpoint(path, step):
    """Raw and averaged parameters of a checkpoint, by their name in the network."""
    folder = path.with_name(f"{path.stem}-checkpoint-{step}")
    averaged = torch.load(folder / "custom_checkpoint_0.pkl", weights_only=True)
    return load_file(folder / "model.safetensors"), {
        name.removeprefix("module."): tensor for name, tensor in averaged.items() if name.startswith("module.")
    }


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@torch.no_grad()
def hidden_error(vae, batch):
    """Sum of squared errors at hidden pixels over the number of all pixels, picture by picture."""
    errors = []
    for full, collimated, aperture, frames in zip(
        batch.full, batch.collimated, batch.aperture, batch.frames, strict=True
    ):
        estimate = vae(collimated[None], aperture[None], frames[None]).mean[0]
        errors.append(torch.where(aperture == 1, 0.0, (estimate - full) ** 2).mean())
    return float(torch.stack(errors).mean())


@both
def test_a_run_leaves_weights_a_history_and_its_last_checkpoint(material, tmp_path, teach):
    path = teach(material, tmp_path / "run")

    history = run_of(path)["history"]
    assert [row["step"] for row in history] == [2, 4]
    assert all(0 < row["loss"] < 100 and 0 < row["validation"] < 100 for row in history)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())
    name = path.stem
    left = {f"{name}-checkpoint-4", f"{name}.json", f"{name}.safetensors", "tensorboard"}
    assert {file.name for file in path.parent.iterdir()} == left


def test_a_run_can_begin_with_given_weights_and_says_with_which(material, tmp_path):
    first = teach_vae(material, tmp_path / "first")

    second = train_vae(material, changed(steps=1, learning_rate=0.0), tmp_path / "second", CHANNELS, start=first)

    begun, ended = load_file(first), load_file(second)
    assert all(torch.allclose(begun[name], ended[name], atol=1e-3) for name in begun)
    assert run_of(second)["settings"]["start"] == sha256_of(first)
    assert run_of(first)["settings"]["start"] == ""


def test_a_prior_can_leave_out_half_of_the_scenes_and_is_named_for_it(material, tmp_path, monkeypatch):
    shown = []
    draw = Examples.batch

    def note(self, step, size):
        batch = draw(self, step, size)
        shown.extend(batch.fold.tolist())
        return batch

    monkeypatch.setattr(Examples, "batch", note)
    path = train_vae(material, SETTINGS, tmp_path, CHANNELS, leave_out=1)
    assert path.name == "vae-without-1.safetensors" and run_of(path)["history"]
    assert set(shown) == {0}


@pytest.mark.parametrize("familiar", [0.0, 1.0])
def test_palette_learns_each_example_from_a_prior_that_has_not_seen_it_or_from_the_profiles(
    material, tmp_path, familiar
):
    asked = []

    class Spy(VAE):
        def forward(self, collimated, aperture, frames, *, draw=False):
            asked.append((self.number, len(collimated)))
            return super().forward(collimated, aperture, frames, draw=draw)

    priors = [Spy(CHANNELS, VAE_LATENT_CHANNELS) for _ in range(2)]
    for number, prior in enumerate(priors):
        prior.number = number
    settings = PaletteSettings(**changed(batch=4).model_dump(), familiar_share=familiar)
    train_palette(small_vae(), priors, material, settings, tmp_path, CHANNELS)

    shown = Examples(material.training, None, SETTINGS)
    expected = [fold for step in range(4) for fold in shown.batch(step, 4).fold.tolist() if not familiar]
    assert sum(count for number, count in asked if number == 0) == expected.count(0)
    assert sum(count for number, count in asked if number == 1) == expected.count(1)


def test_palette_needs_a_prior_for_each_fold(material, tmp_path):
    with pytest.raises(ConfigError, match="2 priors, each trained without one fold; 1 given"):
        train_palette(small_vae(), [small_vae()], material, SETTINGS, tmp_path, CHANNELS)


def test_the_aperture_finder_is_trained_alike(material, tmp_path):
    path = teach_aperture(material, tmp_path / "run")
    assert [row["step"] for row in run_of(path)["history"]] == [2, 4]
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


@both
def test_a_run_that_was_broken_off_ends_with_the_weights_of_one_that_was_not(material, tmp_path, monkeypatch, teach):
    whole = teach(material, tmp_path / "whole")
    with monkeypatch.context() as patch:
        draw = Examples.batch
        patch.setattr(Examples, "batch", lambda self, step, size: draw(self, step, size) if step < 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            teach(material, tmp_path / "broken")
    broken = tmp_path / "broken" / whole.name
    assert [row["step"] for row in run_of(broken)["history"]] == [2]

    assert teach(material, tmp_path / "broken") == broken

    for first, second in zip(checkpoint(whole, 4), checkpoint(broken, 4), strict=True):
        assert same(first, second)
    assert broken.read_bytes() == whole.read_bytes()
    figures = [[(row["loss"], row["validation"]) for row in run_of(path)["history"]] for path in (whole, broken)]
    assert figures[0] == figures[1]


def test_a_crash_while_a_checkpoint_is_written_resumes_from_the_one_before(material, tmp_path, monkeypatch):
    whole = teach_vae(material, tmp_path / "whole")
    with monkeypatch.context() as patch:
        write = loop._write_run

        def crash(out, name, run):
            return write(out, name, run) if len(run.history) < 2 else 1 / 0

        patch.setattr(loop, "_write_run", crash)
        with pytest.raises(ZeroDivisionError):
            teach_vae(material, tmp_path / "broken")

    broken = teach_vae(material, tmp_path / "broken")

    assert broken.read_bytes() == whole.read_bytes()
    assert len(list(broken.parent.glob("vae-checkpoint-*"))) == 1


def test_a_finished_run_is_not_trained_further(material, tmp_path):
    before = teach_vae(material, tmp_path).read_bytes()

    assert teach_vae(material, tmp_path).read_bytes() == before
    assert len(run_of(tmp_path / "vae.json")["history"]) == 2


def test_the_seed_makes_weights_examples_and_noise(material, tmp_path):
    first, again, other = (
        teach_vae(material, tmp_path / name, steps=1, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )

    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_what_is_kept_is_the_average_of_the_weights_after_each_step(material, tmp_path):
    """EMA as in EDM: after the first step the weights themselves, then ema * average + (1 - ema) * weights."""
    one, two = (
        teach_vae(material, tmp_path / str(steps), steps=steps, warm_up=10, ema=0.75, validate_every=1)
        for steps in (1, 2)
    )
    (first, average_of_first), (second, average) = checkpoint(one, 1), checkpoint(two, 2)

    assert same(first, average_of_first)
    assert not same(first, second)
    for name in first:
        torch.testing.assert_close(average[name], 0.75 * first[name] + 0.25 * second[name])


def test_the_best_weights_are_kept_when_later_ones_are_worse(material, tmp_path):
    path = teach_vae(material, tmp_path, steps=3, warm_up=10, learning_rate=0.5, ema=0.0, validate_every=1)
    errors = [row["validation"] for row in run_of(path)["history"]]
    assert min(errors) < errors[-1]

    kept = small_vae().eval()
    read_weights(kept, path)
    seen = Examples(material.training, None, SETTINGS).held_out(material.validation)
    assert hidden_error(kept, seen) == pytest.approx(min(errors), rel=0.02)  # half precision is kept


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_there_is(material, tmp_path, monkeypatch):
    draw = Examples.batch

    def spoilt(self, step, size):
        batch = draw(self, step, size)
        return replace(batch, full=batch.full * float("nan")) if step == 3 else batch

    monkeypatch.setattr(Examples, "batch", spoilt)

    with pytest.raises(FullfieldError, match="training vae stopped at step 3: the loss is not finite"):
        teach_vae(material, tmp_path)
    assert (tmp_path / "vae.safetensors").is_file()


def test_a_folder_that_holds_a_run_with_other_settings_is_left_alone(material, tmp_path):
    before = teach_vae(material, tmp_path).read_bytes()

    with pytest.raises(ConfigError, match=r"vae\.json: holds a run with other settings"):
        teach_vae(material, tmp_path, batch=2)
    assert (tmp_path / "vae.safetensors").read_bytes() == before


@pytest.mark.parametrize("spoil", ["remove", "other network"])
def test_a_checkpoint_that_cannot_be_resumed_is_told_in_one_line(material, tmp_path, spoil):
    teach_vae(material, tmp_path)
    channels = CHANNELS
    if spoil == "remove":
        for file in (tmp_path / "vae-checkpoint-4").iterdir():
            file.unlink()
    else:
        channels = (32, 32, 32, 32)

    with pytest.raises(ConfigError, match=r"vae-checkpoint-4: missing or of another network; remove .*vae\.json"):
        train_vae(material, SETTINGS, tmp_path, channels)


def test_a_run_goes_on_although_it_began_before_a_setting_was_there(material, tmp_path):
    path = teach_vae(material, tmp_path)
    run = run_of(path)
    del run["settings"]["processes"], run["provenance"]
    path.with_suffix(".json").write_text(json.dumps(run))
    before = path.read_bytes()

    train_vae(material, VAESettings(**SETTINGS.model_dump()), tmp_path, CHANNELS)

    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train_vae(material, VAESettings(**SETTINGS.model_dump(), kl_weight=1e-3), tmp_path, CHANNELS)


def test_a_run_does_not_go_on_with_other_data(material, tmp_path):
    teach_vae(material, tmp_path / "run")
    other = write_pairs(tmp_path / "data", train=2, val=1)
    changed_material = Material(training=read_pairs(other, "train"), validation=material.validation, projections=None)

    with pytest.raises(ConfigError, match=r"vae\.json: holds a run on other data"):
        teach_vae(changed_material, tmp_path / "run")


def test_a_damaged_history_is_told_in_one_line(material, tmp_path):
    (tmp_path / "vae.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"vae\.json: damaged; remove it to begin anew"):
        teach_vae(material, tmp_path)


def test_memory_that_does_not_suffice_is_told_with_what_to_do(material, tmp_path):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    task = replace(vae_task(SETTINGS, CHANNELS), loss=exhausted)
    with pytest.raises(
        FullfieldError, match="memory does not suffice for 1 pictures a step; choose fewer with --batch"
    ):
        train(task, material, SETTINGS, tmp_path)


@pytest.mark.parametrize("teach", [teach_aperture, teach_vae, teach_palette])
def test_curves_and_pictures_are_there_to_look_at(material, tmp_path, teach):
    path = teach(material, tmp_path)

    events = EventAccumulator(str(tmp_path / "tensorboard" / path.stem)).Reload()
    history = run_of(path)["history"]
    for curve in ("loss", "validation", "seconds"):
        points = [(event.step, event.value) for event in events.Scalars(curve)]
        assert points == [(row["step"], pytest.approx(row[curve])) for row in history]
    # Warm-up over one step, then a cosine to zero: the rates of the steps 2 and 4 of 4.
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert rates == pytest.approx([3e-4, 3e-4 * 0.25], rel=1e-3)
    [grids] = [events.Images(tag) for tag in events.Tags()["images"]]
    # Two pairs and an example on a redrawn object, one a row: collimated, estimate, truth.
    assert [(grid.step, grid.width, grid.height) for grid in grids] == [(2, 3 * 256, 3 * 256), (4, 3 * 256, 3 * 256)]


def test_nothing_else_changes_without_tensorboard(material, tmp_path, monkeypatch, capsys):
    with_it = teach_palette(material, tmp_path / "with")
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    without = teach_palette(material, tmp_path / "without")

    assert with_it.read_bytes() == without.read_bytes()
    assert capsys.readouterr().out.count("TensorBoard is not installed") == 1
    assert not (tmp_path / "without" / "tensorboard").exists()


def test_a_rehearsal_says_what_would_be_and_writes_nothing(material, tmp_path):
    out = tmp_path / "run"
    lines = rehearse(vae_task(SETTINGS, CHANNELS, leave_out=1), material, SETTINGS, out)

    assert not out.exists()
    parameters = sum(tensor.numel() for tensor in small_vae().parameters())
    assert lines[:7] == [
        f"vae-without-1: {parameters:,} parameters, random at the start",
        "pairs for training: 1, of 1 scenes",
        "pairs for validation: 2, of 2 scenes",
        "CT views: none",
        "examples: drawn on the way",
        "4 steps of 1 pictures, seed 3",
        "processes: 1, on cpu, precision no",
    ]
    assert " s a step: about 0:00:" in lines[7]
    assert str(out / "vae-without-1.safetensors") in lines[8]


def test_a_rehearsal_says_where_a_run_would_go_on(material, tmp_path):
    teach_vae(material, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    lines = rehearse(vae_task(SETTINGS, CHANNELS), material, SETTINGS, tmp_path)

    assert lines[7].endswith("about 0:00:00 beside validation, from step 4 on")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_sealed_profile_names_settings_data_and_code(data, material, tmp_path):
    paths = [teach(material, tmp_path) for teach in (teach_aperture, teach_vae, teach_palette)]
    paths += [train_vae(material, SETTINGS, tmp_path, CHANNELS, leave_out=fold) for fold in (0, 1)]
    paths.append(distil(material, tmp_path))
    save_file({"quantile": torch.zeros(1)}, tmp_path / "calibration.safetensors")

    seal(tmp_path, "2.1", material.training, None)

    card = json.loads((tmp_path / "model.json").read_text())
    assert card["version"] == "2.1"
    assert {"aperture.safetensors", "distilled.safetensors", "vae.safetensors"} <= set(card["sha256"])
    table = hashlib.sha256((data / "pairs.csv").read_bytes()).hexdigest()
    for path in paths:
        run, told = run_of(path), card["training"][path.stem]
        assert told["settings"] == run["settings"]
        assert told["validation"] == min(row["validation"] for row in run["history"])
        start = sha256_of(tmp_path / "palette.safetensors") if path.stem == "distilled" else ""
        assert (told["steps"], told["start"]) == (4, start)
        assert told["provenance"]["data"] == {"pairs": {data.name: table}, "projections": None}
    assert card["training"]["data"]["pairs"] == {data.name: table}
    assert card["training"]["commit"] == commit() != ""
    assert card["training"]["software"]["torch"] == torch.__version__


def test_a_profile_is_not_sealed_before_all_its_networks_are_trained(material, tmp_path):
    teach_vae(material, tmp_path)
    with pytest.raises(ConfigError, match="fullfield train aperture"):
        seal(tmp_path, "1.0", material.training, None)


def test_code_that_is_no_checkout_is_named_by_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert commit() == version("fullfield")
