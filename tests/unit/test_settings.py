"""Settings: what the file and the environment say, and how mistakes are told."""

import tomllib
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import Settings, load_settings
from config.toml_lines import key_lines

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "fullfield.toml"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    import os

    for name in [name for name in os.environ if name.upper().startswith("FULLFIELD")]:
        monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "fullfield.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def mistakes(file):
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    return str(caught.value).splitlines()


def test_without_a_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None)
    assert (settings.listener.ae_title, settings.listener.host, settings.listener.port) == (
        "FULLFIELD",
        "127.0.0.1",
        11112,
    )
    assert settings.storage.root == tmp_path / "var"
    assert settings.storage.database_url == f"sqlite:///{tmp_path}/var/fullfield.db"
    assert settings.routes == tmp_path / "routes.toml"


def test_the_annotated_example_says_the_defaults():
    example = load_settings(EXAMPLE).model_dump()
    defaults = Settings().model_dump()
    for values in (example, defaults):
        del values["routes"], values["storage"]["root"]
    assert example == defaults


def test_the_annotated_example_names_every_key():
    text = EXAMPLE.read_text()
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if not hasattr(section, "model_fields"):
            assert f"{name} = " in text
            continue
        keys = set(tomllib.loads(text)[name])
        in_comments = {key for key in section.model_fields if f"# {key} = " in text or f"{name}.{key}]]" in text}
        assert set(section.model_fields) == keys | in_comments


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        for key, inner in getattr(field.annotation, "model_fields", {}).items():
            assert inner.description, f"{name}.{key}"


def test_relative_paths_are_relative_to_the_file(written, tmp_path):
    settings = load_settings(written('routes = "r/a.toml"\n[storage]\nroot = "data"\ndatabase = "sqlite:///db/x.db"\n'))
    assert settings.routes == tmp_path / "r" / "a.toml"
    assert settings.storage.root == tmp_path / "data"
    assert settings.storage.database_url == f"sqlite:///{tmp_path}/db/x.db"


def test_absolute_paths_and_other_databases_stay(written):
    settings = load_settings(written('[storage]\nroot = "/srv/a"\ndatabase = "postgresql://u:p@h/n"\n'))
    assert settings.storage.root == Path("/srv/a")
    assert settings.storage.database_url == "postgresql://u:p@h/n"


def test_the_environment_overrules_one_key_and_leaves_its_neighbours(written, monkeypatch):
    file = written('[listener]\nport = 104\nae_title = "RECON"\n')
    monkeypatch.setenv("FULLFIELD__LISTENER__PORT", "10400")
    monkeypatch.setenv("FULLFIELD__LISTENER__ALLOW", '[{"ae_title": "CARM1"}]')
    settings = load_settings(file)
    assert (settings.listener.port, settings.listener.ae_title) == (10400, "RECON")
    assert settings.listener.allow[0].ae_title == "CARM1"


def test_a_further_title_is_as_the_listener_in_all_that_it_does_not_say(written):
    settings = load_settings(
        written(
            "[listener]\nmax_associations = 8\nmax_object_mb = 100\n[[listener.allow]]\nae_title = 'CARM1'\n"
            "[[listener.titles]]\nae_title = 'LAB'\nmax_associations = 2\n"
            "[[listener.titles]]\nae_title = 'GUESTS'\nallow = []\nmax_objects_per_second = 1\n"
            "[[listener.titles]]\nae_title = 'TESTS'\n[[listener.titles.allow]]\nae_title = 'PHANTOM1'\n"
        )
    )
    assert {
        title.ae_title: (
            [allowed.ae_title for allowed in title.allow],
            title.max_associations,
            title.max_object_mb,
            title.max_objects_per_second,
        )
        for title in settings.listener.every_title
    } == {
        "FULLFIELD": (["CARM1"], 8, 100, None),
        "LAB": (["CARM1"], 2, 100, None),
        "GUESTS": ([], 8, 100, 1),
        "TESTS": (["PHANTOM1"], 8, 100, None),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[listener.titles]]\nae_title = 'FULLFIELD'\n", "has the AE title 'FULLFIELD' twice"),
        ("[[listener.titles]]\nmax_pdu = 4096\n", "listener.titles[0].ae_title is missing"),
        (
            "[[listener.titles]]\nae_title = 'LAB'\nmax_pdus = 4096\n",
            "listener.titles[0].max_pdus is not a known key (did you mean 'max_pdu'?)",
        ),
        (
            "[[listener.allow]]\nae_title = 'CARM1'\ntransfer_syntaxes = ['JPEG']\n",
            "listener.allow[0].transfer_syntaxes[0] must be one of 'ExplicitVRLittleEndian', ",
        ),
        (
            "[[listener.titles]]\nae_title = 'LAB'\n[[listener.titles.allow]]\nae_title = 'CARM1'\n"
            "certificate = 'carm1'\n",
            "asks for TLS in `[listener]`, but sets no `tls.certificate`",
        ),
    ],
)
def test_a_mistake_about_titles_is_told(written, text, said):
    (mistake,) = mistakes(written(text))
    assert said in mistake


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("FULLFIELD__LOGS__LEVEL", "")
    assert load_settings(None).logs.level == "info"


