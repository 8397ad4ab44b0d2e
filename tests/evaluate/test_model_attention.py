import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from danlu.core.errors import ConfigError, ContextError, FolderError
from danlu.core.folder import Lineage
from danlu.evaluate.model_attention import Config, choose, drawing, run
from danlu.models import auto
from danlu.models.decoder import Decoder
from danlu.models.record import Seen, attention_maps
from danlu.tokenizer import Tokenizer
from tests.conftest import tiny_decoder


def maps(layers: int = 2, heads: int = 3, length: int = 4) -> list[Seen]:
    torch.manual_seed(0)
    weights = torch.rand(layers, 1, heads, length, length).tril()
    return [Seen(str(layer), one / one.sum(-1, keepdim=True)) for layer, one in enumerate(weights)]


@pytest.mark.parametrize(
    ("layer", "head", "expected"),
    [
        (None, None, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        (1, None, [(1, 0), (1, 1), (1, 2)]),
        (None, 2, [(0, 2), (1, 2)]),
        (1, 0, [(1, 0)]),
    ],
)
def test_layers_and_heads_are_chosen(layer: int | None, head: int | None, expected: list[tuple[int, int]]):
    seen = maps()
    found = choose(seen, layer, head)
    assert list(found) == expected
    for (at, which), weights in found.items():
        assert torch.equal(weights, seen[at].weights[0, which])


@pytest.mark.parametrize(("layer", "head"), [(2, None), (None, 3)])
def test_what_there_is_not(layer: int | None, head: int | None):
    with pytest.raises(ConfigError, match=r"from 0 to|从 0 数到"):
        choose(maps(), layer, head)


def test_every_visible_cell_is_drawn_where_it_stands():
    chosen = choose(maps(), None, None)
    told = drawing(chosen, ["春", "水", "<x>", '"'])
    values = told["data"]["values"]
    assert len(values) == 6 * 10  # half of 4 x 4 is hidden from a causal model
    for cell in values:
        assert cell["k"] <= cell["q"]
        assert cell["w"] == pytest.approx(chosen[cell["l"], cell["h"]][cell["q"], cell["k"]].item(), abs=1e-4)
    assert told["params"] == [{"name": "tokens", "value": ["春", "水", "<x>", '"']}]


def test_too_much_to_draw():
    many = choose(maps(layers=4, heads=4, length=200), None, None)
    with pytest.raises(ConfigError, match="--layer"):
        drawing(many, ["a"] * 200)
    assert drawing({(0, 0): many[0, 0]}, ["a"] * 200)["spec"]["width"] > drawing({(0, 0): many[0, 0]}, ["a"])["spec"]["width"]  # fmt: skip


def test_the_picture_shows_the_model_s_attention(folder: Path, model: Decoder, tokenizer: Tokenizer, tmp_path: Path):
    text = "春水生，秋山落。"
    path = run(Config(model=folder, text=text, out=tmp_path / "attention.svg"))
    drawn = path.read_text()
    assert all(character in drawn for character in text)
    ids = tokenizer.encode(text)
    seen = attention_maps(model, {"input_ids": torch.tensor([ids])})
    cells = sum(int((weights > 0).sum()) for weights in choose(seen, None, None).values())
    assert drawn.count("look") + drawn.count("看:") >= cells  # a tooltip for each cell


def test_a_png_of_one_map_is_larger_than_it_is_among_many(folder: Path, tmp_path: Path):
    sizes = []
    for name, which in (("all.png", {}), ("one.png", {"layer": 1, "head": 2})):
        path = run(Config(model=folder, text="春水生", out=tmp_path / name, **which))
        sizes.append(Image.open(io.BytesIO(path.read_bytes())).size)
    maps_wide = 4
    assert sizes[1][0] > 2 * sizes[0][0] / maps_wide


def test_from_a_gguf_file(folder: Path, tmp_path: Path):
    pytest.importorskip("gguf")
    from danlu.export import gguf as export

    path = tmp_path / "model.gguf"
    try:
        export.run(export.Config(folder=folder, out=path, type="f32"))
    except ConfigError:
        pytest.skip("this tokenizer has no form in GGUF")
    assert run(Config(model=path, text="春水", out=tmp_path / "a.svg")).exists()


def test_errors(folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"\.svg"):
        run(Config(model=folder, text="春", out=tmp_path / "a.jpeg"))
    with pytest.raises(ContextError):
        run(Config(model=folder, text="春" * 65, out=tmp_path / "a.svg"))
    with pytest.raises(FolderError):
        run(Config(model=tmp_path / "absent", text="春", out=tmp_path / "a.svg"))
    assert not (tmp_path / "a.svg").exists()


def test_sliding_layers_show_their_window(tokenizer: Tokenizer, tmp_path: Path):
    model = tiny_decoder(tokenizer.vocab_size, family="mistral", sliding_window=3)  # pyright: ignore
    auto.save(model, tmp_path / "model", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    loaded = auto.load(tmp_path / "model")
    seen = attention_maps(loaded, {"input_ids": torch.tensor([tokenizer.encode("春水生秋山落")])})
    (values,) = [drawing(choose(seen, 0, 0), list("春水生秋山落"))["data"]["values"]]
    assert {cell["q"] - cell["k"] for cell in values} == {0, 1, 2}


def test_an_encoder_sees_both_sides(tokenizer: Tokenizer, tmp_path: Path):
    from tests.models.shapes import config_of

    torch.manual_seed(0)
    model = auto.build({**config_of("bert"), "vocab_size": tokenizer.vocab_size})
    auto.save(model, tmp_path / "bert", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    drawn = run(Config(model=tmp_path / "bert", text="春水生", out=tmp_path / "a.svg", layer=0, head=1)).read_text()
    assert drawn.count("look") + drawn.count("看:") >= 9  # all of 3 x 3


def test_an_encoder_decoder_is_refused(tokenizer: Tokenizer, tmp_path: Path):
    from tests.models.shapes import built

    auto.save(built("t5"), tmp_path / "t5", lineage=Lineage(verb="test"), save_tokenizer=tokenizer.save)
    with pytest.raises(ConfigError, match=r"encoder-decoder|编码器-解码器"):
        run(Config(model=tmp_path / "t5", text="春", out=tmp_path / "a.svg"))
