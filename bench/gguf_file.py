"""A poet carried to llama.cpp in one GGUF file: its size and its error by kind, and whether both say the same.

把一位诗人装进一个 GGUF 文件交给 llama.cpp：各种存法的体积与误差，以及两边说的话是否一致。

A small poet is trained (about a minute), exported in four kinds, read back, and asked for held-out poems by danlu and by
llama.cpp: the ids of texts, the loss, the greedy characters. Also: every block layout beside the `gguf` package, and a
file whose rows of q and k were left in Hugging Face's order.
"""

import contextlib
import io
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request, urlopen

import gguf
import numpy as np
import torch
import xllamacpp
from _common import Raw, arguments, show, write
from _poet import Verses, train_poet, verses

from danlu.core.folder import Lineage
from danlu.core.gguf import GGUF, KINDS, dequantise
from danlu.export import gguf as export
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.base import LanguageModel
from danlu.models.gguf import gguf_name
from danlu.tokenizer import Tokenizer
from danlu.train.objective import cross_entropy

WORK = "a poet in GGUF: size, error, the same greedy characters in llama.cpp / GGUF 里的诗人：体积、误差、与 llama.cpp 是否一致"
TYPES = ("f32", "f16", "q8_0", "q4_0")
STEPS, ASKED, TOKENS = 200, 24, 24
HARD = ["春眠不觉晓，处处闻啼鸟。", " 春  山 ", "a b\tc\n\nd", "龘𠮷é🔥 <0x41> ", "《无题》\n"]


class LlamaCpp:
    """llama.cpp with one file; its server listens on this machine only."""

    def __init__(self, path: Path) -> None:
        params = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 128, 1, 0, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
        self.server = xllamacpp.Server(params)  # pyright: ignore[reportAttributeAccessIssue]

    def ask(self, what: str, **body: Any) -> list[int]:
        """The ids that its reply holds."""
        address = f"{self.server.listening_address}/{what}"
        request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=120) as reply:
            return json.load(reply)["tokens"]

    def tokenize(self, text: str) -> list[int]:
        return self.ask("tokenize", content=text, add_special=False, parse_special=False)

    def greedy(self, ids: list[int]) -> list[int]:
        settings = {"n_predict": TOKENS, "temperature": 0.0, "top_k": 1, "cache_prompt": False, "return_tokens": True}
        return self.ask("completion", prompt=ids, **settings)


def layouts() -> dict[str, float]:
    """Largest difference from the `gguf` package, by kind, over random blocks; 0 when every bit is read alike."""
    draw = np.random.default_rng(0)
    found = {}
    for kind in KINDS.values():
        blocks = draw.integers(0, 256, (64, kind.size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            theirs = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind.name]).reshape(64, -1)
        sound = np.isfinite(theirs)  # random bytes may spell a scale that is no number
        found[kind.name] = float(np.abs(dequantise(kind, blocks)[sound] - theirs[sound]).max())
    return found


