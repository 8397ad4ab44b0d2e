import json

import pytest

from danlu.core.i18n import language
from danlu.models.account import GPUS, account, print_account
from danlu.models.anatomy import dissect
from danlu.models.budget import flops, inference, training
from tests.models.shapes import HERE, config_of


@pytest.mark.parametrize("name", HERE)
def test_the_account_is_json_and_adds_up(name: str):
    anatomy = dissect(config_of(name))
    told = json.loads(json.dumps(account(anatomy, context=40, batch=3)))
    assert told["workload"] == {"context": 40, "batch": 3, "rank": 16}
    parts = told["parameters"]["by_part"].values()
    assert sum(part["total"] for part in parts) == told["parameters"]["total"] == anatomy.total
    assert sum(part["active"] for part in parts) == told["parameters"]["active"]
    for size in told["inference"].values():
        assert size["total"] == size["weights"] + size["cache"]
    for plan in told["training"]:
        sizes = [value for key, value in plan.items() if key not in ("method", "precision", "total")]
        assert plan["total"] == sum(sizes)
    count = told["flops_per_token"]
    assert count["forward"] == count["matrices"] + count["attention"] == flops(anatomy, 40).forward
    assert count["training"] == 3 * count["forward"]


def test_the_workload_reaches_every_figure():
    anatomy = dissect(config_of("llama"))
    told = account(anatomy, context=50, batch=2, rank=4)
    assert told["inference"]["int4"] == {**inference(anatomy, "int4", 50, 2)._asdict(), "total": inference(anatomy, "int4", 50, 2).total}  # fmt: skip
    (lora,) = (plan for plan in told["training"] if (plan["method"], plan["precision"]) == ("lora", "bf16"))
    assert lora["total"] == training(anatomy, "lora", "bf16", 100, 4).total
    assert account(anatomy)["workload"]["context"] == 128  # the model's own
    longer = dissect({**config_of("llama"), "max_position_embeddings": 100_000})
    assert account(longer)["workload"]["context"] == 4096


def test_what_fits_is_what_leaves_a_tenth_free():
    anatomy = dissect(config_of("llama") | {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008})
    told = account(anatomy)
    assert len(told["fits"]) >= 1 + len(GPUS)
    for row in told["fits"]:
        for stored, fits in row["inference"].items():
            assert fits == (told["inference"][stored]["total"] <= 0.9 * row["bytes"])
    small, large = (next(row for row in told["fits"] if row["device"].startswith(name)) for name in ("8 GB", "80 GB"))
    assert not small["inference"]["bf16"]
    assert large["inference"]["bf16"]
    assert not small["training"]["adamw"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gemma3_text"])
def test_tables_for_people(name: str, lang: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DANLU_LANG", lang)
    monkeypatch.setenv("COLUMNS", "100")
    language.cache_clear()
    anatomy = dissect(config_of(name))
    print_account(anatomy, account(anatomy), "a model")
    language.cache_clear()
    out = capsys.readouterr().out
    assert "a model" in out
    assert f"{anatomy.total:,}" in out
    assert (f"{anatomy.total_active:,}" in out) or name != "qwen3_moe"
    assert {"en": "gradients", "zh": "梯度"}[lang] in out
    assert "QLoRA r=16 bf16" in out
    assert "Korthikanti" in out
    assert ({"en": "sliding window", "zh": "滑动窗口"}[lang] in out) == (name == "gemma3_text")
    assert "…" not in out
