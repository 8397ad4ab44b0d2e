"""The report of the quickstart, out of a made-up run. The real run is `make quickstart`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from danlu import quickstart
from danlu.core.config import Config as Base
from danlu.core.i18n import language
from danlu.core.run import Run
from danlu.pipeline import Recipe, StepResult, load_recipe, recipes

POEM = "春风一夜入江南，\n"


def figures(name: str) -> dict[str, Any]:
    """What `danlu evaluate --task poem` writes."""
    shift = {"base": 0.0, "sft": 0.1, "int8": 0.11}[name]
    sample = {"prompt": "写一首七言绝句，题为《江南春》。", "title": "江南<春>", "text": POEM * 4}
    return {
        "size_mb": 15.6 if name != "int8" else 4.9,
        "val_loss": 4.15 + shift,
        "bits_per_byte": 2.0,
        "nats_per_character": 4.1,
        "form": 0.5 + 4 * shift,
        "rhyme": 0.4,
        "no_repeat": 0.9,
        "distinct": 0.93,
        "score": 0.6,
        "form_any": 0.98,
        "answers": 200,
        "tokens_per_second": 1234.5,
        "samples": [sample] * 14,
    }


def fake_run(folder: Path) -> None:
    for name in ("base", "sft"):
        with Run(folder / name, name, Base()) as run:
            for step in (1, 10, 20):
                run.log(step, {"loss": 6.0 - step / 10, "val_loss": 6.1 - step / 10})
                run.log(step, {"samples": [f"{POEM}{name}-{step}"]})
    (folder / "evaluate").mkdir()
    for name in ("base", "sft", "int8"):
        (folder / "evaluate" / f"{name}.json").write_text(
            json.dumps(figures(name), ensure_ascii=False), encoding="utf-8"
        )


SERVER = {"requests": 32, "p50_ms": 210.0, "p99_ms": 480.0, "texts": [f"{POEM}answer"] * 32, "wall_seconds": 4.2}
RESULTS = [
    StepResult(name="data", verb="data prepare", wall_seconds=9.5, metrics={"splits": {}}),
    StepResult(name="evaluate-base", verb="evaluate", wall_seconds=20.0, metrics=figures("base")),
]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Everything but the steps and the server is real."""
    pytest.importorskip("vl_convert")
    folder = tmp_path / "runs" / "quickstart"

    def finish() -> Path:
        fake_run(folder)
        recipe = Recipe(name="quickstart", run=folder, steps=())
        monkeypatch.setattr(quickstart, "run_recipe", lambda path, out: (recipe, RESULTS))
        monkeypatch.setattr(quickstart, "_try_server", lambda model: SERVER)
        monkeypatch.setattr(quickstart.console, "_width", 200)
        quickstart.run(quickstart.Config())
        return folder

    return finish


def test_report_json_has_the_promised_form(finished: Callable[[], Path]):
    told = json.loads((finished() / "report.json").read_text(encoding="utf-8"))
    assert told["schema"] == 1
    assert told["machine"]["cores"]
    assert told["wall_seconds"] == pytest.approx(9.5 + 20 + 4.2, abs=0.1)
    assert [set(stage) for stage in told["stages"]] == [{"name", "wall_seconds", "metrics"}] * 2
    assert "samples" not in told["stages"][1]["metrics"], "texts are in the report, figures in the JSON"
    assert [row["model"] for row in told["comparison"]] == ["base", "sft", "int8"]
    wanted = {"model", "val_loss", "form", "rhyme", "distinct", "size_mb", "tokens_per_second"}
    for row in told["comparison"]:
        assert wanted <= set(row)
        assert all(0 <= row[rate] <= 1 for rate in ("form", "rhyme", "distinct"))
    assert told["server"] == {"requests": 32, "p50_ms": 210.0, "p99_ms": 480.0}


def test_report_html_shows_what_was_gained(finished: Callable[[], Path]):
    page = (finished() / "report.html").read_text(encoding="utf-8")
    for part in ("4.150", "50.0%", "90.0%", "93.0%", "1,234.5", "200 titles", "98.0%", "median 210 ms"):
        assert part in page, part
    assert page.count("<svg") == 2, "curves of pre-training and of tuning"
    assert "base-20" in page, "poems as training went on"
    assert "江南&lt;春&gt;" in page
    assert page.count("江南&lt;春&gt;") == 12
    assert page.count("answer</div>") + page.count("answer<small>") == 8
    assert "danlu serve" in page
    assert 'lang="en"' in page


def test_the_report_in_chinese(finished: Callable[[], Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DANLU_LANG", "zh")
    language.cache_clear()
    try:
        page = (finished() / "report.html").read_text(encoding="utf-8")
    finally:
        monkeypatch.undo()
        language.cache_clear()
    for part in ('lang="zh"', "每一步带来了什么", "题目 200 个", "验证损失", "继续"):
        assert part in page


def test_the_terminal_tells_the_comparison_and_how_to_go_on(
    finished: Callable[[], Path], capsys: pytest.CaptureFixture[str]
):
    folder = finished()
    out = capsys.readouterr().out
    for part in (
        "base",
        "sft",
        "int8",
        "4.150",
        "50.0%",
        f"danlu chat {folder}/sft/model",
        "report.html",
        "32 requests",
    ):
        assert part in out


def test_keep_serving_serves_the_tuned_model(finished: Callable[[], Path], monkeypatch: pytest.MonkeyPatch):
    serve = pytest.importorskip("danlu.serve.serve")
    asked = []
    monkeypatch.setattr(serve, "run", asked.append)
    folder = finished()
    assert asked == []
    quickstart.run(quickstart.Config(keep_serving=True, port=8123))
    (config,) = asked
    assert (config.folder, config.port) == (folder / "sft" / "model", 8123)


def test_the_server_gets_real_requests(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A server of a random model answers, and is stopped."""
    pytest.importorskip("uvicorn")
    monkeypatch.setattr(quickstart, "_TITLES", ("江南春", "秋夜"))
    told = quickstart._try_server(folder)
    assert told["requests"] == len(told["prompts"]) == len(told["texts"]) == 8
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    assert told["prompts"][0] == "写一首七言绝句，题为《江南春》。"
    assert told["prompts"][1] == "写一首五言绝句，题为《秋夜》。"


def test_the_packaged_recipe_writes_what_the_report_reads(tmp_path: Path):
    _, prepared = load_recipe(recipes()["quickstart"], tmp_path)
    written = {getattr(config, "json_", None) or getattr(config, "out", None) for _, _, config in prepared}
    for name in ("base", "sft", "int8"):
        assert tmp_path / name in written
        assert tmp_path / "evaluate" / f"{name}.json" in written
