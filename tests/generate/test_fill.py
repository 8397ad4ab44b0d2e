import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from danlu.core.errors import ConfigError, ContextError, DataError
from danlu.core.folder import Lineage
from danlu.data.masking import with_mask
from danlu.generate import fill
from danlu.generate.fill import Candidate, draw, fill_blanks, filled
from danlu.models import auto
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tests.tokenizer.corpus import CHINESE, ENGLISH


def tiny_encoder(vocab_size: int, seed: int = 0) -> Encoder:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    model = Encoder(EncoderConfig(family="bert", vocab_size=vocab_size, pad_token_id=3, **shape))
    model.initialise(torch.Generator().manual_seed(seed))
    for parameter in model.parameters():  # as if trained: sure of something, biases included
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return model.eval()


@pytest.fixture(scope="module", params=["char", "bpe"])
def folder(request, tmp_path_factory):
    config = TokenizerConfig(kind=request.param, vocab_size=600, chat_template="none")
    tokenizer = with_mask(train_tokenizer([CHINESE + ENGLISH], config))
    path = tmp_path_factory.mktemp(request.param) / "model"
    auto.save(tiny_encoder(tokenizer.vocab_size), path, lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    return path


@pytest.mark.parametrize("text", ["卖豆腐的[MASK]人", "The [MASK] turned slowly, [MASK] and night."])
def test_the_same_candidates_as_transformers(folder, text):
    ours = fill_blanks(auto.load(folder), Tokenizer.load(folder), text, top=3)
    theirs = pipeline("fill-mask", model=str(folder), dtype=torch.float32)(text, top_k=3)
    theirs = theirs if isinstance(theirs[0], list) else [theirs]
    assert [[one.token_id for one in blank] for blank in ours] == [[one["token"] for one in blank] for blank in theirs]
    for blank, other in zip(ours, theirs, strict=True):
        assert [one.probability for one in blank] == pytest.approx([one["score"] for one in other], rel=1e-4)


def test_transformers_opens_the_folder_with_the_same_logits(folder):
    ids = torch.tensor([Tokenizer.load(folder).backend.encode("卖豆腐的[MASK]人 The mill").ids])
    theirs = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    assert type(theirs).__name__ == "BertForMaskedLM"
    with torch.no_grad():
        assert (auto.load(folder)({"input_ids": ids}) - theirs(ids).logits).abs().max() <= 1e-4
    assert AutoTokenizer.from_pretrained(folder).mask_token == "[MASK]"


def test_blanks_in_a_model_whose_mask_is_called_otherwise(folder):
    tokenizer = Tokenizer.load(folder)
    renamed = Tokenizer.load(folder)
    backend = renamed.backend.to_str().replace("[MASK]", "<mask>")
    renamed = Tokenizer(renamed.backend.from_str(backend), {**tokenizer.config, "mask_token": "<mask>"})
    model = auto.load(folder)
    assert fill_blanks(model, renamed, "卖[MASK]腐") == fill_blanks(model, tokenizer, "卖[MASK]腐")


def test_what_is_drawn():
    blanks = [[Candidate(7, "光", 0.6), Candidate(8, "夜", 0.1)], [Candidate(9, " frost", 0.05)]]
    assert filled("床前明月[MASK] and[MASK].", blanks) == "床前明月【光】 and【frost】."
    lines = draw("床前明月[MASK] and[MASK].", blanks).splitlines()
    assert lines[0] == "床前明月【光】 and【frost】."
    assert lines[2].split() == ["60.0%", "光", "█" * 18]
    assert lines[-1].split() == ["5.0%", "frost", "██"]
    assert filled("a[MASK]b", [[Candidate(1, "\n", 0.5)]]) == "a【'\\n'】b"


def test_a_part_of_a_character_is_shown_by_its_name():
    tokenizer = with_mask(
        train_tokenizer([CHINESE], TokenizerConfig(kind="char", vocab_size=600, chat_template="none"))
    )
    model = tiny_encoder(tokenizer.vocab_size)
    blanks = fill_blanks(model, tokenizer, "卖[MASK]腐", top=600)
    assert len(blanks[0]) == tokenizer.vocab_size
    assert sum(one.probability for one in blanks[0]) == pytest.approx(1)
    assert {one.text for one in blanks[0]} >= {"<0xE4>", "的", "[MASK]"}
    assert not [one for one in blanks[0] if "\ufffd" in one.text]


def test_what_cannot_be_filled_is_told(folder, tokenizer):
    model, own = auto.load(folder), Tokenizer.load(folder)
    with pytest.raises(DataError, match="MASK"):
        fill_blanks(model, own, "卖豆腐")
    with pytest.raises(ContextError, match="64"):
        fill_blanks(model, own, "卖[MASK]" * 40)
    with pytest.raises(ConfigError):
        fill_blanks(model, tokenizer, "卖[MASK]腐")
    with pytest.raises(DataError, match="surrogate"):
        fill_blanks(model, own, "\ud800[MASK]")


def test_the_verb(folder, capsys):
    fill.run(fill.Config(model=folder, text="卖[MASK]腐", top=2))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("卖【")
    assert len(lines) == 4
