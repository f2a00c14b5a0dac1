"""Every value is matched with every key as PS3.4 C.2.2.2 says."""

import fnmatch
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from storage.matching import Key, UnusableKey, fit_together, read_keys
from tests.peers import PATIENCE

CHECKOUT = Path(__file__).parents[2]


def key(keyword: str, value: object) -> Key:
    identifier = Dataset()
    setattr(identifier, keyword, value)
    (read,) = read_keys(identifier)
    return read


def holding(keyword: str, value: object) -> dict:
    """The attribute as the catalogue has it."""
    dataset = Dataset()
    setattr(dataset, keyword, value)
    return dataset[keyword].to_json_dict(None, 0)


def fits(keyword: str, wanted: object, value: object) -> bool:
    return key(keyword, wanted).fits(holding(keyword, value))


days = st.dates(date(1900, 1, 1), date(2100, 1, 1))
texts = st.text("ab?*[]. ^", max_size=8)
moments = st.times()


def written(day: date) -> str:
    return day.strftime("%Y%m%d")


# Universal, single value, list


@pytest.mark.parametrize("anything", ["", "*", "**"])
@pytest.mark.parametrize("value", ["", "A1"])
def test_a_key_without_a_value_fits_everything(anything: str, value: str) -> None:
    assert fits("AccessionNumber", anything, value)
    assert key("AccessionNumber", anything).fits(None)


def test_a_key_with_a_value_does_not_fit_what_is_missing() -> None:
    assert not key("AccessionNumber", "A1").fits(None)
    assert not key("AccessionNumber", "?*").fits(None)


@given(texts.map(str.strip), texts.map(str.strip))
def test_without_wildcards_only_the_same_text_fits(wanted: str, value: str) -> None:
    if wanted and not set(wanted) & set("*?"):
        assert fits("StudyDescription", wanted, value) == (wanted == value)


def test_padding_does_not_count_and_case_does() -> None:
    assert fits("PatientID", " P1 ", "P1")
    assert not fits("PatientID", "p1", "P1")


def test_a_list_of_uids_fits_each_of_them() -> None:
    assert fits("StudyInstanceUID", ["1.2.3", "1.2.4"], "1.2.4")
    assert not fits("StudyInstanceUID", ["1.2.3", "1.2.4"], "1.2.5")


def test_one_value_of_several_is_enough() -> None:
    assert fits("ImageType", "SINGLE PLANE", ["ORIGINAL", "PRIMARY", "SINGLE PLANE"])


def test_numbers_are_compared_as_numbers() -> None:
    assert fits("SeriesNumber", "2", "02")
    assert fits("Rows", 64, 64)
    assert not fits("SeriesNumber", "2", "3")


# Wildcards


@given(texts.map(str.strip), texts.map(str.strip))
def test_stars_and_question_marks_stand_for_other_characters_and_nothing_else_does(pattern: str, value: str) -> None:
    if "*" in pattern or "?" in pattern:
        literally = pattern.replace("[", "[[]")
        expected = fnmatch.fnmatchcase(value, literally) if value else not pattern.strip("*")
        assert fits("StudyDescription", pattern, value) == expected


def test_wildcards_in_uids_and_numbers_stand_for_themselves() -> None:
    assert not fits("StudyInstanceUID", "1.2.*", "1.2.3")


def test_a_pattern_of_many_stars_comes_to_an_end() -> None:
    program = """if True:
        from tests.unit.test_matching import fits
        assert not fits("ImageComments", "*a" * 40 + "b", "a" * 5000)
    """
    # One that tried every way to share out the letters would not end, nor could it be interrupted here.
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=True, timeout=PATIENCE)


