"""What can be wrong with a manifest, or with the files that it names.

These errors are for the operator who builds the archives; they may name files. None of them reaches a client.
"""


class ModelStoreError(Exception):
    """Base of every error of the model store."""


class ManifestError(ModelStoreError):
    """The manifest cannot be used.

    Attributes:
        key: the offending key, for example "models[0].preprocessing.size"; empty when the whole file is meant.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class ArchiveError(ModelStoreError):
    """An archive cannot be built."""


class MissingFileError(ArchiveError):
    """A file that the manifest names does not exist."""


class LabelsError(ArchiveError):
    """The labels file has none of the formats."""


class DigestMismatchError(ArchiveError):
    """A file is not the one whose sha256 the manifest holds."""

    def __init__(self, file: str, expected: str, actual: str) -> None:
        super().__init__(f"{file}: sha256 is {actual}, but {expected} is required")
        self.expected = expected
        self.actual = actual