def test_every_mistake_is_told_by_file_line_and_key(written):
    file = written(
        "# comment\n"
        "[listener]\n"
        "port = 70000\n"
        'ae_title = "MUCH TOO LONG FOR ONE"\n'
        "\n"
        "[[listener.allow]]\n"
        'addresses = ["carm1"]\n'
        "[worker]\n"
        'device = "gpu"  # [not] a "table"\n'
        'processes = "two"\n'
        "[delivery]\n"
        "timeout_seconds = 0\n"
    )
    assert set(mistakes(file)) == {
        f"{file}, line 3: listener.port must be 65535 or less, not 70000.",
        f"{file}, line 4: listener.ae_title must be an AE title of 1 to 16 characters, not 'MUCH TOO LONG FOR ONE'.",
        f"{file}, line 6: listener.allow[0].ae_title is missing.",
        f"{file}, line 7: listener.allow[0].addresses[0] must be an IP address or a network "
        "such as '10.1.2.0/24', not 'carm1'.",
        f"{file}, line 9: worker.device must be one of 'auto', 'cpu' or 'cuda', not 'gpu'.",
        f"{file}, line 10: worker.processes must be a whole number, not 'two'.",
        f"{file}, line 12: delivery.timeout_seconds must be more than 0, not 0.",
    }


def test_an_unknown_key_suggests_the_nearest_known_one(written):
    file = written("[listener]\nprot = 104\n[wroker]\nprocesses = 2\n[logs]\ncolour = 1\n")
    assert mistakes(file) == [
        f"{file}, line 2: listener.prot is not a known key (did you mean 'port'?).",
        f"{file}, line 6: logs.colour is not a known key; known here: format, level.",
        f"{file}, line 3: wroker is not a known key (did you mean 'worker'?).",
    ]


def test_a_syntax_error_is_told_with_its_line(written):
    file = written('[listener]\nport = 104\nae_title = "RECON\n')
    (mistake,) = mistakes(file)
    assert mistake.startswith(f"{file}, line 3: is not valid TOML: ")


def test_a_text_that_ends_too_early_is_told_with_its_last_line(written):
    (mistake,) = mistakes(written("[listener]\n[[listener.allow]]\naddresses = ["))
    assert "line 3: is not valid TOML" in mistake


def test_a_missing_file_is_told(tmp_path):
    assert mistakes(tmp_path / "none.toml") == [f"{tmp_path}/none.toml: cannot be read: No such file or directory."]


def test_a_file_in_another_encoding_is_told(tmp_path):
    file = tmp_path / "fullfield.toml"
    file.write_bytes(b"# K\xf6nig\n")
    assert mistakes(file) == [f"{file}: is not UTF-8 text (byte 3)."]


def test_a_wrong_variable_is_told_by_its_name(written, monkeypatch):
    file = written("[listener]\nport = 104\n")
    monkeypatch.setenv("FULLFIELD__LISTENER__PORT", "many")
    assert mistakes(file) == [
        "environment variable FULLFIELD__LISTENER__PORT: listener.port must be a whole number, not 'many'."
    ]


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("FULLFIELD__LISTNER__PORT", "'listner' is not a known key (did you mean 'listener'?)."),
        ("FULLFIELD__LISTENER__PROT", "listener.prot is not a known key (did you mean 'port'?)."),
    ],
)
def test_a_variable_for_an_unknown_key_is_told(monkeypatch, variable, told):
    monkeypatch.setenv(variable, "104")
    assert mistakes(None) == [f"environment variable {variable}: {told}"]


def test_a_variable_with_broken_json_is_told(monkeypatch):
    monkeypatch.setenv("FULLFIELD__LISTENER__ALLOW", "[CARM1")
    (mistake,) = mistakes(None)
    assert mistake.startswith("environment variable FULLFIELD__LISTENER__ALLOW: is not valid JSON: ")


def test_the_password_of_a_database_is_never_repeated(written):
    for wrong in ('"mysql://u:secret@h/n"', '["postgresql://u:secret@h/n"]'):
        assert "secret" not in "".join(mistakes(written(f"[storage]\ndatabase = {wrong}\n")))


def test_lines_are_found_among_strings_comments_and_inline_tables():
    lines = key_lines(
        "a = 1 # [x]\n"
        '"q.u" = """\n'
        "[no]\n"
        'k = 1 "" """\n'
        "[x.y]\n"
        "z = [1, # ]\n"
        ' "]", {p=1, q="}"},\n'
        "]\n"
        "[[r]]\n"
        "n = '#'\n"
        "[[r.m.attr]]\n"
        "t = 1979-05-27 07:32:00\n"
        "[[r]]\n"
        "[r.m]\n"
        "  d.e.f = 'x' \n"
        "[[r.m.attr]]\n"
        "[[r.m.attr]]\n"
        'e = ""\n'
    )
    expected = {
        ("a",): 1,
        ("q.u",): 2,
        ("x", "y", "z"): 6,
        ("x", "y", "z", 1): 7,
        ("x", "y", "z", 2, "q"): 7,
        ("r", 0, "n"): 10,
        ("r", 0, "m", "attr", 0, "t"): 12,
        ("r", 1, "m", "d", "e", "f"): 15,
        ("r", 1, "m", "attr", 1, "e"): 18,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("no",) not in lines
