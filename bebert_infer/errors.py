"""The errors that a user can cause, each one sentence: what, which value, what is accepted, what next."""


class BebertError(Exception):
    """Base of every error that this package raises on purpose; the command line prints it without a traceback."""

    exit_code = 1


class BebertWarning(UserWarning):
    """What a user must be told though work goes on; the command line prints it, whatever -W or PYTHONWARNINGS say."""


class ModelFormatError(BebertError, ValueError):
    """A model folder is missing, damaged, of a future version, or contradicts itself."""


class MissingModelError(ModelFormatError):
    """The path that a user gave holds no model at all."""

    exit_code = 2


class HubError(BebertError):
    """A model that cannot be fetched from the hub or brought there: no network, no right, a server that fails."""


class CheckpointError(BebertError, ValueError):
    """A training checkpoint is of no known family, or its tensors contradict its config."""


class MissingCheckpointError(CheckpointError):
    """The path that a user gave holds no checkpoint at all."""

    exit_code = 2


class ParityError(BebertError):
    """Two forms of one model disagree by more than rounding explains; nothing was written."""


class InputError(BebertError, ValueError):
    """Text, token ids or options that this model cannot take."""

    exit_code = 2


class DataError(InputError):
    """A data file that cannot be read or used; one sentence: what, which value and line, what next."""


class RowError(DataError):
    """A row of an input file that cannot be classified, where the run was to stop at the first one."""

    exit_code = 1


class MissingExtraError(BebertError, ImportError):
    """A command needs packages that only an optional extra installs."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """The first line that says something of an error of somebody else's software, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0] if lines else type(error).__name__:.300}".rstrip(".")


def safe(text: str) -> str:
    """Return a text that can be printed and stored: half characters (lone surrogates) are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
