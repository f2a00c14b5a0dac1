"""Result objects: from a source data set and a reconstruction to DICOM data sets, without input or output."""
