import json

import pytest
import yaml

from danlu.core.errors import DataError
from danlu.data.parts import load_row
from danlu.stages.data_ablate import Config, run
from tests.conftest import couplets


@pytest.fixture
def recipe(tmp_path):
    """Couplets, each of which also stands with a line of noise before it; and some that are short."""
    rows = [{"text": text} for text in couplets(260, 1)]
    rows += [{"text": row["text"]} for row in rows[:100]] + [{"text": "short"}] * 40
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    settings = {
        "source": [str(tmp_path / "a.jsonl")],
        "steps": [{"clean": {"min_characters": 6}}, "exact"],
        "valid": 20,
        "test": 0,
        "workers": 1,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return tmp_path / "recipe.yaml"


def settings(recipe, **more):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    train = {"steps": 6, "batch_size": 2, "seq_len": 48, "warmup": 1}
    return Config.parse(
        {
            "recipe": str(recipe),
            "out": str(recipe.parent / "out"),
            "seeds": 2,
            "vocab_size": 400,
            "model": small,
            "train": train,
            **more,
        }
    )


def test_each_step_is_left_out_and_no_variant_trains_on_what_it_is_judged_by(recipe, capsys):
    result = run(settings(recipe))
    variants = {one["variant"]: one for one in result["variants"]}
    assert list(variants) == ["whole", "without-clean", "without-exact"]
    assert variants["without-exact"]["rows"] > variants["whole"]["rows"]
    assert all(len(one["bits_per_byte"]) == 2 and 0 < one["mean"] < 12 for one in variants.values())
    gains = [
        theirs - ours
        for theirs, ours in zip(
            variants["without-exact"]["bits_per_byte"], variants["whole"]["bits_per_byte"], strict=True
        )
    ]
    assert variants["without-exact"]["gain"] == pytest.approx(sum(gains) / 2, abs=1e-4)
    out = recipe.parent / "out"
    held_out = {
        load_row(line)["text"] for line in (out / "corpora" / "whole" / "valid.jsonl").read_bytes().splitlines()
    }
    for name in variants:
        assert (out / "corpora" / name / "valid.jsonl").read_bytes() == (
            out / "corpora" / "whole" / "valid.jsonl"
        ).read_bytes()
        assert load_row((out / "corpora" / name / "train.jsonl").read_bytes().splitlines()[0]).keys() == {"text"}
    trained = {load_row(line)["text"] for line in (out / "corpora" / "whole" / "train.jsonl").read_bytes().splitlines()}
    assert not trained & held_out
    assert "without-clean" in capsys.readouterr().out
    assert run(settings(recipe)) == result  # nothing is trained again


def test_only_what_is_asked_for(recipe):
    assert [one["variant"] for one in run(settings(recipe, steps=["exact"], seeds=1))["variants"]] == [
        "whole",
        "without-exact",
    ]
    with pytest.raises(DataError, match="near"):
        run(settings(recipe, steps=["near"], out=str(recipe.parent / "other")))
