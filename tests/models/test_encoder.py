"""Every encoder and head against `transformers`: a tiny random model saved by it, loaded here, and back."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from danlu.core.errors import ConfigError, FolderError
from danlu.core.folder import Lineage
from danlu.models import auto
from danlu.models.encoder import Encoder, EncoderConfig
from danlu.models.encoders import ENCODERS, HEADS
from danlu.train.objective import aligned_cross_entropy
from tests.models.test_auto import save_plain
from tests.models.test_decoder import packed
from tests.models.test_families import VOCABULARY, close, uneven

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "id2label": {0: "no", 1: "yes", 2: "perhaps"},
}
DISTIL = {
    **{"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4},
    **{"max_position_embeddings": 64, "pad_token_id": 1, "id2label": SHAPE["id2label"]},
    **{"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
}
MODERN = {
    **SHAPE,
    "local_attention": 6,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
}
SHAPES = {
    "bert": {**SHAPE, **NO_DROPOUT},
    "roberta": {**SHAPE, **NO_DROPOUT, "type_vocab_size": 1},
    "xlm-roberta": {**SHAPE, **NO_DROPOUT, "type_vocab_size": 1},
    "distilbert": DISTIL,
    "modernbert": MODERN,
}
BIASED = dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert-untied": ("bert", "masked-lm", {"tie_word_embeddings": False, "hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "roberta-pads": ("roberta", "masked-lm", {"pad_token_id": 7, "hidden_act": "gelu_new", "type_vocab_size": 3}),
    "roberta-untied": ("roberta", "masked-lm", {"tie_word_embeddings": False}),
    "distilbert-untied": ("distilbert", "masked-lm", {"tie_word_embeddings": False, "activation": "relu"}),
    "modernbert-biases": ("modernbert", "masked-lm", {**BIASED, "classifier_activation": "silu"}),
    "modernbert-no-bias": ("modernbert", "masked-lm", {"decoder_bias": False, "tie_word_embeddings": False}),
    "modernbert-mean": ("modernbert", "sequence-classification", {"classifier_pooling": "mean", "norm_eps": 1e-3}),
    "modernbert-all-local": (
        "modernbert",
        "token-classification",
        {
            "layer_types": ["sliding_attention"] * 3,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
}
CASES = {f"{family}-{head}": (family, head, {}) for family in ENCODERS for head in HEADS} | VARIANTS


def their_class(family: str, head: Any) -> Any:
    return getattr(transformers, ENCODERS[family].stem + HEADS[head])


@cache
def pair(case: str) -> tuple[torch.nn.Module, Any, Path]:
    """The model of transformers, ours loaded from what it saved, and the folder it saved."""
    family, head, settings = CASES[case]
    torch.manual_seed(0)
    theirs = their_class(family, head)(AutoConfig.for_model(family, **{**SHAPES[family], **settings})).eval()
    with torch.no_grad():  # biases and norms that are not 0 and 1, scores that are not flat
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = Path(mkdtemp(prefix="danlu-encoder-"))
    theirs.save_pretrained(folder)
    return theirs, auto.load(folder), folder


def text() -> tuple[Tensor, Tensor, list[int]]:
    """`uneven`, without the ids that some case pads with: transformers' RoBERTa does not count them as positions."""
    ids, segments, lengths = uneven()
    return torch.where((ids == 1) | (ids == 7), 5, ids), segments, lengths


def told(model: torch.nn.Module, ids: Tensor, **more: Tensor) -> Tensor:
    """What the model of transformers answers: logits, or the states of a plain encoder."""
    answer = model(ids, **more)
    return answer.logits if hasattr(answer, "logits") else answer.last_hidden_state


