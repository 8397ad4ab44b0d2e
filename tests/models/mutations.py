"""What can be wrong with a model that somebody gives you: the mutations that test_fuzz.py draws from.

Each takes a sound model apart as plain data (config, tensors, metadata), spoils one thing, and says what: a word of
which the error has to speak, or '' where only the file can be named. None makes another sound model of it: a
changed weight, or another whole number of heads, cannot be told from the true one by anybody.
"""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from danlu.models.encoders import ENCODERS
from danlu.models.families import DECODERS

__all__ = [
    "CONFIG",
    "GGUF_FILE",
    "GGUF_PARTS",
    "WEIGHTS",
    "Parts",
    "Sound",
    "tiny_config",
    "write_folder",
    "write_gguf",
]

DEEP: Any = "deep"  # stands for JSON nested ten thousand times
ABSURD = (
    10**12, 2**31, -1, 0, 0.5, -0.25, 1e308, -1e308, float("nan"), float("inf"), 10**400, True, False, None, "", "nan", "10",
    "many", "None", [], [1], ["a", None], {}, {"a": {"b": [[1]]}}, DEEP,
)  # fmt: skip


class Sound(NamedTuple):
    """A model as it should be."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def tiny_config(kind: str) -> dict[str, Any]:
    """A small config.json of this family. What a number may be left out for is what leaving it out means."""
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64}
    if kind in DECODERS:
        family = DECODERS[kind]
        shape = {**family.assumed, **sizes, "num_key_value_heads": 2, "head_dim": 8}
        if family.experts:
            shape |= {"num_experts": 3, "num_experts_per_tok": 2}
        if "moe_intermediate_size" in family.options:
            shape["moe_intermediate_size"] = 24
        return {"model_type": kind, **{family.renamed.get(key, key): value for key, value in shape.items()}}
    if kind in ENCODERS:
        family = ENCODERS[kind]
        renamed = {family.renamed.get(key, key): value for key, value in {**family.assumed, **sizes}.items()}
        return {"model_type": kind, "architectures": [f"{family.stem}ForMaskedLM"], **renamed}
    if kind == "gpt2":
        return {"model_type": kind, "vocab_size": 40, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    assert kind == "t5", f"{kind}: give it a tiny config here"
    widths = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return {"model_type": kind, "vocab_size": 40, **widths, "tie_word_embeddings": True, "feed_forward_proj": "relu"}


def write_folder(path: Path, config: Any, weights: bytes | dict[str, Tensor]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, bytes) else dumps(config).encode()
    (path / "config.json").write_bytes(text)
    (path / "model.safetensors").write_bytes(weights if isinstance(weights, bytes) else save(weights))


def dumps(config: Any) -> str:
    return json.dumps(config).replace(json.dumps(DEEP), "[" * 10_000 + "]" * 10_000)


# --- config.json -----------------------------------------------------------------------------------------------------


def _value(draw: random.Random, sound: Sound, path: Path) -> str:
    config = json.loads(json.dumps(sound.config))
    place, key = config, draw.choice(sorted(config))
    if isinstance(config[key], dict) and config[key] and draw.random() < 0.7:
        place, key = config[key], draw.choice(sorted(config[key]))
    place[key] = draw.choice([value for value in ABSURD if not _plausible(key, place[key], value)])
    write_folder(path, config, sound.tensors)
    return "config.json" if place[key] is DEEP else key


def _plausible(key: str, was: Any, value: Any) -> bool:
    """Whether the model could have been made so: what cannot be told from the truth is no damage."""
    if isinstance(was, bool):
        return isinstance(value, bool)
    if isinstance(was, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e13
    return key == "pad_token_id" and value == 0 and value is not False


def _left_out(draw: random.Random, sound: Sound, path: Path) -> str:
    key = draw.choice(sorted(sound.config))
    write_folder(path, {name: value for name, value in sound.config.items() if name != key}, sound.tensors)
    return key


def _added(draw: random.Random, sound: Sound, path: Path) -> str:
    key = draw.choice(("logit_scale", "num_kv_shared_layers", "attn_logit_softcapping", "num_experts", "n_layer", "铜"))
    value = draw.choice([value for value in ABSURD if value is not DEEP])
    write_folder(path, {**sound.config, key: sound.config.get(key, value)}, sound.tensors)
    return key


def _other_family(draw: random.Random, sound: Sound, path: Path) -> str:
    kinds = [*DECODERS, *ENCODERS, "gpt2", "t5", "rwkv", "LLAMA", "../x"]
    kind = draw.choice([kind for kind in kinds if kind != sound.config["model_type"]])
    write_folder(path, {**sound.config, "model_type": kind}, sound.tensors)
    return ""  # missing and surplus tensors tell, or a setting the other family has not


def _text(draw: random.Random, sound: Sound, path: Path) -> str:
    text = dumps(sound.config).encode()
    broken = (
        b"", b"\0" * 50, b"null", b"[]", b"3", b'"text"', b"[" * 100_000, b'{"a":' * 50_000, b"{" + b" " * 10_000, b"\xff\xfe{}", b"NaN",
        b"9" * 10_000, text[: draw.randrange(1, len(text))], text.replace(b":", b"=", 1), text.decode().encode("utf-16"),
    )  # fmt: skip
    write_folder(path, draw.choice(broken), sound.tensors)
    return "config.json"


def _no_file(draw: random.Random, sound: Sound, path: Path) -> str:
    write_folder(path, sound.config, sound.tensors)
    name = draw.choice(("config.json", "model.safetensors"))
    (path / name).unlink()
    if draw.random() < 0.5:
        (path / name).mkdir()
    return name


Mutation = Callable[[random.Random, Any, Path], str]
CONFIG: list[Mutation] = [_value, _value, _value, _left_out, _added, _other_family, _text, _no_file]


# --- model.safetensors -----------------------------------------------------------------------------------------------


def _pick(draw: random.Random, sound: Sound, dims: int = 1) -> str:
    return draw.choice(sorted(name for name, tensor in sound.tensors.items() if tensor.ndim >= dims))


def _missing(draw: random.Random, sound: Sound, path: Path) -> str:
    name = _pick(draw, sound)
    write_folder(path, sound.config, {key: tensor for key, tensor in sound.tensors.items() if key != name})
    return name


def _surplus(draw: random.Random, sound: Sound, path: Path) -> str:
    name = _pick(draw, sound)
    name = draw.choice((f"{name}.weight", f"x.{name}", name.replace(".0.", ".2.") + "_2", "铜", ""))
    write_folder(path, sound.config, {**sound.tensors, name: torch.zeros(3)})
    return name


def _reshaped(draw: random.Random, sound: Sound, path: Path) -> str:
    name = _pick(draw, sound)
    tensor = sound.tensors[name]
    ways = [tensor[:-1], tensor[None], tensor[:0], tensor.flatten()[0], torch.cat((tensor, tensor))]
    if tensor.ndim == 2:
        ways += [tensor.flatten(), tensor[:, 1:]] + ([tensor.T] * 3 if tensor.shape[0] != tensor.shape[1] else [])
    write_folder(path, sound.config, {**sound.tensors, name: draw.choice(ways).contiguous()})
    return name


def _retyped(draw: random.Random, sound: Sound, path: Path) -> str:
    name = _pick(draw, sound)
    kinds = (torch.int64, torch.int32, torch.int8, torch.bool, torch.uint8, torch.float64, torch.float8_e4m3fn)
    write_folder(path, sound.config, {**sound.tensors, name: sound.tensors[name].to(draw.choice(kinds))})
    return name


def _bytes(draw: random.Random, sound: Sound, path: Path) -> str:
    content = bytearray(save(sound.tensors))
    size = int.from_bytes(content[:8], "little")
    way = draw.choice(("cut", "cut", "length", "header", "flip", "flip", "more", "garbage"))
    if way == "cut":
        content = content[: draw.randrange(len(content))]
    elif way == "length":
        content[:8] = struct.pack("<Q", draw.choice((0, 2**62, 2**40, size + 8, size - 8, 2**64 - 1)))
    elif way == "header":
        return _claims(draw, sound, path, json.loads(content[8 : 8 + size]), bytes(content[8 + size :]))
    elif way == "flip":
        content[draw.randrange(8, 8 + size)] ^= 1 << draw.randrange(8)
    elif way == "more":
        content += b"\0" * draw.randrange(1, 100)
    else:
        content[8 : 8 + size] = draw.randbytes(size)
    write_folder(path, sound.config, bytes(content))
    return ""


def _claims(draw: random.Random, sound: Sound, path: Path, header: dict[str, Any], data: bytes) -> str:
    """A header that says what is not so: of one tensor, or nonsense altogether."""
    row = header[_pick(draw, sound)]
    key, value = draw.choice((
        ("shape", [10**12, 10**12]), ("shape", [-1]), ("shape", [2**63]), ("shape", "wide"), ("shape", None), ("dtype", "F4"),
        ("dtype", "I32"), ("dtype", 4), ("data_offsets", [0, 2**62]), ("data_offsets", [10**12, 10**12 + 4]), ("data_offsets", [4]),
        ("data_offsets", [8, 0]), ("data_offsets", [-4, 0]),
    ))  # fmt: skip
    row[key] = value
    text = json.dumps(header).encode()
    write_folder(path, sound.config, struct.pack("<Q", len(text)) + text + data)
    return ""


def _index(draw: random.Random, sound: Sound, path: Path) -> str:
    write_folder(path, sound.config, sound.tensors)
    names = dict.fromkeys(sound.tensors, "model.safetensors")
    first = next(iter(names))
    (path / "other.safetensors").write_bytes(save({first: sound.tensors[first] + 1}))
    told = (
        {"weight_map": {**names, first: "gone.safetensors"}}, {"weight_map": {**names, first: "../model.safetensors"}},
        {"weight_map": {**names, first: 3}}, {"weight_map": []}, {"weight_map": {}}, {}, [], {"weight_map": {**names, first: "config.json"}},
        {"weight_map": {**names, first: "other.safetensors"}}, {"weight_map": names}, {"weight_map": {**names, first: ""}},
        {"weight_map": {**names, first: "/dev/null"}}, {"weight_map": {**names, first: "\0"}}, {"weight_map": {**names, first: None}},
    )  # fmt: skip
    (path / "model.safetensors.index.json").write_text(json.dumps(draw.choice(told)))
    return ""


WEIGHTS: list[Mutation] = [_missing, _surplus, _reshaped, _reshaped, _retyped, _bytes, _bytes, _index]


# --- GGUF ------------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """A GGUF file: metadata as (type, value) by key, tensors in float32."""

    metadata: dict[str, tuple[int, Any]]
    tensors: dict[str, np.ndarray]


_FORMS = {4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 12: "<d"}


def _packed_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path: Path, parts: Parts, kinds: dict[str, int] | None = None) -> tuple[bytes, int]:
    """Write the file; return its bytes and how many of them are the header."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(parts.tensors), len(parts.metadata))
    for key, (kind, value) in parts.metadata.items():
        body = _packed_text(value) if kind == 8 else struct.pack(_FORMS[kind], value)
        head += _packed_text(key) + struct.pack("<I", kind) + body
    data = b""
    for name, tensor in parts.tensors.items():
        dims = struct.pack(f"<I{tensor.ndim}Q", tensor.ndim, *tensor.shape[::-1])
        head += _packed_text(name) + dims + struct.pack("<IQ", (kinds or {}).get(name, 0), len(data))
        data += tensor.astype("<f4").tobytes()
        data += bytes(-len(data) % 32)
    size = len(head)
    content = head + bytes(-size % 32) + data
    path.write_bytes(content)
    return content, size


