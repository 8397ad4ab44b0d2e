import json
from collections import Counter
from pathlib import Path

import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.generate.engine import Engine, EngineConfig
from danlu.generate.engine_trace import Arrival, Config, Record, drawing, mix, run, trace
from danlu.generate.params import SamplingParams
from danlu.models.paged import PAGE
from tests.conftest import tiny_decoder

WISH = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module")
def wide(tokenizer):
    return tiny_decoder(tokenizer.vocab_size, max_position_embeddings=160)


def tallies(records: list[Record], name: str) -> Counter[int]:
    """The sum of one figure of the cells, by request."""
    total: Counter[int] = Counter()
    for record in records:
        for cell in record.cells:
            total[cell["request"]] += cell[name]
    return total


def did(records: list[Record], request: int) -> list[str]:
    return [cell["did"] for record in records for cell in record.cells if cell["request"] == request]


@pytest.mark.parametrize(
    "settings", [{}, {"guesses": 3}, {"prefix_cache": False}, {"max_rows": 2}, {"step_tokens": 5, "max_rows": 4}]
)
def test_every_token_is_accounted_for(settings, wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig(**{"max_rows": 4, "step_tokens": 32, **settings}))
    arrivals = mix(engine, WISH)
    records = trace(engine, arrivals)
    for request, arrival in enumerate(arrivals):
        assert tallies(records, "said")[request] == arrival.params.max_tokens
        computed = (
            tallies(records, "read")[request] + tallies(records, "found")[request] + tallies(records, "right")[request]
        )
        # each token but the last is computed once: read, found, or guessed right
        assert computed == len(arrival.prompt) + arrival.params.max_tokens - 1
    assert sum(tallies(records, "right").values()) == engine.guessed_right
    assert sum(tallies(records, "wrong").values()) == engine.guessed - engine.guessed_right
    assert engine.watch is None
    assert not engine.busy


def test_answers_are_those_without_a_trace(wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig(guesses=3))
    seen = trace(engine, [Arrival(1, "春夏秋冬" * 4, WISH)])
    plain = Engine(wide, tokenizer, EngineConfig(guesses=3))
    plain.generate(["春夏秋冬" * 4], WISH)
    assert len(seen) == plain.steps


def test_a_long_prompt_is_read_in_pieces_while_others_answer(wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig(step_tokens=16))
    records = trace(engine, [Arrival(1, "春", WISH), Arrival(2, "春夏秋冬" * 10, WISH)])
    assert did(records, 0) == ["answers"] * 12
    assert did(records, 1)[:3] == ["reads"] * 3
    pieces = [cell["read"] for record in records[1:4] for cell in record.cells if cell["request"] == 1]
    assert pieces[:2] == [15, 15]  # one token of sixteen is the other's answer


def test_those_that_begin_alike_wait_and_find(wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig())
    prompt = "春夏秋冬" * 10
    records = trace(engine, [Arrival(1, prompt + end, WISH) for end in "山水"])
    length = len(tokenizer.encode(prompt + "水"))
    assert did(records, 1)[:2] == ["waits", "finds a prefix"]
    assert records[1].cells[1]["found"] == (length - 1) // PAGE * PAGE


def test_little_memory_is_seen(wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig(cache_tokens=64, step_tokens=16))
    wish = WISH.model_copy(update={"max_tokens": 40})
    records = trace(engine, [Arrival(1, text, wish) for text in ("春夏", "山水", "花明")])
    assert any("preempted" in did(records, request) for request in range(3))
    assert tallies(records, "said") == {0: 40, 1: 40, 2: 40}
    assert max(record.pages_held for record in records) <= 4 == records[0].pages


def test_a_pause_between_arrivals_is_skipped(wide, tokenizer):
    engine = Engine(wide, tokenizer)
    short = WISH.model_copy(update={"max_tokens": 2})
    records = trace(engine, [Arrival(1, "春", short), Arrival(90, "夏", short)])
    assert [record.step for record in records] == [1, 2, 3, 4]
    assert records[2].arrived == [{"request": 1, "prompt_tokens": len(tokenizer.encode("夏"))}]


def test_the_mix_fits_a_small_context(model, tokenizer):
    engine = Engine(model, tokenizer, EngineConfig(cache_tokens=32))
    for arrival in mix(engine, WISH):
        assert len(engine.fitting(arrival.prompt)) + arrival.params.max_tokens <= 32


def test_what_stands_in_the_cells(wide, tokenizer):
    engine = Engine(wide, tokenizer, EngineConfig(max_rows=4, step_tokens=32))
    records = trace(engine, mix(engine, WISH))
    above, below = drawing(records)["vconcat"]
    assert len(above["data"]["values"]) == sum(len(record.cells) for record in records)
    for cell in above["data"]["values"]:
        wanted = {"waits": "", "answers": "", "reads": str(cell["read"])}
        wanted["finds a prefix"] = f"{cell['found']}+{cell['read']}"
        assert cell["label"] == wanted[cell["did"]]
    assert [point["pages"] for point in below["data"]["values"][::2]] == [record.pages_held for record in records]


def test_too_much_to_draw():
    cell = {"request": 0, "did": "waits", "found": 0, "read": 0, "said": 0, "right": 0}
    record = Record(1, 0.0, [], [cell] * 40_001, 1, 0, 0, 0, 1)
    with pytest.raises(ConfigError, match="max_tokens"):
        drawing([record])


@pytest.mark.parametrize("kind", ["svg", "png", "html"])
def test_run_writes_picture_and_record(kind: str, folder: Path, tmp_path: Path):
    out = tmp_path / f"seen.{kind}"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("春夏\n\n山水\n", encoding="utf-8")
    run(Config(model=folder, prompt=("花",), prompts=prompts, out=out, sampling=WISH))
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()]
    assert {cell["request"] for line in lines for cell in line["cells"]} == {0, 1, 2}
    assert [line["step"] for line in lines if line["arrived"]] == [1, 3, 5]
    assert out.stat().st_size > 2000


@pytest.mark.parametrize("content", [b"\n \n", b"\xff\xfe"])
def test_files_without_prompts(content: bytes, folder: Path, tmp_path: Path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match="prompts"):
        run(Config(model=folder, prompts=file, out=tmp_path / "seen.svg"))


@pytest.mark.parametrize("several", [{"n": 2}, {"best_of": 3}])
def test_several_answers_are_refused(several: dict[str, int], folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"sampling\.n"):
        run(Config(model=folder, out=tmp_path / "seen.svg", sampling=WISH.model_copy(update=several)))


def test_the_command(danlu, folder: Path, tmp_path: Path):
    result = danlu("engine", "trace", str(folder), "--prompt", "春", "--prompt", "夏", "--out", "seen.svg")
    assert result.code == 0, result
    assert (tmp_path / "seen.svg").exists()
