"""The routes file: what is read from it, and how its mistakes are told."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from config.errors import ConfigError
from config.mark import Mark
from config.routes import Destination, Match, Route, RouteTable, Rule, load_routes

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "routes.toml"
PACS = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "routes.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def mistakes(file):
    with pytest.raises(ConfigError) as caught:
        load_routes(file)
    return [line.removeprefix(f"{file}, ") for line in str(caught.value).splitlines()]


def test_the_annotated_example_is_right_and_sets_every_key():
    table = load_routes(EXAMPLE)
    assert [route.name for route in table.routes] == ["angio-urgent", "everything-else"]
    values = tomllib.loads(EXAMPLE.read_text())
    first = values["routes"][0]
    assert set(first) == set(Route.model_fields)
    assert set(first["match"]) == set(Match.model_fields)
    assert set(first["mark"]) == set(Mark.model_fields)
    assert {key for rule in first["match"]["attributes"] for key in rule} == set(Rule.model_fields)
    assert {key for one in values["destinations"] for key in one} == set(Destination.model_fields)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('ae_title = "PACS"', "must have host and port, or a `url` in place of all three."),
        ('url = "https://pacs.example.org"\nhost = "pacs"', "has a `url`, beside which host means nothing."),
        ('url = "pacs.example.org"', "must be an address such as https://pacs.example.org/dicom-web"),
        ('url = "https://user:secret@pacs.example.org"', "with no password in it."),
        (
            'ae_title = "P"\nhost = "h"\nport = 1\ntoken = "secret"',
            "has a user or a token, which only one with a `url` is shown.",
        ),
    ],
)
def test_a_destination_is_called_over_associations_or_by_http(written, keys, told):
    (mistake,) = mistakes(written(f'[[destinations]]\nname = "web"\n{keys}\n'))
    assert told in mistake and "secret" not in mistake


def test_the_second_route_of_the_example_is_all_defaults():
    route = load_routes(EXAMPLE).route("everything-else")
    assert route == Route(name="everything-else", destinations=("pacs",))
    assert (route.complete, route.quiet_seconds, route.mode, route.priority) == (
        "multiframe",
        10.0,
        "mean",
        50,
    )


@pytest.mark.parametrize("model", [RouteTable, Route, Match, Rule, Destination, Mark])
def test_every_key_is_described(model: type[BaseModel]):
    assert all(field.description for field in model.model_fields.values())


def test_routes_and_destinations_are_found_by_name():
    table = load_routes(EXAMPLE)
    assert table.route("angio-urgent").destinations == ("pacs", "research")
    assert table.destination("research").port == 11114
    assert table.route("none") is None
    assert table.destination("none") is None


def test_a_route_survives_the_way_through_json():
    for route in load_routes(EXAMPLE).routes:
        assert Route.model_validate(route.model_dump(mode="json")) == route


def test_an_empty_file_is_a_table_without_routes(written):
    assert load_routes(written("# nothing yet\n")).routes == ()


def test_names_that_do_not_agree_are_told_where_they_stand(written):
    file = written(
        '[[routes]]\nname = "a"\ndestinations = [\n  "pacs",\n  "pasc",\n]\n'
        '[[routes]]\nname = "a"\ndestinations = ["pacs", "pacs"]\n' + PACS + PACS
    )
    assert mistakes(file) == [
        "line 8: routes[1].name 'a' is taken; each name may stand once.",
        "line 16: destinations[1].name 'pacs' is taken; each name may stand once.",
        "line 5: routes[0].destinations[1] names 'pasc', which is not among the destinations (did you mean 'pacs'?).",
        "line 9: routes[1].destinations[1] names 'pacs' a second time.",
    ]


def test_a_route_without_destinations_is_told(written):
    assert mistakes(written('[[routes]]\nname = "a"\ndestinations = []\n')) == [
        "line 3: routes[0].destinations must have 1 or more entries."
    ]
    assert mistakes(written('[[routes]]\nname = "a"\n')) == ["line 1: routes[0].destinations is missing."]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (
            'keyword = "BodyPartExamind"\nequals = "CHEST"',
            "line 5: routes[0].match.attributes[0].keyword must be a DICOM keyword (PS3.6), "
            "not 'BodyPartExamind' (did you mean 'BodyPartExamined'?).",
        ),
        (
            'keyword = "PatientName"\npattern = "(TEST"',
            "line 6: routes[0].match.attributes[0].pattern must be a regular expression, "
            "but '(TEST' is none: missing ), unterminated subpattern at position 0.",
        ),
        (
            'keyword = "ReferencedSeriesSequence"\nequals = "x"',
            "line 5: routes[0].match.attributes[0].keyword names ReferencedSeriesSequence, a sequence; "
            "rules look at text and numbers only.",
        ),
        (
            'keyword = "PixelData"\nequals = "x"',
            "line 5: routes[0].match.attributes[0].keyword names PixelData, an attribute of value "
            "representation OB or OW; rules look at text and numbers only.",
        ),
        (
            'keyword = "PatientName"\nminimum = 3',
            "line 4: routes[0].match.attributes[0] compares PatientName with a minimum or maximum, "
            "but it is not a numeric attribute.",
        ),
        (
            'keyword = "Rows"',
            "line 4: routes[0].match.attributes[0] must hold exactly one of: equals, pattern, minimum and/or maximum.",
        ),
        (
            'keyword = "Rows"\nequals = 512\nmaximum = 600',
            "line 4: routes[0].match.attributes[0] must hold exactly one of: equals, pattern, minimum and/or maximum.",
        ),
        (
            'keyword = "Rows"\nminimum = 600\nmaximum = 512',
            "line 4: routes[0].match.attributes[0] has a minimum of 600 above its maximum of 512.",
        ),
        (
            'keyword = "Rows"\nequals = true',
            "line 6: routes[0].match.attributes[0].equals must be text in quotes or a number.",
        ),
        (
            'keyword = "Rows"\nequal = 512',
            "line 6: routes[0].match.attributes[0].equal is not a known key (did you mean 'equals'?).",
        ),
    ],
)
def test_a_wrong_rule_is_told(written, rule, told):
    route = '[[routes]]\nname = "a"\ndestinations = ["pacs"]\n[[routes.match.attributes]]\n'
    assert told in mistakes(written(f"{route}{rule}\n{PACS}"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('name = "a b"', "routes[0].name must be 1 to 64 letters, digits, '.', '_' or '-', not 'a b'."),
        ("priority = 101", "routes[0].priority must be 100 or less, not 101."),
        ('mode = "median"', "routes[0].mode must be one of 'mean' or 'sample', not 'median'."),
        ("quiet_seconds = 0", "routes[0].quiet_seconds must be more than 0, not 0."),
        ('mark.border = "none"', "routes[0].mark.border must be one of 'solid' or 'dashed', not 'none'."),
        ('mark.label = ""', "routes[0].mark.label must have 3 or more characters, not ''."),
        (
            'mark.label = "\\n\\n\\n"',
            "routes[0].mark.label must be text of one line in printable characters, not '\\n\\n\\n'.",
        ),
        (
            'mark.label = "AI 生成画像"',
            "routes[0].mark.label has '生' (CJK UNIFIED IDEOGRAPH-751F), which the font cannot draw; name one that has "
            "it in mark.font.",
        ),
        (
            'mark.font = "/no/such.ttf"',
            "routes[0].mark.font names '/no/such.ttf', which cannot be read as a font here.",
        ),
        ('match.calling_ae = "CARM1"', "routes[0].match.calling_ae must be a list, not 'CARM1'."),
    ],
)
def test_a_wrong_value_is_told(written, line, told):
    rest = "" if line.startswith("name") else 'name = "a"\n'
    assert mistakes(written(f'[[routes]]\n{line}\ndestinations = ["pacs"]\n{rest}{PACS}')) == [f"line 2: {told}"]


@pytest.mark.parametrize("mark", ['label = "KÜNSTLICH"', 'label = "СИНТЕЗ"', 'label = "生成画像"\nburned_in = false'])
def test_a_label_that_the_font_has_or_a_viewer_draws_is_taken(written, mark):
    file = written(f'[[routes]]\nname = "a"\ndestinations = ["pacs"]\n[routes.mark]\n{mark}\n{PACS}')
    assert f'label = "{load_routes(file).routes[0].mark.label}"' in mark


@pytest.mark.parametrize("key", ["fetch_priors", "refetch"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pasc", "'pasc', which is not among the destinations (did you mean 'pacs'?)"),
        ("web", "'web', which is called by HTTP; only from a DICOM system is anything fetched"),
    ],
)
def test_what_nothing_can_be_fetched_from_is_told(written, key, name, told):
    web = '[[destinations]]\nname = "web"\nurl = "https://web.example/dicom-web"\n'
    file = written(f'[[routes]]\nname = "a"\n{key} = "{name}"\ndestinations = ["pacs"]\n{PACS}{web}')
    assert mistakes(file) == [f"line 3: routes[0].{key} names {told}."]


def test_the_mark_cannot_be_switched_off(written):
    file = written(f'[[routes]]\nname = "a"\nmark = false\ndestinations = ["pacs"]\n{PACS}')
    assert mistakes(file) == ["line 3: routes[0].mark must be a table of keys, not False."]


def test_a_table_built_in_code_is_held_to_the_same_rules():
    with pytest.raises(ValidationError, match="not among the destinations"):
        RouteTable(routes=(Route(name="a", destinations=("nowhere",)),))
