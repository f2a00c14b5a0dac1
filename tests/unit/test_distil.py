"""The teacher's draws and the student that learns from them, on networks so small that a step takes a moment."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from config.errors import ConfigError
from inference.palette import Palette, condition
from inference.sampler import LEVELS, sample
from inference.vae import VAE
from inference.weights import VAE_LATENT_CHANNELS, read_weights, sha256_of, write_weights
from tests.pairs import write_pairs
from training import examples
from training.distil import distil_task
from training.examples import Examples
from training.loop import Material, train
from training.pairs import read_pairs
from training.settings import DistilSettings
from training.solver import solve
from training.teacher import TEACHERS, draw_by_teacher

CHANNELS = (16, 16, 32, 32)
SETTINGS = DistilSettings(
    steps=4, batch=2, warm_up=1, validate_every=2, seed=3, draws=10, familiar_share=0.5, mixed_precision="no"
)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    data = write_pairs(tmp_path_factory.mktemp("data"), train=2, val=1)
    return Material(training=read_pairs(data, "train"), validation=read_pairs(data, "val"), projections=None)


@pytest.fixture(scope="module", autouse=True)
def accelerate_starts_anew():
    """Accelerate holds a process to the precision that it began with."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def few_examples_are_held_out(monkeypatch):
    monkeypatch.setattr(examples, "HELD_OUT_EXAMPLES", 1)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    """What is compared is what is drawn, not how the machine rounds."""
    monkeypatch.setattr("training.teacher.autocast", lambda _: nullcontext())


def network_of(name):
    return Palette(CHANNELS) if name == "palette" else VAE(CHANNELS, VAE_LATENT_CHANNELS)


