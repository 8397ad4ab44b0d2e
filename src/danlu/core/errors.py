"""The errors a person can meet, each saying what was wrong, where, and what to do.

The command line prints `what` and `do` and exits with `exit_code`; a traceback needs `--debug`.
"""

from typing import Any, Self

__all__ = [
    "AssetError",
    "ConfigError",
    "ContextError",
    "DanluError",
    "DataError",
    "FolderError",
    "Interrupted",
    "MissingExtraError",
    "ServeError",
    "StorageError",
]


class DanluError(Exception):
    """Root of the tree. `what` names the fault and its place, `do` the way out."""

    exit_code = 1

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"{what}\n{do}" if do else what)
        self.what, self.do = what, do

    @classmethod
    def again(cls, what: str, do: str) -> Self:
        """An error of another process as it was there, whatever the class takes to be made."""
        error = cls.__new__(cls)
        DanluError.__init__(error, what, do)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).again, (self.what, self.do)


class ConfigError(DanluError):
    """A setting is unknown, missing or of the wrong kind."""

    exit_code = 2


class DataError(DanluError):
    """The data cannot be used: absent, empty, undecodable, a row without its column."""


class FolderError(DanluError):
    """A model folder or checkpoint is absent, incomplete, tampered with or of another shape."""


class AssetError(DanluError):
    """A named asset could not be fetched or did not match its hash."""


class StorageError(DanluError):
    """Writing failed: the disk is full, or the place is not writable. What stood there still stands."""


class ContextError(DanluError):
    """A prompt does not fit into the model's context."""


class ServeError(DanluError):
    """The server cannot start, such as when its port is in use."""


class MissingExtraError(DanluError):
    """An optional dependency is absent; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package '{package}' / 需要安装 '{package}'",
            f'pip install "danlu[{extra}]"',
        )


class Interrupted(DanluError):  # noqa: N818  (a stop asked for is no fault)
    """Ctrl-C or SIGTERM; state was saved, the same command goes on."""

    exit_code = 130
