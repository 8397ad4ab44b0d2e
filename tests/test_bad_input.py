"""Whatever goes wrong: one clear message that says what to do, a non-zero exit, nothing lost, no traceback.

Every case goes through the real command line in a process of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from danlu.core.folder import ModelFolder
from danlu.train.checkpoint import latest
from tests.commands import Result
from tests.conftest import couplets

Danlu = Callable[..., Result]
TINY = {
    "model.hidden-size": 32,
    "model.num-hidden-layers": 1,
    "model.num-attention-heads": 2,
    "train.seq-len": 32,
    "train.batch-size": 2,
    "train.steps": 2,
    "train.precision": "fp32",
    "new-tokenizer.kind": "char",
    "new-tokenizer.vocab-size": 300,
    "out": "mine",
}


def pretrain(data: Path | str, **settings: object) -> list[str]:
    """The words of a tiny training; `settings` as in train__steps=3."""
    chosen = {"data": data, **TINY, **{name.replace("__", ".").replace("_", "-"): v for name, v in settings.items()}}
    return ["pretrain", *(str(word) for name, value in chosen.items() for word in (f"--{name}", value))]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text("\n".join(couplets(40, seed=number)), encoding="utf-8")
    return folder


def refused(result: Result, *told: str, code: int = 1) -> None:
    """Ended with `code` and a message that holds all of `told`."""
    assert result.code == code, result.err
    for part in told:
        assert part in result.err, result.err
    for word in ("Traceback", "unexpected", "意外错误"):
        assert word not in result.out + result.err
    assert len(result.err.strip().splitlines()) >= 2, f"it does not say what to do: {result.err}"


# Settings


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pretrain", "--dta", "x"), ("--dta", "--data")),
        (("pretrain", "--data", "x", "--train.setps", "3"), ("--train.setps", "--train.steps")),
        (("pretrain", "--data", "x", "--train.lr", "fast"), ("train.lr", "'fast'")),
        (("pretrain", "--data", "x", "--train.device", "cuda9"), ("cuda9",)),
        (("pretrian", "--data", "x"), ("pretrian", "'danlu pretrain'")),
        (("data", "perpare"), ("data perpare", "'danlu data prepare'")),
        (("run", "quickstrat"), ("quickstrat", "quickstart")),
    ],
)
def test_unknown_words_name_the_nearest(words: tuple[str, ...], told: tuple[str, ...], danlu: Danlu, corpus: Path):
    words = tuple(str(corpus) if word == "x" else word for word in words)
    refused(danlu(*words), *told, code=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dta: texts", ("mine.yaml", "'dta'", "'data'")),
        ("data: texts\ntrain: {setps: 3}", ("mine.yaml", "train", "'setps'", "'steps'")),
        ("data: texts\ntrain: {steps: -3}", ("train.steps", "-3")),
        ("data: [", ("mine.yaml", "line 1")),
    ],
)
def test_unknown_keys_in_yaml(text: str, told: tuple[str, ...], danlu: Danlu, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    refused(danlu("pretrain", "--config", "mine.yaml"), *told, code=2)


STEP = "name: mine\nrun: out\nsteps:\n- "


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: mine\nstpes: []", ("mine.yaml", "'stpes'", "'steps'")),
        (STEP + "{name: a, vreb: pretrain}", ("mine.yaml", "steps[0]", "'vreb'", "'verb'")),
        (STEP + "{name: a, verb: pretrian}", ("mine.yaml", "'pretrian'", "'pretrain'")),
        (STEP + "{name: a, verb: pretrain, settings: {dta: texts}}", ("mine.yaml: a", "'dta'", "'data'")),
        (
            STEP + "{name: a, verb: pretrain, settings: {data: texts, train: {setps: 3}}}",
            ("mine.yaml: a: train", "'steps'"),
        ),
        (
            STEP + "{name: a, verb: evaluate, settings: {model: a, data: b, jsno: c}}",
            ("mine.yaml: a", "'jsno'", "'json'"),
        ),
        (STEP + "{name: a, verb: runs}\n- {name: a, verb: runs}", ("mine.yaml", "'a'")),
        (STEP + "{name: ../a, verb: runs}", ("mine.yaml", "steps.0.name", "../a")),
    ],
)
def test_faults_in_a_recipe_are_told_before_anything_runs(
    text: str, told: tuple[str, ...], danlu: Danlu, tmp_path: Path
):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = danlu("run", "mine.yaml")
    assert result.code == 2
    for part in told:
        assert part in result.err
    assert not (tmp_path / "out").exists()


def test_chinese(danlu: Danlu, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("data: texts\ntrain: {setps: 3}", encoding="utf-8")
    refused(
        danlu("pretrain", "--config", "mine.yaml", DANLU_LANG="zh"),
        "没有名为“setps”的设置",
        "是不是想写“steps”",
        code=2,
    )
    refused(danlu("pretrain", "--data", "nowhere", DANLU_LANG="zh"), "没有这个文件或文件夹:nowhere", "请检查路径")
    refused(danlu("generate", "nowhere", "春", DANLU_LANG="zh"), "没有模型文件夹", "config.json")
    refused(danlu("pretrian", DANLU_LANG="zh"), "没有这个命令:pretrian", "danlu pretrain", code=2)


def test_debug_shows_the_traceback(danlu: Danlu):
    result = danlu("generate", "nowhere", "x", "--debug")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "FolderError" in result.err


# Data


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pretrain", "--data", "nowhere"), ("nowhere",)),
        (("pretrain", "--config", "nowhere.yaml"), ("nowhere.yaml",)),
        (("run", "nowhere.yaml"), ("nowhere.yaml",)),
        (("sft", "nowhere", "--data", "x"), ("nowhere",)),
        (("int8", "nowhere"), ("nowhere",)),
        (("generate", "nowhere", "x"), ("nowhere",)),
        (("chat", "nowhere"), ("nowhere",)),
        (("evaluate", "nowhere", "--data", "x"), ("nowhere",)),
    ],
)
def test_missing_files(words: tuple[str, ...], told: tuple[str, ...], danlu: Danlu, tmp_path: Path):
    result = danlu(*words)
    refused(result, *told, code=2 if "yaml" in " ".join(words) else 1)


def test_a_mistyped_path_does_not_block_the_folder(danlu: Danlu, corpus: Path, tmp_path: Path):
    refused(danlu(*pretrain("txets")), "txets")
    result = danlu(*pretrain(corpus))
    assert result.code == 0, result.err
    refused(danlu(*pretrain(corpus, train__steps=3)), "another run", "train.steps (2 -> 3)", "--out", code=2)


@pytest.mark.parametrize("contents", [[], [b""], [b" \n\t\n", b""]])
def test_an_empty_corpus(contents: list[bytes], danlu: Danlu, tmp_path: Path):
    folder = tmp_path / "empty"
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(content)
    refused(danlu("pretrain", "--data", folder), "no documents in", "empty")


def test_undecodable_bytes_are_counted_and_reported(danlu: Danlu, corpus: Path):
    (corpus / "old.txt").write_bytes("春风又绿江南岸\n".encode("gb18030") * 40)
    (corpus / "flaw.txt").write_bytes("\n".join(couplets(40, seed=9)).encode() + b"\xff\xfe\n")
    result = danlu(*pretrain(corpus))
    assert result.code == 0, result.err
    assert "flaw.txt: 2 undecodable bytes" in result.err
    assert "old.txt: " in result.err
    assert "gb18030" in result.err, "it names the encoding that fits"


@pytest.mark.parametrize(
    ("verb", "rows", "told"),
    [
        ("pretrain", [{"text": "a"}, {"txet": "b"}], ("rows.jsonl:2", "'text'", "txet")),
        ("pretrain", [{"text": "a"}, {"text": 3}], ("rows.jsonl:2", "'text'", "int")),
        ("pretrain", [{"text": "a"}, "text"], ("rows.jsonl:2",)),
        ("sft", [{"messages": [{"role": "user", "content": "a"}]}, {"text": "b"}], ("rows.jsonl:2", "'messages'")),
    ],
)
def test_a_row_without_its_column(
    verb: str, rows: list, told: tuple[str, ...], danlu: Danlu, folder: Path, tmp_path: Path
):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    base = ("--base", folder) if verb == "sft" else ()
    refused(danlu(verb, *base, "--data", "rows.jsonl", "--out", "mine"), *told)


def test_a_row_that_is_not_json(danlu: Danlu, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": ', encoding="utf-8")
    refused(danlu("pretrain", "--data", "rows.jsonl"), "rows.jsonl:2", "JSON")


def test_a_corpus_smaller_than_a_batch(danlu: Danlu, corpus: Path):
    refused(danlu(*pretrain(corpus, train__batch_size=4000)), "less than one batch of 4000", "lower the batch size")


# Models


def test_every_file_of_a_model_folder_is_checked(danlu: Danlu, folder: Path, tmp_path: Path):
    names = sorted(file.name for file in folder.iterdir())
    assert len(names) == 6
    for name in names:
        for damage in ("cut", "gone"):
            copy = tmp_path / f"{damage}-{name}"
            shutil.copytree(folder, copy)
            (copy / name).write_bytes((folder / name).read_bytes()[:-5])
            if damage == "gone":
                (copy / name).unlink()
            if (name, damage) == ("danlu.json", "gone"):
                continue  # a folder from elsewhere has none
            refused(danlu("generate", copy, "春"), name)


def test_damage_without_a_manifest(danlu: Danlu, folder: Path, tmp_path: Path):
    (folder / "danlu.json").unlink()
    assert danlu("generate", folder, "春", "--sampling.max-tokens", "2").code == 0
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        (copy / name).write_bytes((folder / name).read_bytes()[:-5])
        refused(danlu("generate", copy, "春"), name)


def test_a_prompt_longer_than_the_context(danlu: Danlu, folder: Path, corpus: Path):
    refused(danlu("generate", folder, "春" * 100), "100 tokens", "context 64", "63 or fewer")
    refused(danlu("generate", folder, ""), "empty")
    result = danlu(*pretrain(corpus, model__max_position_embeddings=32, prompts="春" * 100, train__steps=9))
    refused(result, "100 tokens", "context 32")
    assert "1/9" not in result.err, "told before the training, not in the midst of it"


def test_a_prompt_that_is_no_text(danlu: Danlu, folder: Path):
    refused(danlu("generate", folder, "-", stdin="春".encode("gb18030")), "standard input", "UTF-8")


def test_a_base_model_has_no_chat(danlu: Danlu, corpus: Path):
    assert danlu(*pretrain(corpus, train__steps=1)).code == 0
    refused(danlu("chat", "mine/model"), "no chat template", "danlu sft", code=2)
    refused(danlu("generate", "mine/model", "春", "--chat"), "chat template", code=2)


def test_quantising_twice(danlu: Danlu, folder: Path):
    assert danlu("int8", folder, "--out", "small").code == 0
    refused(danlu("int8", "small/model", "--out", "smaller"), "no module of the model matches", code=2)


# Training


def test_a_loss_that_is_no_number(danlu: Danlu, corpus: Path):
    words = pretrain(corpus, train__optimizer="adamw", train__lr="1e30", train__warmup=0, train__steps=20)
    refused(danlu(*words), "the loss is nan", "train.lr", code=2)


def test_a_place_that_cannot_be_written(danlu: Danlu, corpus: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/inside"):
        refused(danlu(*pretrain(corpus, out=out)), "cannot write", "--out")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_while_training(danlu: Danlu, corpus: Path, small_disk: Callable[[str], Path]):
    """At several fillings, so that it is full at the start, amid checkpoints, and when the model is saved."""
    disk = small_disk("16m")
    words = partial(pretrain, corpus, train__steps=6, train__checkpoint_every=2, train__log_every=1)
    assert danlu(*words(out=disk / "whole")).code == 0
    whole = ModelFolder.open(disk / "whole" / "model")
    size = sum(file.stat().st_size for file in (disk / "whole").rglob("*") if file.is_file())
    filler = disk / "filler"
    for number, share in enumerate((0.02, 0.1, 0.3, 0.6, 0.9)):
        out = disk / f"out{number}"
        filler.write_bytes(b"x" * (shutil.disk_usage(disk).free - int(share * size)))
        refused(danlu(*words(out=out)), "full")
        filler.unlink()
        result = danlu(*words(out=out))
        assert result.code == 0, result.err
        assert ModelFolder.open(out / "model").hash == whole.hash
        assert not list(out.rglob(".*"))
        shutil.rmtree(out)


@pytest.fixture
def process(corpus: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A training that would take long, in its own session, as a terminal would run it."""
    started = subprocess.Popen(
        [sys.executable, "-m", "danlu", *pretrain(corpus, train__steps=100_000, train__log_every=1)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DANLU_LANG": "en", "COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
    )
    yield started
    started.kill()
    started.wait()


def test_ctrl_c_writes_a_checkpoint_and_the_same_command_goes_on(
    process: subprocess.Popen, danlu: Danlu, corpus: Path, tmp_path: Path
):
    metrics = tmp_path / "mine" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    refused(
        Result(process.returncode, "", err),
        "stopped at step",
        "a checkpoint was written",
        "the same command goes on",
        code=130,
    )
    left = latest(tmp_path / "mine" / "checkpoints")
    assert left is not None
    step = int(left.name.partition("-")[2])
    assert f"stopped at step {step};" in err
    assert json.loads((tmp_path / "mine" / "run.json").read_text())["status"] == "interrupted"

    second = subprocess.Popen(
        process.args,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DANLU_LANG": "en"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while metrics.read_text().count("\n") < step + 2:
        assert second.poll() is None, second.communicate()[1]
        time.sleep(0.05)
    second.send_signal(signal.SIGTERM)
    _, err = second.communicate()
    assert f"resuming at step {step}" in err
    assert second.returncode == 130
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(set(steps)), "no step twice"
