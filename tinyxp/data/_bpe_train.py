"""Learning byte pairs: the counts are kept up to date merge by merge, not counted again."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tinyxp.data._bpe import join, word_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tinyxp.data._bpe import Pair

__all__ = ["learn"]


class _Words:
    """The distinct words of a text, cut into parts, and how often each pair of parts occurs."""

    def __init__(self, texts: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(word_pattern().findall(text))
        self.freqs = list(counts.values())
        self.words = [[bytes((b,)) for b in word.encode("utf-8", "replace")] for word in counts]
        self.count: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(set)  # the words that hold a pair
        for i in range(len(self.words)):
            self._tally(i, self.freqs[i])

    def _tally(self, i: int, by: int) -> None:
        for pair in pairwise(self.words[i]):
            self.count[pair] += by
            self.where[pair].add(i)

    def merge(self, pair: Pair) -> set[Pair]:
        """Join `pair` in every word; return the pairs whose count went up."""
        risen: set[Pair] = set()
        joined = pair[0] + pair[1]
        for i in list(self.where[pair]):
            self._tally(i, -self.freqs[i])
            self.words[i] = join(self.words[i], pair)
            self._tally(i, self.freqs[i])
            risen.update(p for p in pairwise(self.words[i]) if joined in p)
        del self.where[pair], self.count[pair]
        return risen


def learn(texts: Iterable[str], merges: int) -> list[Pair]:
    """Return up to `merges` pairs in the order in which they are joined; a pair must occur twice.

    The heap holds stale counts: a count only goes up for pairs that a merge makes, and these are pushed
    again; what is popped with a count too high is pushed back with the true one.
    """
    words = _Words(texts)
    heap = [(-n, pair) for pair, n in words.count.items()]
    heapq.heapify(heap)
    found: list[Pair] = []
    while heap and len(found) < merges:
        claimed, pair = heapq.heappop(heap)
        true = words.count[pair]
        if true < 2:  # noqa: PLR2004 - what occurs once is no pattern
            continue
        if true != -claimed:
            heapq.heappush(heap, (-true, pair))
            continue
        found.append(pair)
        for new in words.merge(pair):
            heapq.heappush(heap, (-words.count[new], new))
    return found
