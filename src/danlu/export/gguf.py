"""Write a model folder as one GGUF file, which llama.cpp and the tools around it run.

把模型文件夹写成单个 GGUF 文件,供 llama.cpp 及其周边工具运行。

Example: danlu export gguf runs/quickstart/sft/model --out poet.gguf --type q8_0
The file holds the weights, the tokenizer and the chat template. With q8_0 and q4_0 the matrices are quantised in
blocks of 32; vectors stay float32, embeddings have at least 8 bits, and a matrix whose rows are no multiple of 32 is
float16. A vocabulary of characters gives llama.cpp the same ids. One of byte-pair encoding that danlu trained does
so too, but for text that llama.cpp cuts otherwise: a combining mark, 't or 's before further letters, blanks between
line ends that follow punctuation.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from danlu.core.config import Config as Base
from danlu.core.config import Input, Output, doc
from danlu.core.errors import ConfigError, FolderError, MissingExtraError
from danlu.core.files import atomic_path, human_size
from danlu.core.folder import ModelFolder
from danlu.core.gguf import GGUF
from danlu.core.i18n import tr
from danlu.data.progress import track
from danlu.models import auto
from danlu.models.gguf import ARCHITECTURES, config_of, gguf_name, interleave
from danlu.tokenizer import Tokenizer
from danlu.tokenizer.gguf import SPACE, pre_name
from danlu.tokenizer.pretokenize import byte_level

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from torch import Tensor

__all__ = ["Config", "run", "tokenizer_entries"]

_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}  # general.file_type
_NORMAL, _CONTROL, _USER, _UNUSED, _BYTE = 1, 3, 4, 5, 6  # tokenizer.ggml.token_type
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_GENERATION = re.compile(r"\{%(-?)\s*(?:end)?generation\s*(-?)%\}")


class Config(Base):
    """Which model, to which file, how precise."""

    folder: Input = doc(..., "model folder", "模型文件夹")
    out: Output = doc(..., "the GGUF file to write", "要写出的 GGUF 文件")
    type: Literal["f32", "f16", "q8_0", "q4_0"] = doc(
        "f16", "how matrices are stored: 32, 16, 8.5 or 4.5 bits a weight", "矩阵的存法:每个权重 32、16、8.5 或 4.5 位"
    )


def run(config: Config) -> Path:
    """Write the file, or nothing; return its path.

    Raises MissingExtraError without the `gguf` package, FolderError for a model that GGUF, or this export of it,
    has no place for.
    """
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise MissingExtraError("gguf", "gguf") from None
    folder = ModelFolder.open(config.folder)
    if "quantization_config" in folder.config:
        raise FolderError(
            tr(f"{folder.path} is quantised already", f"{folder.path} 已经量化过"),
            tr("export the folder it was made from, with --type q8_0", "请用 --type q8_0 导出量化前的文件夹"),
        )
    kinds = {model_type: kind for kind, model_type in ARCHITECTURES.items()}
    if folder.config.get("model_type") not in kinds:
        raise FolderError(
            tr(
                f"{folder.path}: model_type '{folder.config.get('model_type')}' cannot be exported",
                f"{folder.path}:不能导出 model_type“{folder.config.get('model_type')}”",
            ),
            tr(f"implemented: {', '.join(kinds)}", f"已实现:{'、'.join(kinds)}"),
        )
    model = auto.load(folder.path)
    shape = model.hf_config()
    entries = _shape_entries(shape, folder.path) | tokenizer_entries(Tokenizer.load(folder.path), shape["vocab_size"])
    with atomic_path(config.out) as temporary:
        writer = GGUFWriter(temporary, kinds[folder.config["model_type"]])
        writer.add_name(config.out.stem)
        writer.add_file_type(_FILE_TYPES[config.type])
        writer.add_quantization_version(2)
        _add_entries(writer, entries)
        state = auto.state_to_save(model)
        for name, tensor in track(state.items(), len(state), tr("converting", "转换中")):
            _add_tensor(writer, name, tensor, shape, config.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        config_of(GGUF(temporary))  # what cannot be read back must not take the name
    print(
        tr(
            f"{config.out}: {human_size(config.out.stat().st_size)}",
            f"{config.out}:{human_size(config.out.stat().st_size)}",
        )
    )
    return config.out


def _shape_entries(shape: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Metadata of the model's shape; '{}' stands for the architecture."""
    rope = shape.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise FolderError(
            tr(
                f"{path}: rope type '{rope['rope_type']}' cannot be exported yet",
                f"{path}:尚不能导出 RoPE 类型“{rope['rope_type']}”",
            )
        )
    if shape.get("hidden_act", "silu") != "silu" or shape.get("use_sliding_window"):
        raise FolderError(
            tr(
                f"{path}: its activation or its sliding window has no place in GGUF",
                f"{path}:其激活函数或滑动窗口无法写入 GGUF",
            )
        )
    head_dim = int(shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"])
    counts = {
        "{}.vocab_size": shape["vocab_size"],
        "{}.context_length": shape["max_position_embeddings"],
        "{}.embedding_length": shape["hidden_size"],
        "{}.block_count": shape["num_hidden_layers"],
        "{}.feed_forward_length": shape["intermediate_size"],
        "{}.attention.head_count": shape["num_attention_heads"],
        "{}.attention.head_count_kv": shape["num_key_value_heads"],
        "{}.attention.key_length": head_dim,
        "{}.attention.value_length": head_dim,
        "{}.rope.dimension_count": head_dim,
    }
    return {
        **{key: int(number) for key, number in counts.items()},
        "{}.attention.layer_norm_rms_epsilon": float(shape["rms_norm_eps"]),
        "{}.rope.freq_base": float(rope.get("rope_theta", shape.get("rope_theta", 10000.0))),
    }


def _add_entries(writer: "GGUFWriter", entries: Mapping[str, Any]) -> None:
    """Integers as uint32, token types as int32, the rest as its Python type says."""
    from gguf import GGUFValueType

    for key, value in entries.items():
        if isinstance(value, list):
            writer.add_array(key, value)
            continue
        kinds = {
            bool: GGUFValueType.BOOL,
            int: GGUFValueType.UINT32,
            float: GGUFValueType.FLOAT32,
            str: GGUFValueType.STRING,
        }
        writer.add_key_value(key.format(writer.arch), value, kinds[type(value)])


def _add_tensor(writer: "GGUFWriter", name: str, tensor: "Tensor", shape: Mapping[str, Any], kind: str) -> None:
    from gguf import GGMLQuantizationType, quants

    place = gguf_name(name)
    if place is None:
        raise FolderError(tr(f"GGUF has no place for the tensor {name}", f"GGUF 没有张量 {name} 的位置"))
    projection = name.split(".")[-2]
    if writer.arch == "llama" and projection in ("q_proj", "k_proj"):
        heads = shape["num_attention_heads" if projection == "q_proj" else "num_key_value_heads"]
        tensor = tensor[interleave(heads, tensor.shape[0])]
    values = tensor.detach().float().numpy()
    if values.ndim == 1 or kind == "f32":
        writer.add_tensor(place, np.ascontiguousarray(values, dtype=np.float32))
        return
    if kind == "f16" or values.shape[-1] % 32:
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise FolderError(
                tr(f"{name} has weights beyond float16's range", f"{name} 中有权重超出 float16 的范围"),
                tr("export with --type f32 or q8_0", "请用 --type f32 或 q8_0 导出"),
            )
        writer.add_tensor(place, values.astype(np.float16))
        return
    outer = place.startswith(("token_embd", "output"))  # coarser ones would cost the most, for the least space
    chosen = GGMLQuantizationType["Q8_0" if outer else kind.upper()]
    writer.add_tensor(place, quants.quantize(values, chosen), raw_dtype=chosen)


def tokenizer_entries(tokenizer: Tokenizer, size: int) -> dict[str, Any]:
    """The metadata of a tokenizer; its vocabulary is filled up to the `size` of the model's.

    Raises ConfigError for one that llama.cpp has no way to run.
    """
    backend = json.loads(tokenizer.backend.to_str())
    kind = backend["model"]
    if kind.get("type") != "BPE" or (backend["normalizer"] or {}).get("type") not in (None, "NFC"):
        raise _no_way(tr("it is no plain BPE", "它不是普通的 BPE"))
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    tokens = [f"[PAD{number}]" for number in range(max(size, tokenizer.vocab_size))]
    types = [_UNUSED] * len(tokens)
    for token, number in vocabulary.items():
        tokens[number], types[number] = token, _NORMAL
    for added in backend["added_tokens"]:
        types[added["id"]] = _CONTROL if added["special"] else _USER
    if (backend["decoder"] or {}).get("type") == "ByteLevel":
        entries = _byte_level_entries(tokenizer, kind)
    elif kind.get("byte_fallback"):
        entries = _characters_entries(backend, tokens, types)
    else:
        raise _no_way(tr("it neither is byte-level nor falls back to bytes", "它既不是字节级,也不能退回到字节"))
    named = {"eos": tokenizer.eos_id, "padding": tokenizer.pad_id, "bos": tokenizer.bos_id}
    named["bos"] = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id  # llama.cpp would take id 1
    ends = [number for number in tokenizer.stop_ids if number != tokenizer.eos_id]
    named |= {"eot": ends[0]} if ends else {}
    template = tokenizer.config.get("chat_template")
    return {
        **entries,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        **{f"tokenizer.ggml.{name}_token_id": int(number) for name, number in named.items() if number is not None},
        "tokenizer.ggml.add_bos_token": bool(tokenizer.config.get("add_bos_token", False)),
        **({"tokenizer.chat_template": _plain_template(template)} if isinstance(template, str) else {}),
    }


def _byte_level_entries(tokenizer: Tokenizer, kind: Mapping[str, Any]) -> dict[str, Any]:
    pre = pre_name(tokenizer.backend)
    if pre is None and str(tokenizer.backend.pre_tokenizer) == str(byte_level()):
        pre = "qwen2"  # cuts as danlu does, or leaves together what no merge of danlu's joins
    if pre is None:
        raise _no_way(tr("llama.cpp has no name for the way it cuts text", "llama.cpp 没有与之相同的切分方式"))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in kind["merges"]]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": merges}


