"""Result UIDs: the same for the same source, model and settings, and for nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.mark import Mark
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.objects.identity import (
    Origin,
    companion_instance_uid,
    companion_series_uid,
    dimension_organization_uid,
    result_instance_uid,
    result_series_uid,
)

CHEST = Origin(route="chest", model_digest="abc", mode="mean", seed=7, mark=Mark())
DRAWN = replace(CHEST, mode="sample")

texts = st.text(max_size=30)
origins = st.builds(
    Origin,
    route=texts,
    model_digest=texts,
    mode=st.sampled_from(["mean", "sample"]),
    seed=st.integers(0, 2**32 - 1),
    mark=st.builds(Mark, border=st.sampled_from(["solid", "dashed"]), label=st.text("ab", min_size=3, max_size=5)),
)


@settings(deadline=None)
@given(source=texts, origin=origins, part=st.integers(0, 60_000))
def test_uids_are_valid_and_the_same_each_time(source, origin, part):
    uid = result_instance_uid(source, origin, part)
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert int(uid[5:]) < 2**128
    assert uid == result_instance_uid(source, replace(origin), part)
    assert result_series_uid(source, origin).is_valid


@settings(deadline=None)
@given(one=texts, other=texts, first=origins, second=origins)
def test_another_source_or_origin_gives_another_uid(one, other, first, second):
    # The seed of `mean` is of no consequence, and the draws of `sample` share a series.
    first, second = (replace(origin, seed=7) for origin in (first, second))
    same = (one, first) == (other, second)
    assert same == (result_series_uid(one, first) == result_series_uid(other, second))
    assert same == (result_instance_uid(one, first) == result_instance_uid(other, second))


@pytest.mark.parametrize(
    "changed",
    [
        {"route": "abdomen"},
        {"model_digest": "def"},
        {"mode": "sample"},
        {"mark": Mark(label="SYNTHETIC")},
        {"method": 2},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_changes_the_pixels_changes_the_uids(changed):
    other = replace(CHEST, **changed)
    assert result_series_uid("1.2.3", CHEST) != result_series_uid("1.2.3", other)
    assert result_instance_uid("1.2.3", CHEST) != result_instance_uid("1.2.3", other)


def test_each_draw_is_an_object_of_its_own_in_one_series():
    other = replace(DRAWN, seed=8)
    assert result_instance_uid("1.2.3", DRAWN) != result_instance_uid("1.2.3", other)
    assert result_series_uid("1.2.3", DRAWN) == result_series_uid("1.2.3", other)


def test_the_best_estimate_is_the_same_object_whatever_the_seed():
    assert result_instance_uid("1.2.3", CHEST) == result_instance_uid("1.2.3", replace(CHEST, seed=8))


def test_names_that_run_together_stay_apart():
    one, other = (replace(CHEST, route=route, model_digest=digest) for route, digest in (("ab", "c"), ("a", "bc")))
    assert result_series_uid("1.2", one) != result_series_uid("1.2", other)


def test_the_parts_of_one_source_and_its_series_differ():
    uids = {result_instance_uid("1.2.3", CHEST, part) for part in range(50)}
    assert len(uids | {result_series_uid("1.2.3", CHEST)}) == 51


@pytest.mark.parametrize("kind", ["segmentation", "presentation state", "report", "uncertainty"])
def test_what_goes_beside_the_pictures_has_other_uids_than_they_and_changes_them_with_theirs(kind):
    uids = [
        result_instance_uid("1.2.3", CHEST),
        result_series_uid("1.2.3", CHEST),
        companion_instance_uid(kind, "1.2.3", CHEST),
        companion_instance_uid(kind, "1.2.3", CHEST, 1),
        companion_instance_uid(kind, "1.2.3", DRAWN),
        companion_instance_uid(kind, "1.2.3", replace(DRAWN, seed=8)),
        companion_series_uid(kind, "1.2.3", CHEST),
        companion_series_uid(kind, "1.2.3", DRAWN),
        dimension_organization_uid("1.2.3"),
    ]
    assert len(set(uids)) == len(uids)
    assert all(uid.is_valid for uid in uids)
    assert companion_series_uid(kind, "1.2.3", DRAWN) == companion_series_uid(kind, "1.2.3", replace(DRAWN, seed=8))
    assert companion_instance_uid(kind, "1.2.3", CHEST) == companion_instance_uid(kind, "1.2.3", replace(CHEST, seed=8))


def test_uids_stay_what_they_were_in_earlier_versions():
    """A changed derivation would send every result to PACS a second time."""
    assert result_series_uid("1.2.3", CHEST) == "2.25.110080130273570763468584979022035198323"
    assert result_instance_uid("1.2.3", CHEST) == "2.25.44031949267058584002582237331335745705"
    assert result_instance_uid("1.2.3", DRAWN) == "2.25.315685537525311966625365362311807950483"
    mask = companion_instance_uid("segmentation", "1.2.3", CHEST)
    assert mask == "2.25.196990673058531585846517132740672497875"


def test_the_software_names_itself_with_a_valid_uid():
    assert IMPLEMENTATION_CLASS_UID.is_valid
