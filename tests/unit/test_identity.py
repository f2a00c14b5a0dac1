"""Result UIDs: the same for the same source, route and model, and for nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.objects.identity import IMPLEMENTATION_CLASS_UID, result_instance_uid, result_series_uid

texts = st.text(max_size=30)


@given(source=texts, route=texts, digest=texts, part=st.integers(0, 60_000))
def test_uids_are_valid_and_the_same_each_time(source, route, digest, part):
    uid = result_instance_uid(source, route, digest, part)
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert int(uid[5:]) < 2**128
    assert uid == result_instance_uid(source, route, digest, part)
    assert result_series_uid(source, route, digest).is_valid


@given(one=st.tuples(texts, texts, texts), other=st.tuples(texts, texts, texts))
def test_another_source_route_or_model_gives_another_uid(one, other):
    assert (one == other) == (result_series_uid(*one) == result_series_uid(*other))
    assert (one == other) == (result_instance_uid(*one) == result_instance_uid(*other))


def test_names_that_run_together_stay_apart():
    assert result_series_uid("1.2", "ab", "c") != result_series_uid("1.2", "a", "bc")


def test_the_parts_of_one_source_and_its_series_differ():
    uids = {result_instance_uid("1.2.3", "chest", "abc", part) for part in range(50)}
    assert len(uids | {result_series_uid("1.2.3", "chest", "abc")}) == 51


def test_uids_stay_what_they_were_in_earlier_versions():
    """A changed derivation would send every result to PACS a second time."""
    assert result_series_uid("1.2.3", "chest", "abc") == "2.25.244427024487752890271054226947723039438"
    assert result_instance_uid("1.2.3", "chest", "abc") == "2.25.312950403468138963111620121235645713914"


def test_the_software_names_itself_with_a_valid_uid():
    assert IMPLEMENTATION_CLASS_UID.is_valid
