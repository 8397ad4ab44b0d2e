from danlu.data.dedup import Deduplicator, content_hash


def test_hash_is_stable_and_seeded():
    assert content_hash("春眠") == content_hash("春眠")
    assert len({content_hash("春眠"), content_hash("春眠", 0), content_hash("春眠", 1), content_hash("春眠", -1)}) == 4
    assert len(content_hash("")) == 32


def test_first_of_equal_texts_is_new():
    seen = Deduplicator()
    assert [seen.is_new(text) for text in ("a b", "c", "a b", "a  b\n", "A b")] == [True, True, False, False, True]
    assert len(seen) == 3
