"""Who holds which page of the cache: free lists, reference counts, and pages found again by their content."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from danlu.models.paged import PAGE

__all__ = ["PagePool", "page_keys"]


# lesson: page-pool
class PagePool:
    """Gives out pages, and remembers what is in the full ones.

    A page is free, or held by one or more sequences. A page that nobody holds any more keeps its content, and its key,
    until it is needed for something else: the one that was let go first goes first. Keys are given to full pages only,
    so no sequence writes into a page that another reads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.holders = [0] * count
        self._free = list(range(count - 1, -1, -1))  # never used, or without a key; the last used is taken first
        self._idle: OrderedDict[int, None] = OrderedDict()  # with a key, held by nobody; the oldest first
        self._by_key: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        """Pages that can be taken now."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        return self.count - self.available

    @property
    def remembered(self) -> int:
        """Pages whose content can be found by key, held or not."""
        return len(self._by_key)

    def take(self) -> int:
        """A page to write into. Raises IndexError when there is none: ask `available` first."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._by_key[self._keys.pop(page)]
        else:
            raise IndexError("no page is free")
        self.holders[page] = 1
        return page

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The pages with these keys, up to the first that is not here. They are not held yet: see `hold`."""
        found = []
        for key in keys:
            if key not in self._by_key:
                break
            found.append(self._by_key[key])
        return found

    def hold(self, pages: Sequence[int]) -> None:
        """One more sequence uses these."""
        for page in pages:
            self._idle.pop(page, None)
            self.holders[page] += 1

    def name(self, page: int, key: bytes) -> None:
        """A page that is held is full, and this is its key. A second page of the same content stays nameless."""
        if key not in self._by_key and page not in self._keys:
            self._by_key[key] = page
            self._keys[page] = key

    def release(self, pages: Sequence[int]) -> None:
        """A sequence lets go. Its last pages go first when room is needed: beginnings are what others share."""
        for page in reversed(pages):
            self.holders[page] -= 1
            if self.holders[page] == 0:
                if page in self._keys:
                    self._idle[page] = None
                else:
                    self._free.append(page)

    def forget(self) -> None:
        """No content can be found any more: the weights changed."""
        for page in self._idle:
            self._free.append(page)
        self._idle.clear()
        self._by_key.clear()
        self._keys.clear()


# end lesson


def page_keys(ids: Sequence[int], known: Sequence[bytes] = (), salt: bytes = b"") -> list[bytes]:
    """A key for each full page of a sequence: a hash of its tokens and of all that stands before them.

    known: keys of its first pages, which are not computed again; salt: what else decides the content (an adapter).
    """
    keys = list(known)
    ends = range(len(keys) * PAGE, len(ids) + 1, PAGE)
    for start, end in pairwise(ends):
        text = b",".join(b"%d" % token for token in ids[start:end])
        keys.append(hashlib.blake2b((keys[-1] if keys else salt) + b"|" + text, digest_size=16).digest())
    return keys
