"""Checks for decoding by contrast; the references are hand computations and the papers' formulas on probabilities."""

from types import SimpleNamespace

import torch
from torch.nn.functional import cosine_similarity, normalize

SOLUTION = {
    "contrast": "danlu.ops.sampling:contrast",
    "contrastive_scores": "danlu.generate.contrastive:contrastive_scores",
}

# 不, 鹤, 人, 馦 of the lesson: the amateur overrates the first, hardly knows the second; nobody believes in the last
EXPERT, AMATEUR = (0.50, 0.30, 0.19, 0.01), (0.70, 0.10, 0.199, 0.001)


def _logits(probabilities: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_the_example_by_hand(exercise: SimpleNamespace) -> None:
    """0.30 / 0.10 = 3 beats 0.50 / 0.70; 0.01 / 0.001 = 10 would beat both, but 0.01 is below 0.1 · 0.50.
    0.30 / 0.10 = 3 胜过 0.50 / 0.70；0.01 / 0.001 = 10 本来更大，但 0.01 低于 0.1 · 0.50，不予考虑。
    """
    scores = exercise.contrast(_logits(EXPERT), _logits(AMATEUR), 0.1)
    assert scores.shape == (1, 4), f"shape {tuple(scores.shape)}"
    assert int(scores.argmax()) == 1, f"chosen {int(scores.argmax())}"
    ratio = (scores[0, 1] - scores[0, 0]).exp()
    torch.testing.assert_close(ratio, torch.tensor(3 / (0.5 / 0.7)), atol=1e-4, rtol=1e-4)


def check_what_is_not_plausible_goes(exercise: SimpleNamespace) -> None:
    """-inf, exactly for tokens below alpha times the expert's best; the amateur has no say in it.
    低于专家最佳者 alpha 倍的词元应为 -inf，且只看专家，与业余模型无关。
    """
    expert, amateur = _random(0, 5, 30), _random(1, 5, 30)
    for alpha in (0.01, 0.1, 0.5):
        likely = expert.softmax(-1)
        wanted = likely >= alpha * likely.amax(-1, keepdim=True)
        kept = exercise.contrast(expert, amateur, alpha) > float("-inf")
        assert torch.equal(kept, wanted), f"alpha {alpha}: {int(kept.sum())} kept, not {int(wanted.sum())}"


def check_alpha_one_is_greedy(exercise: SimpleNamespace) -> None:
    """With alpha = 1 only the expert's best is left.
    alpha = 1 时只剩专家的最佳词元。
    """
    expert, amateur = _random(2, 8, 30), _random(3, 8, 30)
    assert torch.equal(exercise.contrast(expert, amateur, 1.0).argmax(-1), expert.argmax(-1))


def check_against_the_formula(exercise: SimpleNamespace) -> None:
    """log p(expert) - log p(amateur) up to a constant for each row.
    log p(专家) - log p(业余)，每行可以差一个常数。
    """
    expert, amateur = 3 * _random(4, 6, 30), 3 * _random(5, 6, 30)
    scores = exercise.contrast(expert, amateur, 1e-9)
    gap = scores - (expert.softmax(-1) / amateur.softmax(-1)).log()
    kept = scores.isfinite()
    first = torch.stack([row[keep][0] for row, keep in zip(gap, kept, strict=True)])
    torch.testing.assert_close(gap[kept], first[:, None].expand_as(gap)[kept], atol=1e-3, rtol=1e-3)


def check_beta(exercise: SimpleNamespace) -> None:
    """(1 + beta) expert - beta amateur: by hand 1.5 · 2 - 0.5 · 4 = 1; beta = 0 leaves the expert as it is.
    (1 + beta) 专家 - beta 业余：手算 1.5 · 2 - 0.5 · 4 = 1；beta = 0 时就是专家本身。
    """
    expert, amateur = torch.tensor([[2.0, 1.0]]), torch.tensor([[4.0, 0.0]])
    torch.testing.assert_close(exercise.contrast(expert, amateur, 0.1, 0.5), torch.tensor([[1.0, 1.5]]))
    torch.testing.assert_close(exercise.contrast(expert, amateur, 0.1, 0.0), expert)


def check_a_candidate_that_repeats(exercise: SimpleNamespace) -> None:
    """The likelier of two points where an earlier token points: 0.4 · 0.7 - 0.6 · 1 < 0.4 · 0.3 - 0.6 · 0.
    两个候选中更可能的那个与前文方向相同：0.4 · 0.7 - 0.6 · 1 < 0.4 · 0.3 - 0.6 · 0。
    """
    before = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    new = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    scores = exercise.contrastive_scores(torch.tensor([0.7, 0.3]), new, before, 0.6)
    torch.testing.assert_close(scores, torch.tensor([-0.32, 0.12]))


def check_the_greatest_cosine_counts(exercise: SimpleNamespace) -> None:
    """One token alike is enough: take the maximum over all tokens before, not their mean.
    只要与其中一个词元相像就要扣分：对前文取最大值，而不是平均。
    """
    new, before = normalize(_random(6, 5, 16), dim=-1), normalize(_random(7, 9, 16), dim=-1)
    probabilities = _random(8, 5).softmax(-1)
    alike = torch.stack([cosine_similarity(one[None], before).max() for one in new])
    for alpha in (0.0, 0.3, 1.0):
        scores = exercise.contrastive_scores(probabilities, new, before, alpha)
        torch.testing.assert_close(scores, (1 - alpha) * probabilities - alpha * alike, atol=1e-5, rtol=1e-5)
