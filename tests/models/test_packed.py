import pytest
import torch
from torch import Tensor

from danlu.core.errors import ConfigError
from danlu.models import blocks
from danlu.models.decoder import Decoder, DecoderConfig
from danlu.models.packed import PackedDecoder, unpackable
from danlu.models.paged import Span
from danlu.models.quantised import Int8Linear, is_quantisable
from danlu.models.surgery import replace
from danlu.ops.attention import attention
from danlu.ops.packing import pack_int4, pack_int8, unpack
from tests.models.test_paged import chunks

SHAPE = {
    "vocab_size": 70,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, dict] = {
    "llama": {},
    "llama-untied-wide": {"tie_word_embeddings": False, "head_dim": 32, "num_key_value_heads": 1},
    "mistral": {"family": "mistral", "sliding_window": 19, "num_key_value_heads": 4},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3", "head_dim": 16},
}


def decoder(name: str = "llama", **more) -> Decoder:
    model = Decoder(DecoderConfig(**(SHAPE | FAMILIES[name] | more))).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15 + (parameter.ndim == 1)
    model.tie()
    return model


def as_packed(model: Decoder, bits: str) -> Decoder:
    """The float model whose matrices are what packing makes of them, and whose activations are rounded alike."""
    pack = pack_int4 if bits == "int4" else pack_int8
    for layer in model.model.layers:
        for linear in (module for module in layer.modules() if isinstance(module, torch.nn.Linear)):
            linear.weight.data = unpack(pack(linear.weight.data))
    model.lm_head.weight.data = unpack(pack_int8(model.lm_head.weight.data))
    return rounding(model)


def rounding(model: Decoder) -> Decoder:
    """What enters a product is rounded to 8 bits in groups of 32 first."""

    def round_input(_module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        groups = inputs[0].unflatten(-1, (-1, 32))
        step = groups.abs().amax(-1, keepdim=True) / 127
        return ((groups / step).round() * step).nan_to_num().flatten(-2), *inputs[1:]

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | Int8Linear):
            module.register_forward_pre_hook(round_input)
    return model


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(0, 70, (2, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def half_keys(monkeypatch):
    """Float models whose attention reads keys and values as float16 keeps them."""

    def halved(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        return attention(q, k.half().float(), v.half().float(), mask, causal=causal)

    monkeypatch.setattr(blocks, "attention", halved)


def differing(told: Tensor, wanted: Tensor) -> float:
    """The share of positions that differ by more than rounding, of which a number half way between codes is one cause."""
    return ((told - wanted).abs().amax(-1) > 2e-4 * wanted.abs().amax()).float().mean().item()


@pytest.mark.usefixtures("half_keys")
@pytest.mark.parametrize("bits", ["int8", "int4"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_logits_equal_the_float_models_with_the_same_roundings(name, bits, ids):
    told, wanted = (
        change(decoder(name, num_hidden_layers=1))({"input_ids": ids})
        for change in (lambda model: PackedDecoder(model, bits), lambda model: as_packed(model, bits))
    )
    assert differing(told, wanted) < 0.1
    told = PackedDecoder(decoder(name), bits)({"input_ids": ids})
    wanted = as_packed(decoder(name), bits)({"input_ids": ids})
    assert (told - wanted).square().mean().sqrt() < 0.02 * wanted.square().mean().sqrt()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_token_is_the_same_to_the_bit_in_any_company_and_any_cut(name, ids):
    model = PackedDecoder(decoder(name), "int8")
    whole = model({"input_ids": ids})
    assert torch.equal(model({"input_ids": ids[1:]})[0], whole[1])
    for cuts in ([7, 8, 24], [1, 2, 3], [39], list(range(1, 40))):
        assert torch.equal(chunks(model, ids, model.new_paged(12), cuts), whole), cuts


@torch.no_grad()
def test_threads_change_nothing(ids):
    one, two = (PackedDecoder(decoder(), "int4", threads=threads)({"input_ids": ids}) for threads in (1, 2))
    assert torch.equal(one, two)


@torch.no_grad()
def test_more_tokens_than_a_pass_of_the_kernels_holds():
    model = PackedDecoder(decoder(max_position_embeddings=1024), "int8")
    ids = torch.randint(0, 70, (1, 700))
    cache = model.new_paged(44)
    cache.select([Span(0, 700, range(44))])
    whole = model.logits(model.hidden({"input_ids": ids}, cache))
    again = model.new_paged(44)
    again.select([Span(0, 650, range(44))])
    model.hidden({"input_ids": ids[:, :650]}, again)
    again.select([Span(650, 50, range(44))])
    assert torch.equal(model.logits(model.hidden({"input_ids": ids[:, 650:]}, again)), whole[:, 650:])


@torch.no_grad()
def test_packed_documents_equal_each_alone(ids):
    model = PackedDecoder(decoder(), "int8")
    packed = {
        "input_ids": torch.cat((ids[0, :11], ids[1, :20], ids[0, :3]))[None],
        "position_ids": torch.cat((torch.arange(11), torch.arange(20), torch.zeros(3, dtype=torch.long)))[None],
    }
    told = model(packed)[0]
    assert torch.equal(told[:11], model({"input_ids": ids[:1, :11]})[0])
    assert torch.equal(told[11:31], model({"input_ids": ids[1:, :20]})[0])


@pytest.mark.usefixtures("half_keys")
@torch.no_grad()
def test_int8_folders_keep_their_codes(ids):
    model = decoder()
    replace(model, is_quantisable, Int8Linear.replacing)
    told = PackedDecoder(model, "int8")({"input_ids": ids})
    model.lm_head.weight.data = unpack(pack_int8(model.lm_head.weight.data))
    assert differing(told, rounding(model)({"input_ids": ids})) < 0.35


def test_what_it_tells_of_itself():
    model = decoder()
    packed = PackedDecoder(model, "int8")
    assert (packed.dtype_name, packed.device.type, packed.context) == ("int8", "cpu", 128)
    assert packed.parameter_count == model.parameter_count
    assert packed.hf_config() == model.hf_config()
    assert packed.output_weight.shape == (70, 64)
    assert packed.weight_bytes < model.parameter_count * 1.2


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 48, "head_dim": 16}, {"head_dim": 8}, {"mlp_bias": True}, {"intermediate_size": 100}]
)
def test_what_cannot_be_packed_is_named(changes):
    model = Decoder(DecoderConfig(**(SHAPE | changes)))
    assert unpackable(model)
    with pytest.raises(ConfigError):
        PackedDecoder(model, "int8")


def test_experts_cannot_be_packed():
    assert "mixtral" in unpackable(Decoder(DecoderConfig(**SHAPE, family="mixtral", num_experts=2)))
