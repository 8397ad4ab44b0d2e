"""Run a stage in children that die by SIGKILL at a chosen moment, then again without; print the weights' hashes.

Usage: python killing.py FOLDER CORPUS. One process imports torch; every attempt is a fork of it, so that many
moments can be tried in seconds. A moment is the n-th call of a system call that a save consists of, or the n-th step.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import torch

from danlu.core.files import sha256_file
from danlu.models.decoder import DecoderConfig
from danlu.stages import pretrain
from danlu.tokenizer import TokenizerConfig
from danlu.train import loop as loop_module
from danlu.train.config import TrainConfig

MOMENTS = {
    "fsync": [1, 3, 6, 7, 8, 11, 15, 19, 24, 29],  # between the files of checkpoints and of the model folder
    "replace": [2, 3, 5, 8, 11, 12],  # just before a finished save takes its name
    "step": [1, 5, 9, 17],  # in mid-step
}


def config(corpus: Path, out: Path) -> pretrain.Config:
    return pretrain.Config(
        data=corpus,
        out=out,
        new_tokenizer=TokenizerConfig(kind="char", chat_template="none"),
        model=DecoderConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64),
        train=TrainConfig(steps=18, batch_size=4, seq_len=32, checkpoint_every=4, eval_every=6, log_every=1, warmup=2),
        prompts=("春",),
    )


def die_at(what: str, number: int) -> None:
    """Kill this process at the `number`-th call of `what`."""
    calls = 0
    place, name = (loop_module, "_step") if what == "step" else (os, what)
    original = getattr(place, name)

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(place, name, counted)


def attempt(settings: pretrain.Config, moment: tuple[str, int] | None) -> int:
    """Run in a fork; the signal it died of, 0 when it ended well."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        if moment:
            die_at(*moment)
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
            pretrain.run(settings)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    folder, corpus = Path(sys.argv[1]), Path(sys.argv[2])
    whole = config(corpus, folder / "whole")
    assert attempt(whole, None) == 0
    told = {"whole": sha256_file(whole.out / "model" / "model.safetensors"), "killed": {}}
    for what, numbers in MOMENTS.items():
        for number in numbers:
            settings = config(corpus, folder / f"{what}-{number}")
            died = attempt(settings, (what, number))
            ended = attempt(settings, None)
            metrics = [json.loads(line) for line in (settings.out / "metrics.jsonl").read_text().splitlines()]
            told["killed"][f"{what} {number}"] = {
                "died": died,
                "ended": ended,
                "weights": sha256_file(settings.out / "model" / "model.safetensors"),
                "steps": [line["step"] for line in metrics if "loss" in line],
                "left": sorted(path.name for path in settings.out.rglob(".*")),
            }
    print(json.dumps(told))


main()
