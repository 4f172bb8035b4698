"""Texts and labels in little memory against plain lists."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from zoo.formats.strings import Labels, Strings

WORDS = ["a", "", "caf\udce9.jpg", "日本/1.png", "b" * 300]


def test_texts_come_back_as_they_were() -> None:
    found = Strings(WORDS)
    assert list(found) == WORDS and len(found) == 5 and found[-1] == WORDS[-1]
    assert list(pickle.loads(pickle.dumps(found))) == WORDS
    with pytest.raises(IndexError):
        found[5]


def test_labels_are_numbered_in_the_order_of_words_or_of_numbers() -> None:
    for words, names, numbers in (
        (["b", "a", "b", "C"], ["C", "a", "b"], [2, 1, 2, 0]),
        (["10", "9", "-3", "9"], ["-3", "9", "10"], [2, 1, 0, 1]),
        (["7", "007", "1"], ["1", "7"], [1, 1, 0]),
        (["1", "x"], ["1", "x"], [0, 1]),
    ):
        labels = Labels()
        for word in words:
            labels.append(word)
        found, numbered = labels.numbered()
        assert len(labels) == len(words) and found == names
        assert numbered.tolist() == numbers and numbered.dtype == np.int64


def test_a_path_and_its_label_take_less_than_sixty_bytes() -> None:
    tracemalloc.start()
    texts, labels = Strings(), Labels()
    for i in range(20_000):
        texts.append(f"{i // 50:07d}/{i:08d}.jpg")
        labels.append(str(i // 50))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 20_000 < 60
