import pytest

from danlu.core.errors import ConfigError, ContextError
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


def test_a_wrong_device_is_told_before_anything_is_read(tmp_path):
    config = training(device="cuda99")
    with pytest.raises(ConfigError, match="cuda99"), Stage(Run(tmp_path / "a", "test", config), config):
        pytest.fail("the data would be read here")
    assert not (tmp_path / "a").exists()


def test_a_prompt_that_does_not_fit_is_told_before_training(tmp_path, model, tokenizer, texts):
    documents = tokenise_texts(texts, tokenizer)
    config = training()
    with pytest.raises(ContextError, match="context 64"), Stage(Run(tmp_path / "a", "test", config), config) as stage:
        stage.train(model, tokenizer, documents, documents[:20], prompts=["春" * 64])
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_the_folder_says_how_much_context_its_tokenizer_may_fill(tmp_path, model, tokenizer, texts):
    documents = tokenise_texts(texts, tokenizer)
    config = training()
    with Stage(Run(tmp_path / "a", "test", config), config) as stage:
        stage.train(model, tokenizer, documents, documents[:20])
        path = stage.save(model, tokenizer, parent=None)
    assert type(tokenizer).load(path).model_max_length == model.context


def test_a_run_that_is_done_says_how_to_run_it_again(tmp_path, model, tokenizer, texts, capsys):
    documents = tokenise_texts(texts, tokenizer)
    config = training()
    for told in ("model folder", "delete"):
        with Stage(Run(tmp_path / "a", "test", config), config) as stage:
            if not stage.done:
                stage.train(model, tokenizer, documents, documents[:20])
                stage.save(model, tokenizer, parent=None)
        assert told in capsys.readouterr().err
