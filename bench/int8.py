"""int8 weights beside float32 and bfloat16: size, loading, decoding; and what goes wrong with other int8.

int8 权重与 float32、bfloat16 对比：体积、加载、解码速度；以及别的 int8 做法错在哪里。

The model is a random decoder of 63 million parameters, large enough that decoding waits for the weights. It is
quantised by the verb itself, `danlu int8`. --quick takes a small one and measures only what needs no time.
"""

import contextlib
import io
import os
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from statistics import median

import torch
from _common import Raw, arguments, interleave, ratio, show, write
from _small import decoder
from torch import Tensor, nn

from danlu.compress import int8
from danlu.core.folder import Lineage, ModelFolder
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.quantised import Int8Linear
from danlu.ops.quant import dequantise, quantise_rows
from danlu.tokenizer import TokenizerConfig, train_tokenizer

LARGE = {"hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 12}
SMALL = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 6}
VOCABULARY, ANSWER = 8192, 16
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORK = (
    f"size, loading and decoding ({ANSWER} tokens for one request) of a decoder of 63 million parameters / "
    f"6300 万参数的解码器：体积、加载与解码（单个请求，{ANSWER} 个词元）"
)


def folders(root: Path, shape: dict[str, int]) -> dict[str, Path]:
    """The same random model in float32, in bfloat16 and, made of the first, in int8."""
    tokenizer = train_tokenizer(["int8 weights"], TokenizerConfig(kind="char"))
    model = decoder(VOCABULARY, **shape)
    found = {name: root / name for name in DTYPES}
    for name, dtype in DTYPES.items():
        auto.save(model.to(dtype), found[name], lineage=Lineage(verb="bench"), save_tokenizer=tokenizer.save)
    with contextlib.redirect_stdout(io.StringIO()):
        found["int8"] = int8.run(int8.Config(base=found["fp32"], out=root / "run"))
    return found


def decoding(found: dict[str, Path], repeats: int) -> Raw:
    """Time of an answer of ANSWER tokens, the request alone in its batch."""
    engines = {
        name: Engine.open(path, EngineConfig(max_rows=1, dtype="fp32" if name == "fp32" else "bf16"))
        for name, path in found.items()
    }
    params = SamplingParams(max_tokens=ANSWER, temperature=0, seed=0)

    def answer(engine: Engine) -> None:
        if len(engine.generate([[5, 6, 7]], params)[0].ids) != ANSWER:
            raise SystemExit("the random model ended its answer early")

    return interleave({name: lambda one=one: answer(one) for name, one in engines.items()}, repeats)


def loading(found: dict[str, Path], repeats: int) -> Raw:
    """Time to open, check and load a folder."""

    def load(path: Path) -> None:
        auto.load(path)

    return interleave({name: lambda path=path: load(path) for name, path in found.items()}, repeats)


