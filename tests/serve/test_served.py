from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, FolderError
from danlu.core.folder import Lineage, ModelFolder
from danlu.generate.engine import Engine
from danlu.models import auto
from danlu.serve.served import Served, name_of, names_of
from danlu.tokenizer import Tokenizer


def test_names_tell_models_apart(tmp_path: Path):
    assert name_of(tmp_path / "poet" / "sft" / "model") == "sft"
    assert name_of(tmp_path / "mine") == "mine"
    assert name_of(tmp_path / "poet.gguf") == "poet"
    runs = [tmp_path / "a" / "sft" / "model", tmp_path / "b" / "sft" / "model", tmp_path / "a" / "int8" / "model"]
    assert names_of(runs) == ["a/sft", "b/sft", "int8"]
    with pytest.raises(ConfigError):
        names_of([runs[0], runs[1].parent / ".." / ".." / "a" / "sft" / "model"])


def test_card_of_a_tuned_poet_and_of_a_base_model(poet: Path, base: Path):
    card = Served.open(poet).card
    assert (card["id"], card["object"], card["owned_by"]) == ("sft", "model", "danlu")
    assert card["danlu"] == {
        "context": 128,
        "parameters": card["danlu"]["parameters"],
        "chat": True,
        "tuned": True,
        "poet": True,
    }
    assert card["danlu"]["parameters"] > 1000
    assert Served.open(base, name="mine").card["danlu"]["tuned"] is False


def test_defaults_are_the_folders(poet: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(poet)
    told = {"temperature": 0.6, "top_k": 20, "eos_token_id": [0, 2], "do_sample": True}
    auto.save(
        auto.load(poet), tmp_path / "m", lineage=Lineage(verb="sft"), save_tokenizer=tokenizer.save, generation=told
    )
    assert Served.open(tmp_path / "m").defaults.temperature == 0.6
    assert Served.open(tmp_path / "m").defaults.top_k == 20
    assert Served.open(poet).defaults.temperature == 1.0
    auto.save(
        auto.load(poet),
        tmp_path / "n",
        lineage=Lineage(verb="sft"),
        save_tokenizer=tokenizer.save,
        generation={"top_p": 7},
    )
    with pytest.raises(ConfigError, match="top_p"):
        Served.open(tmp_path / "n")


def test_a_model_measured_by_verse_is_a_poet(base: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(base)
    lineage = Lineage(verb="sft", measured={"evaluation": {"rhyme": 0.2}})
    auto.save(auto.load(base), tmp_path / "m", lineage=lineage, save_tokenizer=tokenizer.save)
    assert Served.open(tmp_path / "m").poet


def test_fingerprint_follows_the_content(poet: Path, base: Path):
    assert Served.open(poet).fingerprint == Served.open(poet).fingerprint != Served.open(base).fingerprint
    engine = Engine.open(poet)
    served = Served.of(engine, "memory")
    assert served.tuned
    assert served.fingerprint.startswith("fp_")


def test_a_broken_folder_is_told(poet: Path, tmp_path: Path):
    with pytest.raises(FolderError):
        Served.open(tmp_path)
    assert ModelFolder.open(poet).lineage is not None
