"""Seeded changes of small files: what damage, converters and slips of the hand do to them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
_TOKENS = (
    b"", b"\n", b"\r\n", b"\r", b"\t", b" ", b"\0", b"\x1b[1m", b"\xef\xbb\xbf", b"\xe9",
    b"\xff\xfe", b"nan", b"inf", b"-1", b"0", b"1e400", b"1e-400", b"9" * 25, b"9" * 5000,
    b"0x10", b"1_0", b"01", "\u0661".encode(), "\u00a0".encode(), b"null", b"true", b"{}", b"[]",
    b"[" * 3000, b'"', b"'", b">", b"#", b"=", b"|", b"..", b"~nobody/x", b"MOTIF", b"ALPHABET",
    b"NaN", b"Infinity",
)  # fmt: skip
_WORD = re.compile(rb"[A-Za-z0-9_.+-]+")


def mutants(kind: str, n: int) -> Iterator[bytes]:
    """The corpus of a kind as it is, then `n` changed copies; the same on every run."""
    corpus = [path.read_bytes() for path in sorted((CORPUS / kind).iterdir())]
    yield from corpus
    draw = random.Random(kind)
    for _ in range(n):
        data = draw.choice(corpus)
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
            data = _changed(data, corpus, draw)
        yield data


def _changed(data: bytes, corpus: list[bytes], draw: random.Random) -> bytes:
    lines = data.split(b"\n")
    i, j = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    match draw.randrange(9):
        case 0:  # one bit
            if data and i < len(data):
                return data[:i] + bytes([data[i] ^ (1 << draw.randrange(8))]) + data[i + 1 :]
            return data
        case 1:  # a word becomes another one
            words = list(_WORD.finditer(data))
            if not words:
                return data
            word = draw.choice(words)
            other = draw.choice(_TOKENS) if draw.random() < 0.7 else draw.choice(words)[0]
            return data[: word.start()] + other + data[word.end() :]
        case 2:
            return data[:i] + draw.choice(_TOKENS) + data[i:]
        case 3:  # a short piece is lost
            return data[:i] + data[min(j, i + draw.randrange(1, 20)) :]
        case 4:
            return data[:i] if draw.random() < 0.3 else data
        case 5:  # a line twice
            k = draw.randrange(len(lines))
            return b"\n".join([*lines[: k + 1], *lines[k:]])
        case 6:  # a line lost
            k = draw.randrange(len(lines))
            return b"\n".join([*lines[:k], *lines[k + 1 :]])
        case 7:  # two files joined
            return data[:i] + draw.choice(corpus)[-draw.randrange(1, 60) :]
        case _:  # other line ends, blanks
            old, new = draw.choice(
                (
                    (b"\n", b"\r\n"),
                    (b"\t", b" "),
                    (b"\n", b" \n"),
                    (b"\t", b"\t "),
                    (b"\n", b"\n\n"),
                )
            )
            return data.replace(old, new)
