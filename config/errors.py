"""Everything that can go wrong, by who can mend it.

Raise the narrowest class where the fault is known; catch where something can be done. The message is one
sentence for a person, without patient data.
"""


class FullfieldError(Exception):
    """Root of every error that Fullfield raises on purpose."""


class ConfigError(FullfieldError):
    """A setting, a route or a command-line argument is wrong: the administrator mends it."""


class WeightsError(ConfigError):
    """Model weights are missing, damaged or not what they claim: the administrator installs them again."""


class Declined(FullfieldError):
    """The picture is not one to reconstruct: nobody mends it, the job ends `declined` with this reason."""


class UnsupportedImage(Declined):
    """The pixel data cannot be decoded, contradict the header, or are of a kind not reconstructed."""


class UnfamiliarImage(Declined):
    """The picture is unlike those that the networks know: what they made of it would mean nothing."""


class NoAperture(Declined):
    """No collimated aperture was found, or it leaves nothing to reconstruct."""


class PeerUnavailable(FullfieldError):
    """A DICOM peer did not answer, aborted, or said that it is out of resources: time mends it, try again."""


class PeerRefused(FullfieldError):
    """A DICOM peer refused object or association for good: the administrators of both sides mend it."""


class StorageUnavailable(FullfieldError):
    """The database or the object store cannot be reached or is locked: time mends it, try again."""


class StorageFull(FullfieldError):
    """The disk is nearly full: the administrator makes room."""


class DamagedDatabase(StorageUnavailable):
    """The database has broken pages, or looks so while the disk cannot read it: where that stays so the administrator
    restores it."""


class DamagedObject(FullfieldError):
    """A stored object is missing or its bytes do not match its digest: the administrator restores it."""


class LeaseLost(FullfieldError):
    """Another holds the job, or the delivery, now, or it is settled: who held it drops its work."""
