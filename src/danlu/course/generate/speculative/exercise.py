"""Exercise: guesses looked up in the text itself. 练习：在已有文本里查找猜测。"""

from collections.abc import Sequence

from danlu.generate.scheduler import Request


class Lookup:
    """Prompt look-up: what followed the last few tokens the time before."""

    def __init__(self, longest: int = 3) -> None:
        self.longest = longest  # tokens that have to match, at first; then fewer
        self._seen: dict[int, tuple[int, dict[tuple[int, ...], int]]] = {}  # by request.number, if you keep an index

    def propose(self, requests: Sequence[Request], most: int) -> list[list[int]]:
        """For each request, up to `most` tokens that may follow its `request.ids`.

        Take the last `longest` tokens. Where the same run stood earlier in `ids`, the tokens after it are the guess; if
        it stood several times, the latest earlier place counts. If it never did, try one token less, down to one; if
        that fails too, the guess is empty. A place counts only if something follows it within `ids`: the last tokens
        must not find themselves. The guess goes to the end of `ids` at most.

        `ids` grow by a few tokens between two calls. Do not read the whole text again each time: remember for each
        request where its runs end, and add those of the new tokens.
        """
        raise NotImplementedError

    def forget(self, request: Request) -> None:
        """It ended; another request may come with the same number."""
        self._seen.pop(request.number, None)
