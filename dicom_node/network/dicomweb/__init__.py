"""DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS over HTTP, in front of the same intake, catalogue and store."""