def logits_of(path: Path) -> Tensor:
    """Scores for a fixed random text, [1, 32, V], computed in float32."""
    ids = torch.randint(0, VOCABULARY, (1, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return auto.load(path, dtype=torch.float32)({"input_ids": ids})


def error(told: Tensor, wanted: Tensor) -> float:
    """|told - wanted| / |wanted|."""
    return ((told - wanted).norm() / wanted.norm()).item()


def one_scale(weight: Tensor) -> Tensor:
    """The matrix after int8 with a single scale for all of it."""
    scale = weight.abs().max() / 127
    return (weight / scale).round() * scale


def outliers() -> list[tuple[object, ...]]:
    """Error of a product x Wᵀ, W 512 x 512 of deviation 0.02, when one weight grows."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 512, generator=generator), torch.randn(512, 512, generator=generator) * 0.02
    rows = []
    for outlier in (None, 0.5, 2.0, 8.0):
        if outlier is not None:
            weight[100, 100] = outlier
        others = torch.arange(512) != 100
        wanted = (x @ weight.T)[:, others]
        by_row = (x @ dequantise(*quantise_rows(weight)).T)[:, others]
        by_one = (x @ one_scale(weight).T)[:, others]
        zeros = (one_scale(weight)[others] == 0).float().mean().item()
        rows.append((outlier or "none", error(by_row, wanted), error(by_one, wanted), f"{zeros:.1%}"))
    return rows


def dynamic() -> tuple[list[tuple[object, ...]], dict[str, float]]:
    """torch's quantize_dynamic({nn.Linear}) on a random GPT-2 and on a random Llama of transformers."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    gpt2 = GPT2Config(vocab_size=1000, n_embd=128, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0)
    llama = LlamaConfig(vocab_size=1000, hidden_size=128, intermediate_size=512, num_hidden_layers=4)
    llama.num_attention_heads = llama.num_key_value_heads = 4
    rows, figures = [], {}
    for name, model in (("GPT-2", GPT2LMHeadModel(gpt2)), ("Llama", LlamaForCausalLM(llama))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that it will go one day
            after = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)
        matrices = [(n, m) for n, m in model.named_modules() if type(m).__name__ in ("Conv1D", "Linear")]
        inside = [n for n, _ in matrices if n != "lm_head"]
        changed = sum(type(after.get_submodule(n)) is not type(model.get_submodule(n)) for n in inside)
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(type(m).__name__ for _, m in matrices).items())
        figures[name] = stored(after) / stored(model)
        rows.append((name, kinds, f"{changed} of {len(inside)}", figures[name]))
    return rows, figures


def stored(model: nn.Module) -> int:
    """Bytes of the state dict on disk, shared tensors once."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(model.state_dict(), path)
        return os.path.getsize(path)


def figures(shape: dict[str, int], repeats: int) -> tuple[Raw, float, int]:
    """Bytes and, unless `repeats` is 0, times of the three folders; the error of int8's logits; the layers changed."""
    with tempfile.TemporaryDirectory(prefix="danlu-int8-") as scratch:
        found = folders(Path(scratch), shape)
        raw = {f"bytes_{name}": [float(ModelFolder.open(path).weight_bytes)] for name, path in found.items()}
        if repeats:
            raw |= {f"decode_{name}": took for name, took in decoding(found, repeats).items()}
            raw |= {f"load_{name}": took for name, took in loading(found, repeats).items()}
        off = error(logits_of(found["int8"]), logits_of(found["fp32"]))
        layers = sum(isinstance(module, Int8Linear) for module in auto.load(found["int8"]).modules())
    return raw, off, layers


def main() -> None:
    parser = arguments(__doc__, repeats=7)
    parser.add_argument("--quick", action="store_true", help="a small model, no timing / 小模型，不计时")
    read = parser.parse_args()
    raw, off, layers = figures(*((SMALL, 0) if read.quick else (LARGE, read.repeats)))
    units = {"bytes": ("MB", 1e-6), "decode": ("ms a token", 1e3 / ANSWER), "load": ("s to open", 1.0)}
    ratios, rows = {}, []
    for what in dict.fromkeys(name.split("_")[0] for name in raw):
        unit, factor = units[what]
        for name in DTYPES:
            ratios[f"{what}_vs_{name}"] = ratio(raw, f"{what}_int8", f"{what}_{name}")
        values = [factor * median(raw[f"{what}_{name}"]) for name in (*DTYPES, "int8")]
        rows.append((unit, *values, *(ratios[f"{what}_vs_{name}"]["median"] for name in DTYPES)))
    show(("", "float32", "bfloat16", "int8", "int8 against float32", "int8 against bfloat16"), rows)
    print(f"\n{layers} layers in int8; logits off by {off:.2%}\n")
    head = ("one weight of 262,144 set to", "a scale a row: error", "one scale: error", "one scale: turned to 0")
    show(head, outliers())
    print()
    dynamics, sizes = dynamic()
    show(("quantize_dynamic({nn.Linear})", "matrices", "changed in the blocks", "size after / before"), dynamics)
    print()
    size = raw["bytes_int8"][0] / raw["bytes_fp32"][0]
    write(read.json, WORK, ratios, raw, size_ratio=size, logit_error=off, layers=layers, dynamic=sizes)


if __name__ == "__main__":
    main()
