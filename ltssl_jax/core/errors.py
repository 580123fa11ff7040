"""What is wrong with the input, in one sentence."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Something the user gave (a config value, a file, a split) cannot work.

    The message names the thing, the value found and the remedy. Commands print it without a
    traceback; every other exception is a bug.
    """

    @classmethod
    def check(cls, is_right: bool, what: str, value: Any, wanted: str) -> None:
        """Raises one that says what `what` is and should be, unless `is_right`."""
        if not is_right:
            raise cls(f"{what} is {value!r}; it must be {wanted}")

    @classmethod
    def unknown(cls, what: str, word: str, known: Iterable[str]) -> "InputError":
        """Says that `what` has no `word`, which known word is nearest, and lists them all."""
        known = sorted(known)
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        return cls(f"{what} {word!r} is unknown{hint} known: {', '.join(known)}")
