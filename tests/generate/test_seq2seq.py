from pathlib import Path

import pytest
import torch
from transformers import T5ForConditionalGeneration, T5TokenizerFast

from danlu.core.errors import ConfigError, ContextError
from danlu.core.folder import Lineage
from danlu.data.denoise import add_sentinels, sentinel_ids
from danlu.generate import generate
from danlu.generate.opening import EngineConfig
from danlu.generate.params import SamplingParams
from danlu.generate.seq2seq import Seq2Seq, is_seq2seq, pad_sources
from danlu.models import auto
from danlu.models.t5 import T5
from danlu.tokenizer import Tokenizer
from tests.conftest import tiny_decoder
from tests.models.tiny_t5 import tiny_t5

GREEDY = SamplingParams(max_tokens=20, temperature=0)
SOURCES = ["春山花来", "秋<extra_id_0>月落，暮<extra_id_1>生。", "冬", "夏水风去，晨云雨明，秋月花落。"]


@pytest.fixture(scope="module")
def words(tokenizer: Tokenizer) -> Tokenizer:
    return add_sentinels(tokenizer, 4)


@pytest.fixture(scope="module", params=[1, 2, 5])
def model(request, words: Tokenizer) -> T5:
    return tiny_t5(words, seed=request.param)


@pytest.fixture(scope="module")
def t5_folder(words: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("t5") / "model"
    generation = {"eos_token_id": list(words.stop_ids), "pad_token_id": words.pad_id}
    model = tiny_t5(words, seed=2)
    auto.save(model, path, lineage=Lineage(verb="test"), save_tokenizer=words.save, generation=generation)
    return path


@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_is_that_of_transformers(model: T5, words: Tokenizer, tmp_path: Path, penalty: float):
    auto.save(model, tmp_path / "model", lineage=Lineage(verb="test"))
    theirs = T5ForConditionalGeneration.from_pretrained(tmp_path / "model")
    mine = Seq2Seq(model, words, max_rows=3)  # more sources than rows
    told = mine.generate(SOURCES, GREEDY.model_copy(update={"repetition_penalty": penalty}))
    batch = pad_sources([mine.encode(source) for source in SOURCES])
    answers = theirs.generate(
        **batch,
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=list(words.stop_ids),
        pad_token_id=words.pad_id,
    )
    for completion, answer in zip(told, answers.tolist(), strict=True):
        own = answer[1 : 1 + len(completion.ids)]
        assert completion.ids == own
        rest = answer[1 + len(completion.ids) :]
        if completion.finish_reason == "stop":
            assert rest[0] in words.stop_ids
        else:
            assert len(completion.ids) == 20
            assert not rest
    assert len({tuple(completion.ids) for completion in told}) > 1


def test_rows_that_end_early_leave_the_others_as_they_are(model: T5, words: Tokenizer):
    mine = Seq2Seq(model, words)
    alone = [mine.generate([source], GREEDY)[0].ids for source in SOURCES]
    limits = [3, 20, 1, 11]
    each = [GREEDY.model_copy(update={"max_tokens": limit}) for limit in limits]
    together = mine.generate(SOURCES, each)
    assert [completion.ids for completion in together] == [
        ids[:limit] for ids, limit in zip(alone, limits, strict=True)
    ]


def test_sampling_follows_the_seed_and_the_settings(model: T5, words: Tokenizer):
    mine = Seq2Seq(model, words)
    hot = SamplingParams(max_tokens=12, temperature=2.0, seed=4)
    once = mine.generate(SOURCES[:1] * 3, hot)
    assert [c.ids for c in mine.generate(SOURCES[:1] * 3, hot)] == [c.ids for c in once]
    assert len({tuple(c.ids) for c in once}) == 3  # a seed in common is made different for each
    assert mine.generate(SOURCES[:1], hot)[0].ids == once[0].ids  # whatever else is in the batch
    narrow = hot.model_copy(update={"top_k": 1, "max_tokens": 20})
    assert mine.generate(SOURCES, narrow)[2].ids == mine.generate(SOURCES, GREEDY)[2].ids


def test_logprobs_are_the_models_own(model: T5, words: Tokenizer):
    mine = Seq2Seq(model, words)
    (told,) = mine.generate(SOURCES[:1], GREEDY.model_copy(update={"logprobs": 2, "max_tokens": 6}))
    written = torch.tensor([[model.start_id, *told.ids]])
    source = torch.tensor([mine.encode(SOURCES[0])])
    with torch.no_grad():
        scores = model({"input_ids": source, "decoder_input_ids": written}).log_softmax(-1)[0]
    assert told.logprobs is not None
    for at, (token, found) in enumerate(zip(told.ids, told.logprobs, strict=True)):
        assert found.id == token
        assert found.logprob == pytest.approx(scores[at, token].item(), abs=1e-4)
    assert told.cumulative_logprob == pytest.approx(sum(one.logprob for one in told.logprobs))


def test_stream_gives_the_text_in_pieces_and_stops_at_a_string(model: T5, words: Tokenizer):
    mine = Seq2Seq(model, words)
    hot = SamplingParams(max_tokens=20, temperature=1.0, seed=0)
    (whole,) = mine.generate(SOURCES[3:], hot)
    assert "".join(mine.stream(SOURCES[3], hot)) == whole.text
    assert len(whole.text) > 3
    stop = whole.text[2:4]
    (cut,) = mine.generate(SOURCES[3:], hot.model_copy(update={"stop": (stop,)}))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_sentinels_are_shown_where_blanks_were_asked_for(words: Tokenizer):
    model = tiny_t5(words)
    sentinel = sentinel_ids(words)[0]
    with torch.no_grad():  # nothing else is ever written
        model.lm_head.weight.zero_()
    biased = SamplingParams(max_tokens=2, temperature=0, logit_bias={str(sentinel): 5.0})
    mine = Seq2Seq(model, words)
    blank, plain = mine.generate([SOURCES[1], SOURCES[0]], biased)
    assert blank.ids == plain.ids == [sentinel] * 2
    assert (blank.text, plain.text) == ("<extra_id_0>" * 2, "")
    assert sentinel in mine.encode(SOURCES[1])
    assert mine.encode(SOURCES[0])[-1] == words.eos_id


def test_sources_are_read_as_the_tokenizer_of_t5_reads_them(tmp_path: Path):
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁the", "▁furnace", "▁before", "▁dawn", *"abcdefghijklmnopqrstuvwxyz."]
    theirs = T5TokenizerFast(vocab=[(piece, -0.1 * at) for at, piece in enumerate(pieces)], extra_ids=3)
    theirs.save_pretrained(tmp_path)
    words = Tokenizer.load(tmp_path)
    assert sentinel_ids(words) == theirs.convert_tokens_to_ids([f"<extra_id_{number}>" for number in range(3)])
    mine = Seq2Seq(tiny_t5(words), words)
    for text in ("the furnace <extra_id_0> before dawn", "<extra_id_1> dawn<extra_id_2>.", "lit"):
        assert mine.encode(text) == theirs(text).input_ids


def test_what_cannot_be_asked_is_told(model: T5, words: Tokenizer, tmp_path: Path, t5_folder: Path):
    mine = Seq2Seq(model, words)
    for source, told in (("", "empty"), ([], "empty"), ("春" * 64, "context 64")):
        with pytest.raises(ContextError, match=told):
            mine.generate([source], GREEDY)
    with pytest.raises(ConfigError, match="one answer"):
        mine.generate(["春"], SamplingParams(n=2))
    with pytest.raises(ConfigError, match="2 prompts but 1"):
        mine.generate(["春", "秋"], [GREEDY])
    folder = tmp_path / "decoder"
    auto.save(tiny_decoder(words.vocab_size), folder, lineage=Lineage(verb="test"), save_tokenizer=words.save)
    with pytest.raises(ConfigError, match="no encoder-decoder"):
        Seq2Seq.open(folder)
    with pytest.raises(ConfigError, match="fp7"):
        Seq2Seq.open(t5_folder, EngineConfig(dtype="fp7"))
    with pytest.raises(ConfigError, match="packed to int4"):
        Seq2Seq.open(t5_folder, EngineConfig(weights="int4"))
    assert not is_seq2seq(folder)


def test_the_verb_answers_with_it(t5_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert is_seq2seq(t5_folder)
    sampling = SamplingParams(max_tokens=8, seed=3)
    generate.run(generate.Config(model=t5_folder, prompt=SOURCES[1], sampling=sampling))
    (answer,) = Seq2Seq.open(t5_folder).generate([SOURCES[1]], sampling)
    assert capsys.readouterr().out == answer.text + "\n"
    generate.run(generate.Config(model=t5_folder, prompt=SOURCES[1], sampling=sampling, n=2))
    assert capsys.readouterr().out.startswith(f"[1]\n{answer.text}\n\n[2]\n")
    with pytest.raises(ConfigError, match="knows no chats"):
        generate.run(generate.Config(model=t5_folder, prompt="春", chat=True))
