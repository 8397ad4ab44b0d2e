"""GGUF to model: equal to what `transformers` makes of the same file, and one error for what does not fit."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danlu.core.errors import FolderError
from danlu.core.folder import Lineage
from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams
from danlu.models import auto
from danlu.models.gguf import gguf_name, interleave, load_gguf

SHAPE = {
    "vocab_size": 64,
    "context_length": 64,
    "embedding_length": 32,
    "block_count": 2,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "rope.dimension_count": 8,
}


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shapes = {"token_embd": (64, 32), "output": (64, 32), "output_norm": (32,)}
    for layer in range(2):
        inner = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
        inner |= {"ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in inner.items()}
    return {f"{name}.weight": draw.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def write(
    path: Path, shape: dict | None = None, tensors: dict | None = None, kind: str = "F32", arch: str = "llama"
) -> Path:
    writer = gguf.GGUFWriter(path, arch)
    for key, value in {**SHAPE, **(shape or {})}.items():
        if value is not None:
            (writer.add_uint32 if isinstance(value, int) else writer.add_string)(f"{arch}.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{number}" for number in range(64)])
    writer.add_token_scores([0.0] * 64)
    writer.add_token_types([1] * 64)
    writer.add_eos_token_id(0)
    for name, tensor in (weights() if tensors is None else tensors).items():
        chosen = gguf.GGMLQuantizationType["F32" if tensor.ndim == 1 else kind]
        writer.add_tensor(name, gguf.quants.quantize(tensor, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def logits(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model({"input_ids": ids}).float()


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_equals_transformers(kind: str, tmp_path: Path):
    """The tiny shape through their reader of GGUF, q and k unshuffled by theirs."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = write(tmp_path / "x.gguf", kind=kind)
    ours = load_gguf(path)
    config = {
        key: value for key, value in ours.hf_config().items() if key not in ("architectures", "dtype", "model_type")
    }
    with torch.device("meta"):
        shell = LlamaForCausalLM(LlamaConfig(**config))
    state = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=shell)["tensors"]
    theirs = LlamaForCausalLM(LlamaConfig(**config))
    theirs.load_state_dict(state, strict=False)
    ids = torch.randint(0, 64, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs.eval()(input_ids=ids).logits
    torch.testing.assert_close(logits(ours, ids), expected, rtol=1e-5, atol=1e-5)


def test_auto_and_engine_open_a_file(file: Path):
    assert isinstance(auto.load(file), type(load_gguf(file)))
    engine = Engine.open(file)
    (answer,) = engine.generate([[1, 2, 3]], SamplingParams(temperature=0, max_tokens=5))
    assert len(answer.ids) <= 5


def test_dtype(file: Path, tmp_path: Path):
    assert {parameter.dtype for parameter in load_gguf(file).parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in load_gguf(file, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    half = write(tmp_path / "b.gguf", kind="BF16")
    assert {parameter.dtype for parameter in load_gguf(half).parameters()} == {torch.bfloat16}


def test_interleave_is_llama_cpps_order():
    """Two heads of four: rows 0, 1 | 2, 3 of a head stand as 0, 2, 1, 3."""
    assert interleave(2, 8).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_names():
    assert gguf_name("model.layers.11.self_attn.q_proj.bias") == "blk.11.attn_q.bias"
    assert gguf_name("lm_head.weight") == "output.weight"
    assert gguf_name("model.layers.0.rotary.weight") is None


ABSURD = {
    "architecture": ({}, "rwkv"),
    **{f"{key} is another": ({key: value + 1}, "llama") for key, value in SHAPE.items() if key != "context_length"},
    **{f"{key} is huge": ({key: 2**32 - 1}, "llama") for key in SHAPE},
    **{f"{key} is zero": ({key: 0}, "llama") for key in SHAPE},
    **{f"{key} is text": ({key: "many"}, "llama") for key in SHAPE},
    **{f"{key} is absent": ({key: None}, "llama") for key in ("context_length", "embedding_length", "block_count")},
    "scaling": ({"rope.scaling.type": "magic"}, "llama"),
    "experts": ({"expert_count": 8}, "llama"),
    "scores": ({"attention.clamp_kqv": 3}, "llama"),
    "window": ({"attention.sliding_window": 8}, "llama"),
}


@pytest.mark.parametrize(("shape", "arch"), ABSURD.values(), ids=ABSURD)
def test_metadata_that_contradict_the_tensors(shape: dict, arch: str, tmp_path: Path):
    with pytest.raises(FolderError):
        load_gguf(write(tmp_path / "x.gguf", shape, arch=arch))


def test_tensors_that_do_not_fit_are_named(tmp_path: Path):
    tensors = weights()
    del tensors["blk.0.ffn_up.weight"]
    tensors["blk.0.extra.weight"] = np.zeros(4, np.float32)
    tensors["blk.1.attn_v.weight"] = np.zeros((16, 64), np.float32)
    with pytest.raises(FolderError) as told:
        load_gguf(write(tmp_path / "x.gguf", tensors=tensors))
    for name in ("blk.0.ffn_up.weight", "blk.0.extra.weight", "blk.1.attn_v.weight [16, 64] != [16, 32]"):
        assert name in told.value.what


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_told_or_gives_a_model_of_the_same_shape(file: Path, tmp_path: Path, data: st.DataObject):
    """Bytes of the header changed at random."""
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 2800))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(content)
    try:
        model = load_gguf(path)
    except FolderError:
        return
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(
        tensor.size for tensor in weights().values()
    )


QUESTIONS = (
    "Describe a forest in autumn.", "Write a haiku about rain.", "Why is the sky blue?", "Count to ten.",
    "What is gravity?", "How does a bicycle stay upright?", "Tell me a short story about a fox.",
    "What can I cook with rice and eggs?", "Explain photosynthesis.", "Who wrote Hamlet?",
)  # fmt: skip
LENGTH = 64


@pytest.fixture(scope="module")
def smollm2() -> tuple[Path, Engine]:
    from danlu.core.assets import asset_path

    (path,) = asset_path("smollm2-135m-instruct").glob("*.gguf")
    return path, Engine.open(path)


@pytest.fixture(scope="module")
def answers(smollm2: tuple[Path, Engine]) -> list[tuple[list[int], list[int]]]:
    """Each question's ids, and the ids that danlu answers with, the end of turn included."""
    _, engine = smollm2
    prompts = [engine.encode([{"role": "user", "content": question}]) for question in QUESTIONS]
    own = engine.generate(prompts, SamplingParams(temperature=0, max_tokens=LENGTH))
    return [
        (ids, [*answer.ids, *([engine.tokenizer.eos_id] if answer.finish_reason == "stop" else [])])
        for ids, answer in zip(prompts, own, strict=True)
    ]


@pytest.mark.slow
def test_smollm2_is_what_transformers_makes_of_the_file(
    smollm2: tuple[Path, Engine], answers: list[tuple[list[int], list[int]]]
):
    """Their own reader of GGUF, their own modules: every weight to the bit, and logits over questions and answers."""
    from transformers import AutoModelForCausalLM

    path, engine = smollm2
    theirs = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()
    weights = dict(theirs.named_parameters())
    for name, weight in engine.model.named_parameters():
        assert torch.equal(weight, weights[name]), name
    far = 0.0
    for ids, answer in answers[:5]:
        batch = torch.tensor([ids + answer])
        with torch.inference_mode():
            expected = theirs(input_ids=batch).logits
        torch.testing.assert_close(logits(engine.model, batch), expected, atol=1e-4, rtol=1e-5)
        far = max(far, float((logits(engine.model, batch) - expected).abs().max()))
    print(f"\nthe largest difference of a logit from transformers': {far:.1e}")


def compare(engine: Engine, file: Path, answers: list[tuple[list[int], list[int]]]) -> dict[str, tuple[int, float]]:
    """By question: how many tokens are llama.cpp's, and how far danlu's logits of the first that is not lie apart."""
    from tests.llama_cpp import llama_cpp

    found = {}
    with llama_cpp(file) as theirs:
        for question, (ids, mine) in zip(QUESTIONS, answers, strict=True):
            said, _ = theirs.greedy(ids, LENGTH)
            same = next((n for n, (a, b) in enumerate(zip(mine, said, strict=False)) if a != b), None)
            if same is None:
                assert len(mine) == len(said), question
                found[question] = len(mine), 0.0
                continue
            row = logits(engine.model, torch.tensor([ids + mine[:same]]))[0, -1]
            found[question] = same, float(row[mine[same]] - row[said[same]])
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smollm2_says_what_llama_cpp_says(
    smollm2: tuple[Path, Engine], answers: list[tuple[list[int], list[int]]], tmp_path: Path
):
    """Ten questions, 64 greedy tokens each.

    For products with 4-bit weights llama.cpp rounds the activations to 8 bits too, so there the two may part where
    two tokens are nearly as likely. With the same weights in float16, where it does not, every token is the same:
    the rounding is the whole difference.
    """
    from danlu.export.gguf import Config, run

    path, engine = smollm2
    folder = tmp_path / "smollm2"
    auto.save(engine.model, folder, lineage=Lineage(verb="test"), save_tokenizer=engine.tokenizer.save)
    rounded = compare(engine, path, answers)
    exact = compare(engine, run(Config(folder=folder, out=tmp_path / "half.gguf", type="f16")), answers)
    print(f"\n{'question':36} Q4_1: equal, gap   float16: equal, gap")
    for question in QUESTIONS:
        (few, gap), (many, rest) = rounded[question], exact[question]
        print(f"{question:36} {few:11} {gap:.3f} {many:16} {rest:.3f}")
    assert all(0 <= gap < 0.5 for _, gap in rounded.values())
    assert all(len(mine) == many for (_, mine), (many, _) in zip(answers, exact.values(), strict=True))
