"""A training run from start, or from its last checkpoint, to its end: what all stages share around `fit`."""

from collections.abc import Callable, Iterable, Sequence

from danlu.core.errors import Interrupted
from danlu.core.i18n import tr
from danlu.core.run import Run
from danlu.models.base import Batch, LanguageModel
from danlu.train.checkpoint import Checkpoints, latest, load_checkpoint
from danlu.train.config import TrainConfig
from danlu.train.hooks import Interruption, Log, Preflight, ProgressBar, Validation, console
from danlu.train.loop import Hook, TrainState, fit, seed_everything, steps_of
from danlu.train.objective import Objective

__all__ = ["train"]


def train(
    run: Run,
    model: LanguageModel,
    batches: Iterable[Batch],
    objective: Objective,
    config: TrainConfig,
    *,
    valid: Callable[[], Iterable[Batch]] | None = None,
    hooks: Sequence[Hook] = (),
) -> TrainState:
    """`fit` with checkpoints, resume, metrics, validation, progress and pre-flight.

    Raises Interrupted after Ctrl-C, when a checkpoint has been written; the same call then goes on from it.
    """
    seed_everything(config.seed)
    found = latest(run.checkpoints)
    state = load_checkpoint(found) if found else None
    run.rewind(state.step if state else 0)
    if state is not None:
        console.print(tr(f"resuming at step {state.step}", f"从第 {state.step} 步继续"))
    interruption = Interruption()
    own: list[Hook] = [interruption, Preflight(run), Log(run, config.log_every)]
    if valid is not None:
        steps = steps_of(batches, config)
        own.append(Validation(run, valid, objective, config.eval_every or max(1, steps // 10), config.patience))
    own += [ProgressBar(run.path.name), *hooks, Checkpoints(run.checkpoints, config.checkpoint_every, config.keep_last)]
    end = fit(model, batches, objective, config, hooks=own, state=state)
    if interruption.asked:
        raise Interrupted(
            tr(f"stopped at step {end.step}; a checkpoint was written", f"已停在第 {end.step} 步,并写入检查点"),
            tr("the same command goes on from there", "再次执行同一命令即可继续"),
        )
    run.measured |= {
        "steps": end.step,
        "tokens": end.tokens,
        "train_seconds": round(end.seconds, 1),
        "tokens_per_second": round(end.tokens / max(end.seconds, 1e-9), 1),
        **{name: end.values[name] for name in ("val_loss", "best_val_loss") if name in end.values},
    }
    return end
