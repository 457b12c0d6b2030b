"""Everything that can go wrong for a reason the user can mend. The command line prints one line and exits with 2."""


class InterpError(Exception):
    """Base of all errors raised on purpose. Message: what was got, what was expected, what to do."""


class ConfigError(InterpError):
    """A setting is unknown, missing or out of range."""


class ShapeError(InterpError):
    """A tensor's shape does not fit what it is used for."""


class UnknownHookError(InterpError):
    """A hook name that this model does not have."""


class ModelError(InterpError):
    """A model or tokenizer cannot be found, read or supported."""


class DataError(InterpError):
    """Text cannot be found or read, or holds nothing usable."""


class ArtifactError(InterpError):
    """A file of ours (SAE, checkpoint, shard, manifest) is missing, damaged or does not match."""


class NonFiniteError(InterpError):
    """NaN or infinity where a number was needed; raised before any weight moves."""


class StorageError(InterpError):
    """The disk is full or a folder cannot be written."""


class MissingDependencyError(InterpError):
    """An optional package is needed for what was asked."""


class RankLostError(InterpError):
    """Another process of the same run is gone, or does not answer."""
