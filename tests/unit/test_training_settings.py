"""The TOML file of hyperparameters: what it says, and how mistakes in it are told."""

import tomllib
from pathlib import Path

import pytest

from config.errors import ConfigError
from training.settings import TrainingFile, load_training_file

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "train.toml"


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "train.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_without_a_file_the_defaults_hold():
    assert load_training_file(None) == TrainingFile()


def test_the_annotated_example_says_the_defaults():
    assert load_training_file(EXAMPLE) == TrainingFile()


def test_the_annotated_example_names_every_key():
    text = EXAMPLE.read_text()
    for name, field in TrainingFile.model_fields.items():
        keys = set(tomllib.loads(text)[name])
        in_comments = {key for key in field.annotation.model_fields if f"# {key} = " in text}
        assert set(field.annotation.model_fields) == keys | in_comments


def test_every_key_is_described():
    for name, field in TrainingFile.model_fields.items():
        assert field.description, name
        for key, inner in field.annotation.model_fields.items():
            assert inner.description, f"{name}.{key}"


def test_a_key_that_is_set_leaves_its_neighbours(written):
    file = load_training_file(written("[vae]\nsteps = 7\nkl_weight = 0.5\n"))
    assert (file.vae.steps, file.vae.kl_weight, file.vae.batch) == (7, 0.5, 8)
    assert file.palette == TrainingFile().palette


def test_relative_paths_are_relative_to_the_file(written, tmp_path):
    file = load_training_file(written('[data]\npairs = ["pairs", "/srv/pairs"]\nprojections = "views.npy"\n'))
    assert file.data.pairs == (tmp_path / "pairs", Path("/srv/pairs"))
    assert file.data.projections == tmp_path / "views.npy"


def test_every_mistake_is_told_by_file_line_and_key(written):
    file = written(
        '[vae]\nsteps = 0\nlearning = 1e-3\n\n[palette]\nema = 1.0\nmixed_precision = "int8"\nct_share = 1.2\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_training_file(file)
    assert str(caught.value).splitlines() == [
        f"{file}, line 2: vae.steps must be 1 or more, not 0.",
        f"{file}, line 3: vae.learning is not a known key (did you mean 'learning_rate'?).",
        f"{file}, line 6: palette.ema must be less than 1, not 1.0.",
        f"{file}, line 7: palette.mixed_precision must be one of 'auto', 'no', 'fp16' or 'bf16', not 'int8'.",
        f"{file}, line 8: palette.ct_share must be 1 or less, not 1.2.",
    ]


def test_a_file_that_is_missing_or_no_toml(written, tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_training_file(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"train\.toml, line 1: is not valid TOML"):
        load_training_file(written("[vae"))


def test_shares_are_of_one_whole(written):
    with pytest.raises(ConfigError, match=r"ct_share and redrawn_share are together at most 1"):
        load_training_file(written("[vae]\nct_share = 0.8\n"))
