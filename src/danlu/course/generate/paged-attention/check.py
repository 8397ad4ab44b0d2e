"""Checks for the pool of pages; the reference is a plain count of who holds what."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

SOLUTION = "danlu.generate.pages"


def _filled(pool: Any, *keys: bytes) -> list[int]:
    """Pages that one sequence took and filled."""
    pages = [pool.take() for _ in keys]
    for page, key in zip(pages, keys, strict=True):
        pool.name(page, key)
    return pages


def check_every_page_once(exercise: SimpleNamespace) -> None:
    """From a pool of 4, four different pages can be taken; the fifth raises IndexError.
    从 4 页的池里可以取出四个不同的页；取第五个时抛出 IndexError。
    """
    pool = exercise.PagePool(4)
    taken = [pool.take() for _ in range(4)]
    assert sorted(taken) == [0, 1, 2, 3], f"taken: {taken}"
    assert (pool.available, pool.held) == (0, 4)
    try:
        pool.take()
    except IndexError:
        return
    raise AssertionError("a fifth page out of four")


def check_released_pages_can_be_taken_again(exercise: SimpleNamespace) -> None:
    """Pages without a key are free at once when their sequence lets go.
    没有键的页，序列一放手就空了。
    """
    pool = exercise.PagePool(3)
    pages = [pool.take(), pool.take()]
    pool.release(pages)
    assert (pool.available, pool.held, pool.remembered) == (3, 0, 0)
    assert len({pool.take() for _ in range(3)}) == 3


def check_content_is_found_after_its_owner_left(exercise: SimpleNamespace) -> None:
    """A full page keeps its content when nobody holds it; `find` gives it, without holding it.
    写满的页没人占用时，内容还在；find 能找到它，但并不占用。
    """
    pool = exercise.PagePool(4)
    pages = _filled(pool, b"a", b"b")
    pool.release(pages)
    assert pool.available == 4, "pages that nobody holds can be taken"
    assert pool.find([b"a", b"b", b"c"]) == pages, f"found: {pool.find([b'a', b'b', b'c'])}"
    assert pool.held == 0, "find holds nothing"


def check_find_stops_at_a_gap(exercise: SimpleNamespace) -> None:
    """A page is of use only if all before it are there too.
    前面的页都在，后面的页才有用：遇到第一个缺口就停。
    """
    pool = exercise.PagePool(4)
    pages = _filled(pool, b"a", b"b", b"c")
    assert pool.find([b"a", b"x", b"c"]) == pages[:1]
    assert pool.find([b"x", b"b"]) == []


def check_a_shared_page_has_several_holders(exercise: SimpleNamespace) -> None:
    """Two sequences hold a page: when one lets go, it is still held; when both have, it can be taken.
    两个序列共用一页：一个放手后仍被占用，两个都放手才可以取走。
    """
    pool = exercise.PagePool(2)
    pages = _filled(pool, b"a", b"b")
    pool.hold(pages[:1])
    assert pool.holders[pages[0]] == 2
    pool.release(pages)
    assert (pool.held, pool.available) == (1, 1), f"{pool.held} held"
    assert pool.take() == pages[1], "the page that is still held must not be given out"
    pool.release(pages[:1])
    assert pool.available == 1


def check_idle_pages_are_held_again(exercise: SimpleNamespace) -> None:
    """A page found and held again is not given out to anybody else, however often others take.
    找到并重新占用的页，无论别人怎么取，都不能再给出去。
    """
    pool = exercise.PagePool(3)
    pages = _filled(pool, b"a")
    pool.release(pages)
    pool.hold(pool.find([b"a"]))
    assert pages[0] not in {pool.take(), pool.take()}
    assert pool.available == 0


def check_the_longest_idle_goes_first(exercise: SimpleNamespace) -> None:
    """Nameless pages are taken first; then, of two sequences that left, the pages of the earlier one, its last first.
    先取没有键的页；之后先取较早离开的序列的页，而且从它的最后一页取起。
    """
    pool = exercise.PagePool(5)
    early, late = _filled(pool, b"a", b"b"), _filled(pool, b"c", b"d")
    pool.release(early)
    pool.release(late)
    pool.take()  # the fifth, nameless
    taken = [pool.take() for _ in range(4)]
    assert taken == [early[1], early[0], late[1], late[0]], f"taken: {taken}"


def check_a_key_goes_with_its_page(exercise: SimpleNamespace) -> None:
    """Once a page is taken for something else, its old content is not found any more.
    一页被取去另作他用之后，旧内容就不能再被找到。
    """
    pool = exercise.PagePool(2)
    pages = _filled(pool, b"a", b"b")
    pool.release(pages)
    assert pool.take() == pages[1]
    assert pool.find([b"a", b"b"]) == pages[:1]
    assert pool.remembered == 1
    pool.name(pages[1], b"z")
    assert pool.find([b"z"]) == pages[1:], "the page has room for another key"


def check_random_sequences_leak_nothing(exercise: SimpleNamespace) -> None:
    """Thousands of sequences come, share and go: each page is held exactly by those who have it.
    成千上万个序列来来去去、互相共用：每一页恰好由拥有它的序列占用。
    """
    draw, pool = random.Random(0), exercise.PagePool(12)
    alive: list[list[int]] = []
    for _ in range(3000):
        if draw.random() < 0.5 and pool.available:
            keys = [b"%d" % draw.randrange(8) for _ in range(draw.randint(1, 4))]
            pages = pool.find(keys)
            pool.hold(pages)
            for key in keys[len(pages) :]:
                if pool.available:
                    pages = [*pages, pool.take()]
                    pool.name(pages[-1], key)
            alive.append(pages)
        elif alive:
            pool.release(alive.pop(draw.randrange(len(alive))))
        holders = Counter(page for pages in alive for page in pages)
        assert [holders[page] for page in range(12)] == list(pool.holders), "holders are counted wrongly"
        assert pool.held == len(holders), f"{pool.held} held, {len(holders)} are"