def _entry(draw: random.Random, parts: Parts, path: Path) -> str:
    key = draw.choice([key for key in parts.metadata if key != "general.name"])
    plausible = {(4, 2**32 - 1), (10, 10**12), (6, 2.5)} if key.endswith("freq_base") else set()
    values = [
        (4, 0),
        (4, 2**32 - 1),
        (10, 10**12),
        (5, -1),
        (8, "many"),
        (8, "nan"),
        (6, float("nan")),
        (6, float("inf")),
        (6, -1.0),
    ]
    values += [(6, 0.0), (7, True), (7, False), (6, 2.5), (12, 1e300)]
    write_gguf(
        path,
        Parts(
            {**parts.metadata, key: draw.choice([value for value in values if value not in plausible])}, parts.tensors
        ),
    )
    return key.partition(".")[2].rpartition(".")[2]


def _no_entry(draw: random.Random, parts: Parts, path: Path) -> str:
    key = draw.choice(sorted(parts.metadata))
    write_gguf(path, Parts({name: value for name, value in parts.metadata.items() if name != key}, parts.tensors))
    return ""


def _new_entry(draw: random.Random, parts: Parts, path: Path) -> str:
    arch = parts.metadata["general.architecture"][1]
    key, value = draw.choice((
        ("logit_scale", (6, 0.5)), ("attention.scale", (6, 3.0)), ("expert_count", (4, 8)), ("attention.sliding_window", (4, 2)),
        ("rope.scaling.type", (8, "magic")), ("rope.scaling.type", (4, 3)), ("embedding_scale", (6, 12.0)), ("residual_scale", (6, 0.2)),
        ("attention.clamp_kqv", (6, 0.1)), ("rope.scaling.type", (8, "linear")),
    ))  # fmt: skip
    write_gguf(path, Parts({**parts.metadata, f"{arch}.{key}": value}, parts.tensors))
    return key.rpartition(".")[2] if value != (8, "linear") else "factor"


