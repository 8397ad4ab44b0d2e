"""Exact deduplication by the hash of the content."""

import hashlib

__all__ = ["Deduplicator", "content_hash"]


def content_hash(text: str, seed: int | None = None) -> str:
    """32 hex digits of a text's BLAKE2b hash; a seed gives another, unrelated family of hashes."""
    salt = b"" if seed is None else b"seed" + seed.to_bytes(12, "little", signed=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=salt).hexdigest()


class Deduplicator:
    """Remembers 16 bytes of each text, so that a corpus need not fit into memory."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, text: str) -> bool:
        """True the first time a text is shown. Texts differing only in white space count as one."""
        digest = bytes.fromhex(content_hash("".join(text.split())))
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True