@torch.inference_mode()
def loss(model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Nats a character."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text)])
        found = cross_entropy(model, {"input_ids": ids, "labels": ids})
        total, count = total + float(found.total), count + int(found.count)
    return total / count


def weight_error(file: GGUF, model: LanguageModel) -> float:
    """|in the file - of the model| / |of the model|, over the matrices of the layers whose rows keep their order."""
    gap = size = 0.0
    for name, weight in model.state_dict().items():
        place = gguf_name(name)
        if place in file.tensors and ".ffn_" in place and weight.ndim == 2:
            own = weight.double().numpy()
            gap, size = gap + float(((file.array(place) - own) ** 2).sum()), size + float((own**2).sum())
    return (gap / size) ** 0.5


def exported(folder: Path, kind: str) -> Path:
    out = folder.parent / f"{kind}.gguf"
    with contextlib.redirect_stdout(io.StringIO()):
        return export.run(export.Config.model_validate({"folder": folder, "out": out, "type": kind}))


def same_greedy(file: Path, prompts: Sequence[str]) -> tuple[int, list[str]]:
    """How many prompts both continue with the same characters; and what llama.cpp says to the first ones."""
    engine, theirs = Engine.open(file), LlamaCpp(file)
    asked = [engine.tokenizer.encode(prompt) for prompt in prompts]
    own = engine.generate(asked, SamplingParams(temperature=0, max_tokens=TOKENS))
    stops = engine.tokenizer.stop_ids
    said = [[token for token in theirs.greedy(ids) if token not in stops] for ids in asked]
    told = [prompt + engine.tokenizer.decode(ids) for prompt, ids in zip(prompts, said, strict=True)]
    return sum(answer.ids == ids for answer, ids in zip(own, said, strict=True)), told[:2]


def same_ids(file: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    theirs = LlamaCpp(file)
    return sum(theirs.tokenize(text) == tokenizer.encode(text) for text in texts)


def carried(read: Verses, home: Path) -> dict[str, dict[str, Any]]:
    """Every kind of file, and one with the rows as they were."""
    model = train_poet(read, STEPS, intermediate_size=384)  # rows of whole blocks
    auto.save(model, home / "poet", lineage=Lineage(verb="bench"), save_tokenizer=read.tokenizer.save)
    prompts = [text[: text.index("\n") + 1] for text in read.held[:ASKED]]
    draw = random.Random(0)
    texts = [*read.held, *HARD, *("".join(draw.choices("春山 \n,ab龘", k=20)) for _ in range(20))]
    folder = home / "poet"
    found: dict[str, dict[str, Any]] = {
        "folder": {"MB": sum(file.stat().st_size for file in folder.iterdir()) / 1e6, "loss": loss(model, read.tokenizer, read.held)}
    }  # fmt: skip
    for kind in TYPES:
        file = exported(folder, kind)
        same, said = same_greedy(file, prompts)
        found[kind] = {
            "MB": file.stat().st_size / 1e6,
            "error": weight_error(GGUF(file), model),
            "loss": loss(auto.load(file), read.tokenizer, read.held),
            "same": same,
            "said": said,
        }
    found["f32"]["ids"], found["f32"]["texts"] = same_ids(home / "f32.gguf", read.tokenizer, texts), len(texts)
    with mock.patch.object(export, "interleave", lambda heads, rows: torch.arange(rows)):
        (home / "wrong").mkdir()
        (home / "wrong" / "poet").symlink_to(folder)
        file = exported(home / "wrong" / "poet", "f32")
    right, wrong = LlamaCpp(home / "f32.gguf"), LlamaCpp(file)
    asked = [read.tokenizer.encode(prompt) for prompt in prompts]
    said = [wrong.greedy(ids) for ids in asked]
    found["rows not moved"] = {
        "MB": file.stat().st_size / 1e6,
        "error": found["f32"]["error"],
        "loss": loss(auto.load(file), read.tokenizer, read.held),
        "same": sum(right.greedy(ids) == told for ids, told in zip(asked, said, strict=True)),
        "said": [prompt + read.tokenizer.decode(ids) for prompt, ids in zip(prompts, said, strict=True)][:2],
    }
    return found


def main() -> None:
    read = arguments(__doc__, repeats=1).parse_args()
    blocks = layouts()
    raw: Raw = {}
    with tempfile.TemporaryDirectory() as home:
        found = carried(verses(), Path(home))
    head = ("file", "MB", "error of the weights", "loss, nats", f"greedy alike, of {ASKED}")
    rows = [
        (name, one["MB"], one.get("error", "-"), f"{one['loss']:.4f}", f"{one.get('same', '-')}")
        for name, one in found.items()
    ]
    show(head, rows)
    for name, one in found.items():
        for text in one.get("said", ()):
            print(f"{name}: {text!r}")
    print(
        f"ids alike: {found['f32']['ids']} of {found['f32']['texts']} texts; blocks off by at most {max(blocks.values()):g}"
    )
    alike = {name: one["same"] / ASKED for name, one in found.items() if "same" in one}
    write(read.json, WORK, {}, raw, files=found, blocks=blocks, difference=max(blocks.values()), alike=alike)


if __name__ == "__main__":
    main()
