import pytest

from danlu.core.errors import ConfigError
from danlu.core.run import Run, all_runs
from danlu.data.batches import tokenise_texts
from danlu.stages.stage import Stage
from tests.stages.small import training


def test_a_failure_is_recorded_and_the_run_can_be_tried_again(tmp_path, model, tokenizer, texts):
    documents = tokenise_texts(texts, tokenizer)
    config = training(seq_len=999)
    with pytest.raises(ConfigError), Stage(Run(tmp_path / "runs" / "a", "test", config), config) as stage:
        stage.train(model, tokenizer, documents, documents[:20])
    assert all_runs(tmp_path / "runs")[0]["status"] == "failed"
    good = training()
    with Stage(Run(tmp_path / "runs" / "b", "test", good), good) as stage:
        stage.train(model, tokenizer, documents, documents[:20])
        stage.save(model, tokenizer, parent=None)
    assert {row["status"] for row in all_runs(tmp_path / "runs")} == {"failed", "done"}
    assert Stage(Run(tmp_path / "runs" / "b", "test", good), good).done
