"""Exercise: back-translation, the way there and back. 练习：回译，去一趟再回来。"""

from collections.abc import Sequence
from random import Random

from danlu.data.augmenters.back_translation import Config, Translator


class BackTranslation:
    """Texts there and back. It draws no chance: there is one variant of a text."""

    def __init__(self, translator: Translator, config: Config | None = None) -> None:
        self._translator, self._config = translator, config or Config()

    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each; as it was, when it came back empty or much longer or shorter.

        `language_of(text)` tells whether a text is 'en' or 'zh', `sentences(text)` cuts it (both are in
        danlu.data.augmenters.back_translation). All sentences of a language go through
        `self._translator.translate(texts, source, target)` in ONE call there and one back: a model that is asked
        sentence by sentence is many times slower. Sentences of white space alone are not sent. Each sentence that
        comes back takes the place of its own, and the white space around the old one stays. Much longer or shorter:
        the new text's length over the old one's is beyond `self._config.length`, or below 1 over it.
        """
        raise NotImplementedError
