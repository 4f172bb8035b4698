"""Many short texts in little memory: forked workers share it, as no text has a reference count of its own."""

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Strings:
    """Texts behind one another in one block of bytes: each takes its bytes and eight more."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._content, self._ends = bytearray(), array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text, which may be a file's name that is no UTF-8."""
        self._content += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        number = range(len(self))[i]
        start = self._ends[number - 1] if number else 0
        return self._content[start : self._ends[number]].decode("utf-8", "surrogateescape")


class Labels:
    """The label of each picture, read as words: each distinct word is kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._found = array("q")

    def append(self, word: str) -> None:
        """The label of the next picture."""
        self._found.append(self._numbers.setdefault(word, len(self._numbers)))

    def __len__(self) -> int:
        return len(self._found)

    def numbered(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The distinct words in their order, that of numbers where all are numbers, and (images,) which each has."""
        words = list(self._numbers)
        numbers = all(word.removeprefix("-").isdecimal() and len(word) < 18 for word in words)
        if numbers:  # 007 and 7 are one
            values, of_word = np.unique(np.array([int(word) for word in words], np.int64), return_inverse=True)
            names = [str(value) for value in values.tolist()]
        else:
            names = sorted(words)
            place = {word: number for number, word in enumerate(names)}
            of_word = np.array([place[word] for word in words], np.int64)
        return names, of_word.astype(np.int64)[np.frombuffer(self._found, np.int64)]