def _tensor(draw: random.Random, parts: Parts, path: Path) -> str:
    name = draw.choice(sorted(parts.tensors.keys() - {"output.weight"}))  # without it, a file says that it is tied
    tensor, tensors = parts.tensors[name], dict(parts.tensors)
    way = draw.choice(("missing", "surplus", "transposed", "shape", "kind", "zero"))
    if way == "missing":
        del tensors[name]
        write_gguf(path, Parts(parts.metadata, tensors))
        return "" if name == "token_embd.weight" or ".attn_q." in name or ".ffn_gate." in name else name
    if way == "surplus":
        name = draw.choice(("blk.1.ffn_norm.bias", "rope_freqs.weight", "", "铜"))
        tensors[name] = np.zeros(4, np.float32)
    elif way == "kind":
        write_gguf(path, parts, {name: draw.choice((1, 2, 3, 8, 12, 14, 30, 77, 2**31))})
        return ""
    else:
        other = tensor.T if tensor.ndim == 2 and tensor.shape[0] != tensor.shape[1] else tensor[:-1]
        tensors[name] = {"transposed": other, "shape": tensor[None], "zero": tensor[:0]}[way]
    write_gguf(path, Parts(parts.metadata, tensors))
    return "" if way != "surplus" else name[:5]


def _gguf_bytes(draw: random.Random, parts: Parts, path: Path) -> str:
    content, size = write_gguf(path, parts)
    changed = bytearray(content)
    way = draw.choice(("cut", "cut", "counts", "lengths", "magic", "empty"))
    if way == "cut":
        changed = changed[: draw.randrange(len(changed))]
    elif way == "counts":
        at = draw.choice((4, 8, 16))
        changed[at : at + 4] = struct.pack("<I", draw.choice((0, 2**32 - 1, 10**6, 7)))
    elif way == "lengths":  # 8 bytes anywhere of the header become a number of terabytes
        at = draw.randrange(24, size - 8)
        changed[at : at + 8] = struct.pack("<Q", draw.choice((10**12, 2**63, 2**40, 2**64 - 1)))
    elif way == "magic":
        changed[draw.randrange(4)] ^= 32
    else:
        changed = changed[: draw.choice((0, 4))]
    path.write_bytes(changed)
    return ""


GGUF_PARTS: list[Mutation] = [_entry, _entry, _no_entry, _new_entry, _tensor, _tensor]
GGUF_FILE: list[Mutation] = [_gguf_bytes]