def said(model: Encoder, batch: dict[str, Tensor]) -> Tensor:
    """The same of ours."""
    return model.hidden(batch) if model.config.head == "none" else model(batch)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_agree_with_rows_of_uneven_length_and_padding(case):
    theirs, mine, _ = pair(case)
    ids, segments, lengths = text()
    expected, got = told(theirs, ids, attention_mask=segments), said(mine, {"input_ids": ids, "segment_ids": segments})
    assert torch.isfinite(got).all()
    if got.ndim == 2:
        close(got, expected)
    else:
        for row, length in enumerate(lengths):
            close(got[row, :length], expected[row, :length])
    close(said(mine, {"input_ids": ids}), told(theirs, ids))  # the path without a mask


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_packed_documents_equal_each_alone(case):
    theirs, mine, _ = pair(case)
    batch, documents = packed([6, 11, 3], 23, VOCABULARY)
    batch = {
        **batch,
        "input_ids": torch.where((batch["input_ids"] == 1) | (batch["input_ids"] == 7), 5, batch["input_ids"]),
    }
    hidden, at = mine.hidden(batch), 0
    for document in documents:
        end = at + document.shape[1]
        ids, own = batch["input_ids"][:, at:end], hidden[:, at:end]
        close(own, mine.hidden({"input_ids": ids}))
        if mine.config.head == "sequence-classification":
            close(mine.logits(mine.pooled(own, {"input_ids": ids})), told(theirs, ids))
        else:
            close(own if mine.config.head == "none" else mine.logits(own), told(theirs, ids))
        at = end


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_loss_agree(case):
    theirs, _, folder = pair(case)
    mine = auto.load(folder).train()  # without dropout the same as in evaluation
    assert isinstance(mine, Encoder)
    theirs.zero_grad()
    ids, segments, lengths = text()
    batch, head = {"input_ids": ids, "segment_ids": segments}, mine.config.head
    if head == "none":
        told(theirs, ids, attention_mask=segments)[:, : min(lengths)].sin().sum().backward()
        mine.hidden(batch)[:, : min(lengths)].sin().sum().backward()
    elif head == "sequence-classification":
        labels = torch.tensor([2, 0, 1])
        theirs(ids, attention_mask=segments, labels=labels).loss.backward()
        F.cross_entropy(mine(batch), labels).backward()
    else:
        labels = (ids % mine.output_weight.shape[0]).masked_fill(segments == 0, -100)
        theirs(ids, attention_mask=segments, labels=labels).loss.backward()
        loss = aligned_cross_entropy(mine, {**batch, "labels": labels})  # the head, its bias and its matrix apart
        (loss.total / loss.count).backward()
    gradients = {name: part.grad for name, part in theirs.named_parameters(remove_duplicate=False)}
    seen = 0
    for name, parameter in mine.named_parameters():
        if parameter.grad is None:  # the pooler, or a bias that the file only keeps
            assert gradients[name] is None, name
            continue
        seen += 1
        close(parameter.grad, gradients[name])
    assert seen >= 16


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_transformers_opens_what_danlu_saves(case, tmp_path):
    theirs, mine, _ = pair(case)
    auto.save(mine, tmp_path / "m", lineage=Lineage(verb="test"))
    again, info = type(theirs).from_pretrained(tmp_path / "m", dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids = text()[0]
    close(told(again.eval(), ids), told(theirs, ids))
    close(said(auto.load(tmp_path / "m"), {"input_ids": ids}), said(mine, {"input_ids": ids}), 0.0)
    if "classification" in mine.config.head:
        assert again.config.id2label == theirs.config.id2label
        assert again.config.label2id == {"no": 0, "yes": 1, "perhaps": 2}


@torch.no_grad()
def test_second_sentences_and_the_pooler():
    theirs, mine, _ = pair("bert-none")
    ids, segments, lengths = text()
    second = (torch.arange(13) > 3).long().expand_as(ids)
    expected = theirs(ids, attention_mask=segments, token_type_ids=second)
    hidden = mine.hidden({"input_ids": ids, "segment_ids": segments, "token_type_ids": second})
    for row, length in enumerate(lengths):
        close(hidden[row, :length], expected.last_hidden_state[row, :length])
    close(mine.transform(hidden[:, 0]), expected.pooler_output)
    assert (hidden - mine.hidden({"input_ids": ids, "segment_ids": segments})).abs().max() > 0.1


@pytest.mark.parametrize("head", ["masked-lm", "sequence-classification", "token-classification"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_dropout_falls_where_transformers_drops(family, head, tmp_path):
    """The same seed gives both the same mask, so equal logits mean equal places and shares."""
    shares = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.4}
    if family == "distilbert":
        shares = {"dropout": 0.3, "attention_dropout": 0.2, "seq_classif_dropout": 0.4}
    if family == "modernbert":
        shares = {"classifier_dropout": 0.4}
    config = AutoConfig.for_model(family, **{**SHAPES[family], **shares}, attn_implementation="eager")
    theirs = their_class(family, head)(config).train()
    theirs.save_pretrained(tmp_path)
    mine, ids = auto.load(tmp_path).train(), text()[0]
    torch.manual_seed(3)
    expected = told(theirs, ids)
    torch.manual_seed(3)
    close(mine({"input_ids": ids}), expected)
    if (family, head) != ("modernbert", "masked-lm"):
        assert not torch.equal(mine({"input_ids": ids}), mine({"input_ids": ids}))
    mine.eval()
    assert torch.equal(mine({"input_ids": ids}), mine({"input_ids": ids}))


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("head", HEADS)
def test_a_fresh_head_keeps_the_body(family, head):
    start = torch.Generator().manual_seed(0)
    config = EncoderConfig(
        family=family, vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    )
    first = Encoder(config)
    first.initialise(start)
    new = first.with_head(head, start, labels=("a", "b", "c"))
    batch = {"input_ids": text()[0]}
    assert torch.equal(new.hidden(batch), first.hidden(batch))
    assert new.config.labels == ("a", "b", "c")
    if "classification" in head:
        assert new(batch).shape == ((3, 3) if head.startswith("sequence") else (3, 13, 3))
    assert new["word"].weight is first["word"].weight  # shared, not copied
    half = first.bfloat16().with_head(head, start)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    with pytest.raises(ConfigError, match="colour"):
        first.with_head(head, start, colour="red")


@pytest.mark.parametrize("family", ENCODERS)
def test_initialise(family):
    config = EncoderConfig(family=family, vocab_size=500, hidden_size=64, num_hidden_layers=8, num_attention_heads=4)
    models = [Encoder(config) for _ in range(2)]
    for model in models:
        model.initialise(torch.Generator().manual_seed(5))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, parameter in models[0].named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all()
        else:
            assert 0.004 < parameter.std() < 0.023, name
    loss = F.cross_entropy(models[0]({"input_ids": torch.randint(0, 500, (2, 9))}).flatten(0, 1), torch.arange(18))
    assert abs(loss.item() - torch.tensor(500.0).log().item()) < 0.5  # knows nothing yet


def test_what_old_files_hold_besides(tmp_path):
    """gamma and beta, counted positions, the classifier of next sentences, the pooler below another head."""
    theirs, mine, folder = pair("bert-masked-lm")
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    assert any(name.endswith("gamma") for name in tensors)
    tensors |= {"bert.embeddings.position_ids": torch.arange(64)[None]}
    tensors |= {"bert.pooler.dense.weight": torch.zeros(32, 32), "bert.pooler.dense.bias": torch.zeros(32)}
    tensors |= {"cls.seq_relationship.weight": torch.zeros(2, 32), "cls.seq_relationship.bias": torch.zeros(2)}
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")  # the other of its two names
    save_plain(tmp_path / "m", tensors, mine.hf_config())
    ids = text()[0]
    with torch.no_grad():
        close(auto.load(tmp_path / "m")({"input_ids": ids}), told(theirs, ids))


def test_a_plain_bert_without_a_pooler(tmp_path):
    theirs, mine, folder = pair("bert-none")
    tensors = {name: t for name, t in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_plain(tmp_path / "m", tensors, mine.hf_config())
    ids = text()[0]
    bare = auto.load(tmp_path / "m")
    with torch.no_grad():
        close(bare.hidden({"input_ids": ids}), told(theirs, ids))
    assert auto.state_to_save(bare).keys() == tensors.keys()


@pytest.mark.parametrize("family", ENCODERS)
def test_every_misfit_is_named(family, tmp_path):
    _, _, folder = pair(f"{family}-masked-lm")
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if name.endswith(ENCODERS[family].layer["outer"] + ".weight"))
    bent = next(name for name in tensors if name.endswith(ENCODERS[family].embeddings["word"] + ".weight"))
    del tensors[lost]
    tensors |= {bent: tensors[bent][:-1].clone(), "surplus.weight": torch.zeros(1)}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(FolderError) as caught:
        auto.load(tmp_path)
    for name in (lost, bent, "surplus.weight"):
        assert name in caught.value.what


def test_an_encoder_does_not_generate():
    _, mine, _ = pair("bert-masked-lm")
    with pytest.raises(ConfigError):
        mine.new_cache(1, 8)
    with pytest.raises(ConfigError):
        mine.hidden({"input_ids": text()[0]}, cache=object())


def test_a_plain_encoder_has_no_logits():
    _, mine, _ = pair("bert-none")
    with pytest.raises(ConfigError, match="with_head"):
        mine({"input_ids": text()[0]})
    with pytest.raises(ConfigError, match="with_head"):
        _ = mine.output_weight


def test_half_precision_and_autocast_run():
    _, _, folder = pair("modernbert-masked-lm")
    ids, segments, _ = text()
    low = auto.load(folder, dtype=torch.bfloat16)
    assert low({"input_ids": ids, "segment_ids": segments}).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = auto.load(folder)({"input_ids": ids, "segment_ids": segments})
    whole = auto.load(folder)({"input_ids": ids, "segment_ids": segments})
    assert (mixed - whole).abs().max() < 0.1 * whole.abs().max()


def test_context_leaves_out_the_positions_that_roberta_skips():
    assert Encoder(EncoderConfig(family="roberta", pad_token_id=1, max_position_embeddings=514)).context == 512
    assert Encoder(EncoderConfig(max_position_embeddings=64)).context == 64
