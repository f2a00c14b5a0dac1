"""An enhanced source tells its geometry in functional groups: results repeat it at the root."""

from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import dcmread

from config.mark import Mark
from dicom_node.objects.functional_groups import GROUPED
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import MarkedView
from dicom_node.objects.secondary_capture import secondary_captures
from tests.enhanced import enhanced_xa, enhanced_xrf
from tests.factory import reconstruction, write
from tests.standard import dicom_standard_macros


def results_of(source, profile="multiframe_sc"):
    return secondary_captures(source, reconstruction(source), route="chest", mark=Mark(), profile=profile)


def test_a_result_repeats_the_geometry_of_an_enhanced_source_at_its_root(tmp_path):
    source = enhanced_xa()
    [result] = results_of(dcmread(write(source, tmp_path / "source.dcm")))
    assert (result.PositionerPrimaryAngle, result.PositionerSecondaryAngle) == (30, -10)
    assert result.PositionerMotion == "STATIC"
    assert (result.DistanceSourceToDetector, result.DistanceSourceToPatient) == (1100, 750)
    assert result.ImagerPixelSpacing == [0.3, 0.3]
    assert result.PixelSpacing == [0.205, 0.205]
    assert result.PixelSpacingCalibrationType == "GEOMETRY"
    assert result.PositionerType == "CARM"
    assert (result.CollimatorShape, result.CollimatorLeftVerticalEdge) == ("RECTANGULAR", 17)
    assert result.PatientOrientation == ["L", "F"]
    assert result.AnatomicRegionSequence[0].CodeMeaning == "Thorax"
    assert "TablePositionSequence" not in result
    assert "TableMotion" not in result


def test_of_angles_that_change_a_result_tells_the_first_and_each_way_from_it():
    [result] = results_of(enhanced_xa(primary=[30, 30.5, 31.5, 40]))
    assert result.PositionerMotion == "DYNAMIC"
    assert result.PositionerPrimaryAngle == 30
    assert result.PositionerPrimaryAngleIncrement == [0, 0.5, 1.5, 10]
    assert result.PositionerSecondaryAngleIncrement == [0, 0, 0, 0]


def test_of_angles_that_are_not_told_of_every_frame_a_result_tells_none():
    source = enhanced_xa(primary=[30, 30.5, 31.5, 40])
    del source.PerFrameFunctionalGroupsSequence[-1]
    [result] = results_of(source)
    assert not {"PositionerPrimaryAngle", "PositionerPrimaryAngleIncrement", "PositionerMotion"} & set(result.dir())


def test_a_spacing_that_changes_is_not_that_of_the_cine():
    [result] = results_of(enhanced_xa(spacing=[0.3, 0.3, 0.3, 0.2]))
    assert "ImagerPixelSpacing" not in result
    assert result.DistanceSourceToDetector == 1100


def test_a_result_of_one_frame_tells_what_holds_for_that_frame():
    source = enhanced_xa(primary=[30, 31, 32, 33], spacing=[0.3, 0.3, 0.3, 0.2])
    results = results_of(source, "single_frames")
    assert [result.PositionerPrimaryAngle for result in results] == [30, 31, 32, 33]
    assert [result.ImagerPixelSpacing[0] for result in results] == [0.3, 0.3, 0.3, 0.2]
    assert {result.PositionerMotion for result in results} == {"STATIC"}
    assert not any("PositionerPrimaryAngleIncrement" in result for result in results)


def test_a_collimator_that_moves_is_told_wholly_or_not_at_all():
    source = enhanced_xa()
    [shape] = source.SharedFunctionalGroupsSequence[0].pop("CollimatorShapeSequence").value
    for edge, group in enumerate(source.PerFrameFunctionalGroupsSequence):
        group.CollimatorShapeSequence = [deepcopy(shape)]
        group.CollimatorShapeSequence[0].CollimatorLeftVerticalEdge = 10 + edge
    [result] = results_of(source)
    assert not any(keyword.startswith("Collimator") for keyword in result.dir())


def test_what_a_frame_lacks_is_not_said_of_the_cine():
    source = enhanced_xa()
    del source.PerFrameFunctionalGroupsSequence[2].PositionerPositionSequence
    [result] = results_of(source)
    assert "PositionerPrimaryAngle" not in result
    assert "PositionerMotion" not in result


def test_a_malformed_value_in_a_group_is_left_out():
    source = enhanced_xa()
    source.SharedFunctionalGroupsSequence[0].IrradiationEventIdentificationSequence[0][
        "IrradiationEventUID"
    ]._value = "x"
    [result] = results_of(source)
    assert "IrradiationEventUID" not in result


def test_a_source_of_a_column_stand_gives_its_spacing_and_no_angles():
    [result] = results_of(enhanced_xrf())
    assert result.ImagerPixelSpacing == [0.3, 0.3]
    assert result.PositionerType == "COLUMN"
    assert "PositionerPrimaryAngle" not in result


def test_the_presentation_state_shows_the_calibrated_size():
    source = enhanced_xa()
    made = reconstruction(source)
    pictures = results_of(source)
    origin = Origin.of(made.provenance, route="chest", mark=Mark(), profile="multiframe_sc")
    state = MarkedView(source, pictures, made, origin=origin)
    assert state.DisplayedAreaSelectionSequence[0].PresentationPixelSpacing == [0.205, 0.205]


@pytest.mark.parametrize("grouped", GROUPED, ids=lambda each: each.keyword)
def test_each_macro_is_where_the_standard_has_it(grouped):
    assert (grouped.macro, grouped.within, grouped.section) in dicom_standard_macros()


def test_the_reference_says_where_each_comes_from():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "objects.md").read_text(encoding="utf-8")
    for grouped in GROUPED:
        assert f"| `{grouped.keyword}` | `{grouped.macro}`, `{grouped.within}` | {grouped.section} |" in page