# Names


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("doe^john", "Doe^John"),
        ("DOE*", "Doe^John^^^"),
        ("Doe^John", "Doe^John^^"),
        ("muller^jurgen", "Müller^Jürgen"),
        ("MÜLLER*", "Muller^Jurgen"),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("Yamada^Tarou=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_are_found_whatever_their_case_accents_and_script(wanted: str, name: str) -> None:
    assert fits("PatientName", wanted, name)


@pytest.mark.parametrize(("wanted", "name"), [("Doe", "Doe^John"), ("か*", "=が^が"), ("tarou*", "Yamada^Tarou")])
def test_other_names_are_not_found(wanted: str, name: str) -> None:
    assert not fits("PatientName", wanted, name)


# Dates and times


@given(days, days, days)
def test_a_range_of_dates_fits_every_date_within_it(first: date, last: date, day: date) -> None:
    assert fits("StudyDate", f"{written(first)}-{written(last)}", written(day)) == (first <= day <= last)
    assert fits("StudyDate", f"-{written(last)}", written(day)) == (day <= last)
    assert fits("StudyDate", f"{written(first)}-", written(day)) == (day >= first)
    assert fits("StudyDate", written(first), written(day)) == (day == first)


@given(moments, moments, moments)
def test_a_range_of_times_fits_every_time_within_it(first, last, moment) -> None:
    form = "%H%M%S.%f"
    wanted = f"{first.strftime(form)}-{last.strftime(form)}"
    assert fits("StudyTime", wanted, moment.strftime(form)) == (first <= moment <= last)


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        ("10", "101112", True),
        ("1011-1012", "101259.9", True),
        ("1011-1012", "101300", False),
        ("101112", "1011", True),
        ("10:11:12", "101112", True),
    ],
)
def test_a_time_stands_for_all_that_its_digits_leave_open(wanted: str, value: str, expected: bool) -> None:
    assert fits("StudyTime", wanted, value) == expected


def test_dates_of_old_are_read() -> None:
    assert key("StudyDate", "19930822").fits({"vr": "DA", "Value": ["1993.08.22"]})
    assert not key("StudyDate", "19930822").fits({"vr": "DA", "Value": ["yesterday"]})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("20240102-20240103", True),
        ("20240102101112-20240102101113", True),
        ("20240102101112.5+0100", True),
        ("20240103-", False),
        ("-2023", False),
    ],
)
def test_points_in_time_are_matched_with_ranges_of_any_precision(wanted: str, expected: bool) -> None:
    assert fits("AcquisitionDateTime", wanted, "20240102101112.500000+0100") == expected


@given(days, moments, days, moments, days, moments)
def test_date_and_time_together_are_one_point_in_time(day, moment, first, begin, last, end) -> None:
    form = "%H%M%S"
    dates = key("StudyDate", f"{written(first)}-{written(last)}")
    times = key("StudyTime", f"{begin.strftime(form)}-{end.strftime(form)}")
    here = written(day) + moment.strftime(form)
    expected = written(first) + begin.strftime(form) <= here <= written(last) + end.strftime(form)
    found = fit_together(dates, times, holding("StudyDate", written(day)), holding("StudyTime", moment.strftime(form)))
    assert found == expected


def test_a_night_is_one_range_of_dates_and_times_together_and_none_apart() -> None:
    evening, night = date(2024, 1, 1), date(2024, 1, 1) + timedelta(days=1)
    dates, times = key("StudyDate", f"{written(evening)}-{written(night)}"), key("StudyTime", "2200-0600")
    assert fit_together(dates, times, holding("StudyDate", written(night)), holding("StudyTime", "010000"))
    assert not times.fits(holding("StudyTime", "010000"))


# Sequences, and what is no key


def request(**attributes: str) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def test_one_item_of_a_sequence_is_to_fit_all_keys() -> None:
    held = [
        request(RequestedProcedureID="R1", ScheduledProcedureStepID="S1"),
        request(RequestedProcedureID="R2", ScheduledProcedureStepID="S2"),
    ]
    together = [request(RequestedProcedureID="R2", ScheduledProcedureStepID="S2")]
    across = [request(RequestedProcedureID="R1", ScheduledProcedureStepID="S2")]
    assert fits("RequestAttributesSequence", together, held)
    assert not fits("RequestAttributesSequence", across, held)
    assert fits("RequestAttributesSequence", [Dataset()], [])


@pytest.mark.parametrize(
    ("keyword", "value"), [("StudyDate", "20241-20242"), ("StudyDate", "-"), ("StudyTime", "noon")]
)
def test_what_is_neither_date_nor_range_is_refused_by_name(keyword: str, value: str) -> None:
    identifier = Dataset()
    identifier.add_new(keyword, "LO", value)
    with pytest.raises(UnusableKey, match=keyword):
        read_keys(identifier)
