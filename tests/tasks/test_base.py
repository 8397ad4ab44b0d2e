from danlu.tasks.base import Task


class Echo:
    def __len__(self):
        return 1

    def prompt(self, i):
        return [{"role": "user", "content": str(i)}]

    def score(self, i, text):
        return float(text == str(i))


def test_a_task_is_what_has_its_methods():
    assert isinstance(Echo(), Task)
    assert not isinstance([], Task)
