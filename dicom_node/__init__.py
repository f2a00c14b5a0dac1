"""DICOM and people: associations, result objects, workflow, audit, command line."""
