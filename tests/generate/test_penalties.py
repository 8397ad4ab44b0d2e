"""The few changed logits against whole tables, counted anew at each step."""

import torch

from danlu.generate.choose import Row
from danlu.generate.params import SamplingParams
from danlu.generate.penalties import History
from danlu.ops.sampling import penalise_frequency, penalise_repetition

VOCAB = 12


def a_row(prompt: list[int], **wish: float) -> Row:
    return Row(SamplingParams(**wish), list(prompt), len(prompt), torch.Generator())  # pyright: ignore[reportArgumentType]


def by_tables(logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
    counts = torch.zeros(len(rows), VOCAB)
    seen = torch.zeros(len(rows), VOCAB, dtype=torch.bool)
    for at, row in enumerate(rows):
        seen[at, row.ids] = True
        for token in row.ids[row.prompt_tokens :]:
            counts[at, token] += 1
    kinds = ("repetition", "presence", "frequency")
    told = [torch.tensor([getattr(row.params, f"{kind}_penalty") for row in rows]) for kind in kinds]
    return penalise_frequency(penalise_repetition(logits, seen, told[0]), counts, told[1], told[2])


def test_equals_tables_while_answers_grow_and_rows_change():
    draw = torch.Generator().manual_seed(0)
    rows = [
        a_row([1, 2, 2], repetition_penalty=1.5, frequency_penalty=0.3),
        a_row([4]),
        a_row([5, 6], presence_penalty=1.0),
        a_row([0, 11], repetition_penalty=0.7, presence_penalty=-0.5, frequency_penalty=1.0),
    ]
    history = History(rows, torch.device("cpu"), None)
    for step in range(30):
        if step % 5 == 4:  # another order, and one new
            rows = [*rows[1:], a_row([3, step % VOCAB], frequency_penalty=0.2 + step / 40)][-4:]
            history = History(rows, torch.device("cpu"), history)
        logits = torch.randn(len(rows), VOCAB, generator=draw)
        wanted = by_tables(logits, rows)
        history.penalise(logits)
        torch.testing.assert_close(logits, wanted)
        for row in rows:
            row.ids += torch.randint(0, VOCAB, (1 + step % 2,), generator=draw).tolist()


def test_a_row_that_was_set_back_is_seen_and_counted_again():
    row = a_row([1], repetition_penalty=2.0)
    row.ids += [2, 3]
    history = History([row], torch.device("cpu"), None)
    history.penalise(torch.ones(1, VOCAB))
    assert not history.set_back()
    row.ids.pop()
    assert history.set_back()
    logits = torch.ones(1, VOCAB)
    History([row], torch.device("cpu"), history).penalise(logits)
    assert torch.equal(logits, by_tables(torch.ones(1, VOCAB), [row]))
