"""GPT-2 beside what test_families.py holds against `transformers`: dropout, old files, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D as TheirConv1D

from danlu.core.errors import ConfigError, DanluError, FolderError
from danlu.models import auto
from danlu.models.gpt2 import GPT2, Conv1D, GPT2Config, from_hf
from tests.models.test_auto import save_plain
from tests.models.test_families import GPT2 as SHAPE
from tests.models.test_families import close, pair, uneven

CONFIG = {"model_type": "gpt2", "vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}


def test_conv1d_is_that_of_transformers():
    torch.manual_seed(0)
    theirs, mine, x = TheirConv1D(6, 4), Conv1D(4, 6), torch.randn(2, 3, 4)
    torch.nn.init.normal_(theirs.bias)
    mine.load_state_dict(theirs.state_dict())
    close(mine(x), theirs(x), 1e-6)


def test_dropout_falls_where_transformers_drops(tmp_path):
    """The same seed gives both the same mask, so equal logits mean equal places and shares."""
    shares = {"embd_pdrop": 0.2, "attn_pdrop": 0.3, "resid_pdrop": 0.4}
    config = AutoConfig.for_model("gpt2", **{**SHAPE, **shares}, attn_implementation="eager")
    theirs = AutoModelForCausalLM.from_config(config).train()
    theirs.save_pretrained(tmp_path)
    mine, ids = auto.load(tmp_path).train(), uneven()[0]
    torch.manual_seed(3)
    expected = theirs(ids).logits
    torch.manual_seed(3)
    close(mine({"input_ids": ids}), expected)
    assert not torch.equal(mine({"input_ids": ids}), mine({"input_ids": ids}))
    mine.eval()
    assert torch.equal(mine({"input_ids": ids}), mine({"input_ids": ids}))


def test_names_and_masks_of_old_files(tmp_path):
    """The files of 2019 leave out `transformer.` and hold each layer's causal mask."""
    theirs, mine, folder = pair("gpt2")
    tensors = {
        name.removeprefix("transformer."): tensor for name, tensor in load_file(folder / "model.safetensors").items()
    }
    tensors |= {f"h.{layer}.attn.bias": torch.ones(64, 64).tril()[None, None] for layer in range(3)}
    tensors |= {"h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_plain(tmp_path / "m", tensors, mine.hf_config())
    ids = uneven()[0]
    with torch.no_grad():
        close(auto.load(tmp_path / "m")({"input_ids": ids}), theirs(ids).logits)
    both = {**tensors, "transformer.ln_f.bias": tensors["ln_f.bias"].clone()}
    save_plain(tmp_path / "m", both, mine.hf_config())
    with pytest.raises(FolderError, match=r"ln_f\.bias and transformer\.ln_f\.bias"):
        auto.load(tmp_path / "m")
    save_plain(tmp_path / "m", {**tensors, "h.0.attn.wobble": torch.ones(1)}, mine.hf_config())
    with pytest.raises(FolderError, match=r"surplus: h\.0\.attn\.wobble|多余.*h\.0\.attn\.wobble"):
        auto.load(tmp_path / "m")


def test_misfits_are_named(tmp_path):
    _, mine, folder = pair("gpt2")
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.ln_f.bias"]
    name = "transformer.h.1.mlp.c_fc.weight"
    tensors[name] = tensors[name].T.contiguous()  # the layout of every other family
    save_plain(tmp_path / "m", tensors, mine.hf_config())
    with pytest.raises(FolderError) as caught:
        auto.load(tmp_path / "m")
    assert "transformer.ln_f.bias" in caught.value.what
    assert f"{name} [128, 32] != [32, 128]" in caught.value.what


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"activation_function": "swoosh"}, "activation_function"),
        ({"n_head": 5}, "n_head"),
        ({"n_embd": None}, "n_embd"),
        ({"n_layer": 2.5}, "n_layer"),
        ({"num_hidden_layers": 2}, "num_hidden_layers"),
        ({"rope_theta": 1e4}, "rope_theta"),
        ({"resid_pdrop": 1.5}, "resid_pdrop"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(change, named):
    with pytest.raises(DanluError, match=named) as caught:
        from_hf(CONFIG | change, "here")
    assert "here" in caught.value.what


def test_a_key_left_out_means_what_transformers_means():
    theirs, mine = AutoConfig.for_model("gpt2"), from_hf(CONFIG, "here").config
    for name in GPT2Config.model_fields.keys() - CONFIG.keys():
        assert getattr(mine, name) == getattr(theirs, name), name


@settings(deadline=None, max_examples=100)
@given(
    changes=st.dictionaries(
        st.sampled_from([*GPT2Config.model_fields, "summary_type", "id2label", "n_ctx", "wobble"]),
        st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=5) | st.lists(st.integers()),
        max_size=3,
    )
)
def test_any_config_is_read_or_refused_never_a_traceback(changes):
    try:
        from_hf({**CONFIG, **changes, "vocab_size": 40}, "here")
    except DanluError:
        return


def test_initialise():
    model = GPT2(GPT2Config(vocab_size=300, n_embd=64, n_layer=8, n_head=4))
    model.initialise(torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all()
        else:
            expected = 0.005 if name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name
    assert model.lm_head.weight is model.transformer.wte.weight


def test_rows_at_different_places_go_on_from_their_own():
    _, mine, _ = pair("gpt2")
    ids = uneven()[0][:2]
    cache = mine.new_cache(2, 16)
    with torch.no_grad():
        part = {"input_ids": ids, "position_ids": torch.arange(13).expand(2, 13)}
        cache.select(0, part["position_ids"])
        mine.hidden(part, cache)
        part = {"input_ids": torch.tensor([[7], [9]]), "position_ids": torch.tensor([[13], [4]])}
        cache.select(0, part["position_ids"])
        told = mine.logits(mine.hidden(part, cache))[:, 0]
        for row, own in enumerate([torch.cat([ids[0], torch.tensor([7])]), torch.cat([ids[1, :4], torch.tensor([9])])]):
            close(told[row], mine({"input_ids": own[None]})[0, -1])


def test_shapes_that_cannot_be_built():
    with pytest.raises(ConfigError, match="n_head"):
        GPT2(GPT2Config(n_embd=30, n_head=4))
