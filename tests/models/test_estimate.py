import json
from pathlib import Path
from typing import Any

import pytest

from danlu.core.errors import ConfigError
from danlu.models.anatomy import dissect
from danlu.models.estimate import Config, llama_like, run

# The shapes of public models as their config.json gives them, and their parameters.
_LLAMA2 = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096}  # fmt: skip
_LLAMA3 = {"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072}  # fmt: skip
_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960, "tie_word_embeddings": True}  # fmt: skip
_MIXTRAL = {"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 32768}  # fmt: skip
_GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
_BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [
        (_LLAMA2, 6_738_415_616, 6.738e9),  # Touvron et al. 2023: 6.7B
        (_LLAMA3, 8_030_261_248, 8.03e9),  # Grattafiori et al. 2024: 8B
        (_QWEN3, 596_049_920, 0.596e9),  # Yang et al. 2025: 0.6B
        (_MIXTRAL, 46_702_792_704, 12.88e9),  # Jiang et al. 2024: 47B, of which a token meets 13B
        (_GPT2, 124_439_808, 0.1244e9),  # Radford et al. 2019: 124M
        (_BERT, 109_514_298, 0.1095e9),  # Devlin et al. 2019: 110M
    ],
)
def test_public_models(config: dict[str, Any], total: int, active: float, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    told = run(Config(shape=tmp_path / "config.json", json=True))
    assert told["parameters"]["total"] == total
    assert told["parameters"]["active"] == pytest.approx(active, rel=1e-3)


def test_known_figures_of_llama_2_7b():
    """Half a MB of cache a token in two-byte numbers; 13.5 GB of weights in bf16; 16 bytes a parameter to train."""
    from danlu.models.account import account

    told = account(dissect(_LLAMA2), context=4096)
    assert told["kv_bytes_per_token"]["bf16"] == 2 * 32 * 4096 * 2 == 524_288
    assert told["inference"]["bf16"]["weights"] == 13_476_831_232
    plan = next(p for p in told["training"] if (p["method"], p["precision"]) == ("adamw", "fp32"))
    state = plan["weights"] + plan["gradients"] + plan["optimizer"]
    assert state / told["parameters"]["total"] == pytest.approx(16, abs=1e-3)
    assert told["flops_per_token"]["matrices"] == pytest.approx(2 * 6.607e9, rel=1e-3)  # 2N without the embedding


@pytest.mark.parametrize("params", [5e6, 135e6, 0.5e9, 1.1e9, 7e9, 13e9, 70e9, 405e9])
def test_a_size_alone_becomes_a_shape_of_that_size(params: float):
    from danlu.models.anatomy import examine
    from danlu.models.decoder import Decoder

    shape = llama_like(params, 32000 if params > 1e7 else 2000)
    import torch

    with torch.device("meta"):
        told = examine(Decoder(shape))
    assert told.total == pytest.approx(params, rel=0.02)
    proportion = shape.hidden_size / shape.num_hidden_layers
    assert 48 < proportion < 256 or params < 1e8


def test_the_assumption_is_told(capsys: pytest.CaptureFixture[str]):
    told = run(Config(params=7e9, context=2048, batch=4))
    out = capsys.readouterr().out
    assert told["inferred"] in " ".join(out.split())
    assert "Llama" in told["inferred"]
    assert told["workload"] == {"context": 2048, "batch": 4, "rank": 16}
    assert "inferred" in json.loads(json.dumps(run(Config(params=7e9, json=True))))


def test_a_shape_by_hand_from_the_command_line(capsys: pytest.CaptureFixture[str]):
    from danlu.cli import main

    words = "model estimate --model.family qwen3_moe --model.num-experts 8 --model.hidden-size 64 --model.num-attention-heads 4 --json"
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"]["experts"] == 8
    assert told["shape"]["hidden"] == 64
    assert "inferred" not in told


@pytest.mark.parametrize("given", [{}, {"params": 1e9, "model": {"hidden_size": 64}}])
def test_exactly_one_way_to_say_it(given: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"--params, --shape|--params、--shape"):
        run(Config.parse(given))


def test_a_vocabulary_larger_than_the_model():
    with pytest.raises(ConfigError, match=r"151,936"):
        llama_like(1e6, 151936)
