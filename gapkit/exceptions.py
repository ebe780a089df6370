"""Errors and warnings of gapkit, by name.

Every message says what was wrong, where (frame, key, atom), and what to do. All errors also derive from the
builtin that a caller would expect, so ``except ValueError`` keeps working.
"""

import re

#: most characters of a message
_LONGEST = 300
_NUMBERS = re.compile(r"(?:array\()?\[(?:[-+0-9.,\s\[\]]|e[-+]?\d|nan|inf|\.\.\.){40,}\]\)?")


class GapkitError(Exception):
    """Base class of every error that gapkit raises on purpose.

    Its text has one line of at most 300 characters: arrays in it are left out, and the middle of what is longer. The
    first argument in ``args`` is complete.
    """

    def __str__(self) -> str:
        text = " ".join(_NUMBERS.sub("[...]", super().__str__()).split())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 + 5 :]}"


class DataError(GapkitError, ValueError):
    """A frame, a label or a data file cannot be used as it is."""


class SpeciesError(DataError):
    """A frame holds a chemical species that the model or descriptor does not know."""


class SettingsError(GapkitError, ValueError):
    """A parameter has a value that cannot work."""


class ModelFileError(GapkitError, ValueError):
    """A model file is truncated, altered, of a newer format, or not a gapkit model at all."""


class NumericsError(GapkitError, ArithmeticError):
    """A factorisation or a variance came out impossible: the numbers cannot be trusted."""


class GapkitWarning(UserWarning):
    """Something works, but the user should know about it."""


class OutOfDomainWarning(GapkitWarning):
    """A prediction is made for an environment far from the training data."""


class CompilationWarning(GapkitWarning):
    """Kernels are compiled before the first run on a machine, which takes a while."""