def changed_a_little(network):
    """New networks estimate nothing at all; these do."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The runs that a student needs: priors and teacher."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    for name in TEACHERS:
        write_weights(changed_a_little(network_of(name)), folder / f"{name}.safetensors")
    return folder


def networks(folder):
    made = []
    for name in TEACHERS:
        network = network_of(name)
        read_weights(network, folder / f"{name}.safetensors")
        made.append(network.eval())
    return made


def draws(folder, material, out, **changes):
    return draw_by_teacher(folder, material, SETTINGS.model_copy(update=changes), out, (CHANNELS, CHANNELS))


def task_of(folder, material, out, **changes):
    vae, *_, teacher = networks(folder)
    settings = SETTINGS.model_copy(update=changes)
    return distil_task(draws(folder, material, out), teacher, vae, settings, CHANNELS)


def teach(folder, material, out):
    out.mkdir(exist_ok=True)
    task = task_of(folder, material, out / "draws.npy")
    return train(task, material, SETTINGS, out / "run", folder / "palette.safetensors")


def all_of(drawn, count):
    """The draws in the file, each once."""
    kept = drawn.batch(0, 1)
    return {name: torch.from_numpy(drawn._kept[:count, i].astype("float32")) for i, name in enumerate(vars(kept))}


@torch.no_grad()
def test_a_draw_is_the_teachers_from_the_noise_beside_it(folder, material, tmp_path):
    (vae, *others, teacher) = networks(folder)
    kept = {name: part[:, None] for name, part in all_of(draws(folder, material, tmp_path / "draws.npy"), 10).items()}

    priors_seen = set()
    for i in range(10):
        collimated, aperture, frames, mean, noise, middle, drawn = (part[i : i + 1] for part in kept.values())
        # The file holds half precision.
        apart = [float((prior(collimated, aperture, frames).mean - mean).abs().max()) for prior in (vae, *others)]
        assert sorted(apart)[0] < 0.1 < 1 < sorted(apart)[1]
        priors_seen.add(apart.index(min(apart)))
        seen = condition(collimated, aperture, frames, mean)
        states = solve(lambda x, sigma, seen=seen: teacher(x, sigma, seen), noise, 1 - aperture)
        assert torch.allclose(states[3], middle, atol=0.1)
        assert torch.allclose(states[-1], drawn, atol=0.1)
        assert float(drawn.std()) > 0.01
    assert 0 in priors_seen and priors_seen & {1, 2}


def test_draws_are_made_once_and_batches_follow_from_seed_and_step(folder, material, tmp_path, monkeypatch):
    first = draws(folder, material, tmp_path / "a.npy")
    second = draws(folder, material, tmp_path / "b.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()

    monkeypatch.setattr(Examples, "batch", None)
    again = draws(folder, material, tmp_path / "a.npy")

    for step in (0, 5):
        assert torch.equal(again.batch(step, 4).drawn, second.batch(step, 4).drawn)
    assert not torch.equal(first.batch(0, 4).noise, first.batch(1, 4).noise)


@pytest.mark.parametrize("what", ["settings", "teacher", "told"])
def test_draws_of_another_teacher_are_not_taken_for_this_ones(folder, material, tmp_path, what):
    out = tmp_path / "draws.npy"
    draws(folder, material, out)
    changes = {"seed": 4} if what == "settings" else {}
    if what == "teacher":
        told = json.loads(out.with_suffix(".json").read_text())
        told["networks"]["palette"] = "0" * 64
        out.with_suffix(".json").write_text(json.dumps(told))
    if what == "told":
        out.with_suffix(".json").unlink()

    with pytest.raises(ConfigError, match="another teacher or other settings; remove it"):
        draws(folder, material, out, **changes)


def test_drawing_that_was_broken_off_begins_anew(folder, material, tmp_path, monkeypatch):
    whole = draws(folder, material, tmp_path / "whole.npy").batch(0, 4)
    draw = Examples.batch

    def broken(self, step, size):
        if step:
            raise KeyboardInterrupt
        return draw(self, step, size)

    monkeypatch.setattr(Examples, "batch", broken)
    with pytest.raises(KeyboardInterrupt):
        draws(folder, material, tmp_path / "draws.npy")
    assert not (tmp_path / "draws.npy").exists()
    monkeypatch.setattr(Examples, "batch", draw)

    assert torch.equal(draws(folder, material, tmp_path / "draws.npy").batch(0, 4).drawn, whole.drawn)


def test_the_loss_is_nought_for_a_student_that_leads_where_its_teacher_does(folder, material, tmp_path):
    task = task_of(folder, material, tmp_path / "draws.npy", detail_weight=0.0)
    batch = task.examples.batch(0, 6)
    start, middle, _ = LEVELS
    asked = []

    def ideal(noisy, sigma, seen):
        first = (sigma == start)[:, None, None, None]
        asked.extend(first.flatten().tolist())
        share = middle / start
        assert torch.allclose(seen, condition(batch.collimated, batch.aperture, batch.frames, batch.mean))
        return torch.where(first, (batch.middle - share * noisy) / (1 - share), batch.drawn)

    assert float(task.loss(ideal, batch)) == 0
    assert float(task.loss(lambda *given: ideal(*given) + 2, batch)) == pytest.approx(4, rel=1e-4)
    # What is measured is of no account.
    assert float(task.loss(lambda *given: ideal(*given) + 2 * batch.aperture, batch)) == 0
    for _ in range(5):
        task.loss(ideal, batch)
    assert set(asked) == {True, False}


def test_an_error_in_fine_detail_counts_besides_as_a_share_of_that_detail(folder, material, tmp_path):
    plain, weighted = (task_of(folder, material, tmp_path / "draws.npy", detail_weight=weight) for weight in (0.0, 0.5))
    batch = plain.examples.batch(0, 2)
    stripes = torch.tensor([1.0, -1.0]).repeat(128).expand(2, 1, 256, 256)
    start, middle, _ = LEVELS

    def losses(error):
        # Both steps have the stripes for their clean residual.
        state = middle * batch.noise + (1 - middle / start) * stripes
        given = replace(batch, aperture=torch.zeros_like(stripes), middle=state, drawn=stripes)
        return [float(task.loss(lambda *_: stripes + error, given)) for task in (plain, weighted)]

    # Detail of two pixels that is wrong by a tenth: a hundredth of the one octave that it is in.
    without, with_it = losses(0.1 * stripes)
    assert without == pytest.approx(0.01, rel=1e-3)
    assert with_it - without == pytest.approx(0.5 * 0.01, rel=1e-2)
    # A broad error is none of detail.
    without, with_it = losses(torch.full_like(stripes, 0.1))
    assert with_it == pytest.approx(without, rel=1e-3)


def test_validation_is_nought_for_the_teachers_own_draws(folder, material, tmp_path, monkeypatch):
    task = task_of(folder, material, tmp_path / "draws.npy")
    held_out = Examples(material.training, None, SETTINGS).held_out(material.validation)
    *_, teacher = networks(folder)
    few = task.validate(teacher, held_out)
    assert 0 < few < 10

    monkeypatch.setattr("training.distil.sample", lambda *given: solve(*given)[-1])

    assert task.validate(teacher, held_out) == 0


def test_a_student_comes_nearer_to_its_teacher_and_begins_as_it(folder, material, tmp_path):
    path = teach(folder, material, tmp_path)

    run = json.loads(path.with_suffix(".json").read_text())
    assert path.name == "distilled.safetensors"
    assert run["settings"]["start"] == sha256_of(folder / "palette.safetensors")
    assert (run["settings"]["draws"], run["settings"]["familiar_share"]) == (10, 0.5)
    student = Palette(CHANNELS)
    read_weights(student, path)
    held_out = Examples(material.training, None, SETTINGS).held_out(material.validation)
    task = task_of(folder, material, tmp_path / "draws.npy")
    *_, teacher = networks(folder)
    assert task.validate(student.eval(), held_out) < task.validate(teacher, held_out)


def test_a_distillation_that_was_broken_off_ends_as_one_that_was_not(folder, material, tmp_path):
    whole = teach(folder, material, tmp_path / "whole")
    task = task_of(folder, material, tmp_path / "draws.npy")
    out, start = tmp_path / "run", folder / "palette.safetensors"

    class Breaks:
        def batch(self, step, size):
            if step == 3:
                raise KeyboardInterrupt
            return task.examples.batch(step, size)

    with pytest.raises(KeyboardInterrupt):
        train(replace(task, examples=Breaks()), material, SETTINGS, out, start)
    resumed = train(task, material, SETTINGS, out, start)

    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_product_draws_as_the_student_was_taught(folder, material, tmp_path):
    """Two evaluations by the sampler, the first from the teacher's noise."""
    batch = task_of(folder, material, tmp_path / "draws.npy").examples.batch(0, 2)
    seen = []

    def denoiser(noisy, sigma):
        seen.append(noisy)
        share = LEVELS[1] / LEVELS[0]
        ideal = (batch.middle - share * noisy) / (1 - share)
        return ideal if float(sigma[0]) == LEVELS[0] else batch.drawn

    drawn = sample(denoiser, batch.noise, 1 - batch.aperture)

    assert torch.allclose(seen[1], batch.middle * (1 - batch.aperture), atol=1e-3)
    assert torch.equal(drawn, batch.drawn * (1 - batch.aperture))
