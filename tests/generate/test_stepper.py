import pytest

from danlu.generate.engine import Engine
from danlu.generate.params import SamplingParams

# What a step computes is tested through the engine (test_engine.py); here, what happens when it fails.


def test_a_step_that_fails_cancels_what_it_computed_and_nothing_else(model, tokenizer, monkeypatch):
    engine = Engine(model, tokenizer)
    wish = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True)
    number = engine.add("春", wish)
    engine.step()
    stepper = engine._stepper
    with monkeypatch.context() as patch:
        patch.setattr(stepper, "_forward", lambda parts: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError):
            engine.step()
    late = engine.add("夏", wish)
    done = {event.request: event.completion for _ in range(9) for event in engine.step() if event.completion}
    assert done[number].finish_reason == "cancelled"
    assert (done[late].finish_reason, len(done[late].ids)) == ("length", 5)
    assert stepper.scheduler.pool.held == 0
    assert not engine.busy
