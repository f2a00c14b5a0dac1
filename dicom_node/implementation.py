"""The name of this software in associations and in the files that it writes (PS3.7 D.3.3.2, PS3.10 7.1)."""

from pydicom.uid import UID

#: It never changes: the digest of a kept object depends on it.
IMPLEMENTATION_CLASS_UID = UID("2.25.12945365820645112106046995567144925329")
IMPLEMENTATION_VERSION_NAME = "FULLFIELD"
