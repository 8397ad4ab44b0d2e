"""Back-translation: into the other language and back, so that the same is said in other words.

Sennrich, Haddow & Birch 2016, "Improving neural machine translation models with monolingual data" (§3); as augmentation
of labelled texts Yu et al. 2018, "QANet" (§3). The translator is anything with `translate`: danlu's own
(generate/translate.py), or an OpenAI-style endpoint.
"""

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random
from typing import Any, Literal, Protocol

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import DataError, MissingExtraError
from danlu.core.i18n import tr
from danlu.data.augmenters._words import is_han, pieces

__all__ = ["BackTranslation", "Config", "EndpointTranslator", "Language", "Translator", "language_of", "sentences"]

Language = Literal["en", "zh"]

_END = re.compile(r"[。！？!?…]+[”’」』）)\"']*\s*|\.+[”’)\"']*\s+|\n\s*")  # of a sentence: not the point in 3.5
_NAMES = {"en": "English", "zh": "Simplified Chinese"}
_AGAIN = (429, 500, 502, 503, 504)  # answers that may be better a little later
_PAUSES = (0.5, 2.0)  # seconds before a second and a third try


class Translator(Protocol):
    """Translates texts between English and Chinese, one for each, in order."""

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]: ...


class Config(Base):
    """Who translates: a model folder of danlu's translator, or an endpoint."""

    folder: Input | None = doc(None, "model folder of a translator", "翻译模型文件夹")
    url: str | None = doc(None, "OpenAI-style endpoint, as http://localhost:8000/v1", "OpenAI 风格的接口地址，如 http://localhost:8000/v1")  # fmt: skip
    model: str = doc("default", "the endpoint's model", "接口所用的模型名")
    key: str = doc("OPENAI_API_KEY", "environment variable with the endpoint's key", "存放接口密钥的环境变量")
    at_once: int = doc(4, "requests at a time to the endpoint", "同时发出的请求数", ge=1)
    timeout: float = doc(60.0, "seconds to wait for one answer", "等待一次回答的秒数", gt=0)
    length: float = doc(
        2.0,
        "a text that comes back more than so many times as long, or as short, is left as it was",
        "往返后长度变化超过此倍数（过长或过短）则不采用",
        gt=1,
    )


class BackTranslation:
    """Texts there and back. It draws no chance: there is one variant of a text."""

    kind: Literal["text"] = "text"
    tries = 1

    def __init__(self, translator: Translator, config: Config | None = None) -> None:
        self._translator, self._config = translator, config or Config()

    # lesson: back-translation
    def augment(self, contents: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """One text for each; as it was, when it came back empty or much longer or shorter."""
        results = list(contents)
        ways: tuple[tuple[Language, Language], ...] = (("en", "zh"), ("zh", "en"))
        for home, abroad in ways:
            places = [place for place, text in enumerate(contents) if language_of(text) == home]
            texts = [sentences(contents[place]) for place in places]
            asked = list(dict.fromkeys(part.strip() for parts in texts for part in parts if part.strip()))  # each once
            there = self._translator.translate(asked, home, abroad) if asked else []
            back = self._translator.translate(there, abroad, home) if asked else []
            again = dict(zip(asked, back, strict=True))
            for place, parts in zip(places, texts, strict=True):
                new = "".join(_like(again[part.strip()], part) if part.strip() else part for part in parts)
                if new.strip() and 1 / self._config.length <= len(new) / len(contents[place]) <= self._config.length:
                    results[place] = new
        return results

    # end lesson


class EndpointTranslator:
    """Asks an OpenAI-style chat endpoint, a sentence at a time, at temperature 0."""

    def __init__(self, url: str, model: str, *, key: str = "", at_once: int = 4, timeout: float = 60.0) -> None:
        self._url, self._model = url.rstrip("/") + "/chat/completions", model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._at_once, self._timeout = at_once, timeout

    @classmethod
    def of(cls, config: Config) -> "EndpointTranslator":
        """The one that `config` names."""
        assert config.url is not None
        key = os.environ.get(config.key, "")
        return cls(config.url, config.model, key=key, at_once=config.at_once, timeout=config.timeout)

    def translate(self, texts: Sequence[str], source: Language, target: Language) -> list[str]:
        """One translation for each text. Raises DataError when the endpoint does not answer as it should."""
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "data") from None
        asked = (
            f"Translate the user's text from {_NAMES[source]} into {_NAMES[target]}. Answer with the translation only."
        )
        with httpx.Client(timeout=self._timeout, headers=self._headers) as client, ThreadPoolExecutor(self._at_once) as pool:  # fmt: skip
            return list(pool.map(lambda text: self._one(client, asked, text), texts))

    def _one(self, client: Any, asked: str, text: str) -> str:
        import httpx

        messages = [{"role": "system", "content": asked}, {"role": "user", "content": text}]
        request = {"model": self._model, "messages": messages, "temperature": 0}
        fault = ""
        for pause in (*_PAUSES, None):
            try:
                answer = client.post(self._url, json=request)
                if answer.status_code == httpx.codes.OK:
                    return str(answer.json()["choices"][0]["message"]["content"]).strip()
                fault = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in _AGAIN:
                    break
            except httpx.TransportError as error:
                fault = str(error) or type(error).__name__
            except (ValueError, KeyError, IndexError, TypeError):
                fault = tr("an answer that is no chat completion", "返回的不是聊天补全")
                break
            if pause is not None:
                time.sleep(pause)
        raise DataError(
            tr(f"no translation from {self._url}: {fault}", f"{self._url} 没有给出译文：{fault}"),
            tr("is the server running, and is that its address and its model?", "服务启动了吗？地址与模型名对吗？"),
        )


def language_of(text: str) -> Language:
    """'zh' when more Chinese characters stand in it than words of letters, else 'en'."""
    parts = pieces(text)
    han = sum(len(part) for part in parts if is_han(part))
    return "zh" if han > sum(part[:1].isalpha() and not is_han(part) for part in parts) else "en"


def sentences(text: str) -> list[str]:
    """The text cut after the marks that end a sentence; joined it is the text again."""
    cuts = [0, *(end.end() for end in _END.finditer(text)), len(text)]
    return [text[start:stop] for start, stop in pairwise(cuts) if stop > start]


def _like(new: str, old: str) -> str:
    """With the white space around it that the old sentence had."""
    return old[: len(old) - len(old.lstrip())] + new.strip() + old[len(old.rstrip()) :]
