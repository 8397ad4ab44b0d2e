"""Five hundred damaged models of every family: each is refused by name, or is the true model; none costs anything.

All run in one process of their own that may not take more than a little memory. A case is drawn from its number
alone: `python -m tests.models.test_fuzz 17` runs case 17 and shows what it met.
"""

import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from danlu.core.errors import DanluError
from danlu.models import auto
from danlu.models.encoders import ENCODERS
from danlu.models.families import DECODERS
from danlu.models.gguf import ARCHITECTURES, gguf_name, interleave
from tests.models.mutations import (
    CONFIG,
    GGUF_FILE,
    GGUF_PARTS,
    WEIGHTS,
    Parts,
    Sound,
    tiny_config,
    write_folder,
    write_gguf,
)

CASES = 500
MEMORY = 1 << 29  # bytes of address space that all cases together may take beyond what is there at the start
SECONDS = 1.0  # of the processor that one case may take
LISTED = re.compile(r"\w\.(weight|bias)\b")  # or the error lists the tensors that do not fit what was said
BATCH = {"input_ids": torch.tensor([[1, 5, 9, 30, 2]]), "decoder_input_ids": torch.tensor([[0, 7, 3]])}


def sound(kind: str) -> Sound:
    model = auto.build(tiny_config(kind))
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    model.tie()
    tensors = {name: tensor.clone() for name, tensor in auto.state_to_save(model).items()}
    return Sound(model.hf_config(), tensors)


def sound_gguf(kind: str) -> Parts:
    """The same as a GGUF file's parts: llama.cpp's names, its order of rows, its metadata."""
    config, tensors = sound(kind)
    counts = {
        "block_count": 2, "context_length": 64, "embedding_length": 32, "feed_forward_length": 48, "attention.head_count": 4,
        "attention.head_count_kv": 2, "attention.key_length": 8, "rope.dimension_count": 8, "vocab_size": 40,
    }  # fmt: skip
    metadata: dict[str, tuple[int, Any]] = {"general.architecture": (8, kind), "general.name": (8, "tiny")}
    metadata |= {f"{kind}.{key}": (4, number) for key, number in counts.items()}
    metadata[f"{kind}.attention.layer_norm_rms_epsilon"] = (6, config["rms_norm_eps"])
    metadata[f"{kind}.rope.freq_base"] = (6, 10000.0)
    arrays = {}
    for name, tensor in tensors.items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        turned = tensor[interleave(heads, tensor.shape[0])] if kind == "llama" and heads else tensor
        arrays[str(gguf_name(name))] = turned.numpy()
    return Parts(metadata, arrays)


def logits(path: Path) -> torch.Tensor:
    with torch.inference_mode():
        return auto.load(path)(BATCH).float()


def names(word: str, told: str) -> bool:
    """Whether an error speaks of a setting, by the file's name of it or by that which danlu gives it everywhere."""
    families = [*ENCODERS.values(), *DECODERS.values()]
    ours = {theirs: own for family in families for own, theirs in family.renamed.items()}
    return word in told or ours.get(word, word) in told


class Bench:
    """Sound models and what they answer, made once a family."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[tuple[str, str], tuple[Any, torch.Tensor]] = {}

    def model(self, form: str, kind: str) -> tuple[Any, torch.Tensor]:
        if (form, kind) not in self._known:
            path = self.folder / f"sound-{form}-{kind}"
            if form == "gguf":
                path, made = path.with_suffix(".gguf"), sound_gguf(kind)
                write_gguf(path, made)
            else:
                made = sound(kind)
                write_folder(path, *made)
            self._known[form, kind] = made, logits(path)
        return self._known[form, kind]

    def case(self, number: int) -> tuple[str, Path, str, torch.Tensor]:
        """Draw and write it. Returns what it is in words, its path, the word to be named, the true logits."""
        draw = random.Random(number)
        form = ("config", "weights", "config", "weights", "gguf")[number % 5]
        kinds = list(ARCHITECTURES) if form == "gguf" else list(auto.FAMILIES)
        kind = kinds[number // 5 % len(kinds)]
        made, expected = self.model("gguf" if form == "gguf" else "folder", kind)
        path = self.folder / f"{number}{'.gguf' if form == 'gguf' else ''}"
        mutate = draw.choice({"config": CONFIG, "weights": WEIGHTS, "gguf": GGUF_PARTS + GGUF_FILE}[form])
        named = mutate(draw, made, path)
        return f"{number} {kind} {mutate.__name__} {named!r}", path, named, expected

    def verdict(self, number: int) -> tuple[str, str]:
        """'refused', 'equal', or what is wrong; and the case in words with what it was told."""
        words, path, named, expected = self.case(number)
        start = time.process_time()
        try:
            found = logits(path)
        except DanluError as error:
            told = f"{error.what} {error.do}"
            fits = path.name in error.what and (names(named, told) or LISTED.search(told))
            fault = "refused" if fits else f"the error does not name {named!r}"
        except BaseException as error:  # whatever else it may be is the finding
            return f"{type(error).__name__}", f"{words}: {error}\n{traceback.format_exc(limit=-4)}"
        else:
            told = ""
            fault = (
                "equal"
                if found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)
                else "another model"
            )
        if time.process_time() - start > SECONDS:
            fault = f"{time.process_time() - start:.1f} s"
        return fault, f"{words}: {told[:300]}"


def main(first: int, last: int) -> None:
    """Print a JSON list of the faults found, how many were refused and equal, and the seconds that all took."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for kind in auto.FAMILIES:
            bench.model("folder", kind)
        for kind in ARCHITECTURES:
            bench.model("gguf", kind)
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        start, counts, faults = time.process_time(), {"refused": 0, "equal": 0}, []
        for number in range(first, last):
            fault, words = bench.verdict(number)
            if fault in counts:
                counts[fault] += 1
            else:
                faults.append(f"{fault}: {words}")
            if last - first == 1:
                print(fault, words)
        print(json.dumps({"faults": faults, **counts, "seconds": time.process_time() - start}))


def fuzz(first: int, last: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.models.test_fuzz", str(first), str(last)]
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2]
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
def test_damaged_models_are_refused_by_name_or_true():
    told = fuzz(0, CASES)
    print(f"\n{told['refused']} refused, {told['equal']} equal, {told['seconds']:.1f} s")
    assert told["faults"] == []
    assert told["refused"] > CASES // 2
    assert told["equal"] > 0
    assert told["refused"] + told["equal"] == CASES


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(sys.argv[1]) + 1)
