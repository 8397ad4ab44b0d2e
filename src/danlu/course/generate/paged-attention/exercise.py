"""Exercise: who holds which page of the cache. 练习：缓存的每一页由谁占用。"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PagePool:
    """Gives out pages, and remembers what is in the full ones.

    A page is free, or held by one or more sequences. A page that nobody holds any more keeps its content, and its key,
    until it is needed for something else.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.holders = [0] * count  # how many sequences hold each page
        self._free = list(range(count - 1, -1, -1))  # pages without a key that nobody holds
        self._idle: OrderedDict[int, None] = OrderedDict()  # pages with a key that nobody holds; the oldest first
        self._by_key: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}  # the key of each page that has one

    @property
    def available(self) -> int:
        """Pages that can be taken now: free ones and idle ones."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        return self.count - self.available

    @property
    def remembered(self) -> int:
        """Pages whose content can be found by key, held or not."""
        return len(self._by_key)

    def take(self) -> int:
        """A page to write into, held by one sequence. Raises IndexError when there is none.

        Free pages first, the last of the list. Else the page that has been idle longest; its key is forgotten.
        """
        raise NotImplementedError

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The pages with these keys, in order, up to the first key that is not here. Nobody's hold changes."""
        raise NotImplementedError

    def hold(self, pages: Sequence[int]) -> None:
        """One more sequence uses these; they are idle no longer."""
        raise NotImplementedError

    def name(self, page: int, key: bytes) -> None:
        """A page that is held is full, and this is its key. A second page of the same content stays nameless."""
        if key not in self._by_key and page not in self._keys:
            self._by_key[key] = page
            self._keys[page] = key

    def release(self, pages: Sequence[int]) -> None:
        """A sequence lets go. A page that nobody holds any more becomes idle if it has a key, else free.

        The sequence's last pages become idle first, so that they are also taken first: beginnings are what others share.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """No content can be found any more: the weights changed. Pages that are held stay held."""
        for page in self._idle:
            self._free.append(page)
        self._idle.clear()
        self._by_key.clear()
        self._keys.clear()
