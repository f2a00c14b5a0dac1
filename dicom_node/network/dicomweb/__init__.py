"""DICOMweb (PS3.18): STOW-RS and QIDO-RS over HTTP, in front of the same intake, catalogue and store."""