def _characters_entries(backend: Mapping[str, Any], tokens: list[str], types: list[int]) -> dict[str, Any]:
    """SentencePiece's kind: merges become scores. Changes `tokens` and `types` where it spells otherwise.

    llama.cpp turns every space into '▁' before it looks anything up, so the token of the space, or of its byte, must
    be spelt so; a token that was the character '▁' can then no longer be reached.
    """
    cut = backend["pre_tokenizer"] or {}
    spaced = cut.get("type") == "Metaspace"
    if cut and not spaced:
        raise _no_way(tr("llama.cpp has no name for the way it cuts text", "llama.cpp 没有与之相同的切分方式"))
    for number, token in enumerate(tokens):
        if _BYTE_TOKEN.fullmatch(token) and types[number] == _NORMAL:
            types[number] = _BYTE
    if not spaced:
        if SPACE in tokens:
            number = tokens.index(SPACE)
            tokens[number], types[number] = f"[{SPACE}{number}]", _UNUSED
        number = tokens.index(" " if " " in tokens else "<0x20>")
        tokens[number], types[number] = SPACE, _NORMAL
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(backend["model"]["merges"]):
        ranks.setdefault("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1), rank)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [-float(ranks.get(token, len(ranks))) for token in tokens],
        "tokenizer.ggml.add_space_prefix": spaced and cut.get("prepend_scheme") != "never",
    }


def _plain_template(template: str) -> str:
    """Without `{% generation %}`, which only training needs; a comment in its place trims the same blanks."""
    return _GENERATION.sub(lambda found: f"{{#{found[1]} {found[2]}#}}", template)


def _no_way(why: str) -> ConfigError:
    return ConfigError(
        tr(f"llama.cpp cannot run this tokenizer: {why}", f"llama.cpp 无法运行这个分词器:{why}"),
        tr("tokenizers that danlu trains can be exported", "danlu 训练的分词器可以导出"),
    )
