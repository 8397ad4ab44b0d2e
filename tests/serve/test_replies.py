from openai.types import Completion as OpenAICompletion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from danlu.generate.params import Completion
from danlu.serve.replies import Reply, usage_of

DONE = [Completion("山", [5, 6], 4, "stop"), Completion("水声", [7], 4, "length")]
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}


def test_a_prompt_counts_once():
    assert usage_of([[1, 2, 3, 4]], DONE) == USAGE


def test_whole_chat_is_openais():
    reply = Reply(chat=True, model="m", fingerprint="fp_1").whole(DONE, USAGE)
    read = ChatCompletion.model_validate(reply, strict=True)
    assert [(c.index, c.message.content, c.finish_reason) for c in read.choices] == [
        (0, "山", "stop"),
        (1, "水声", "length"),
    ]
    assert read.usage is not None
    assert read.usage.total_tokens == 7
    assert reply.keys() == read.model_dump(exclude_unset=True).keys()  # nothing beside what OpenAI has


def test_whole_text_is_openais():
    reply = Reply(chat=False, model="m", fingerprint="fp_1").whole(DONE, USAGE)
    read = OpenAICompletion.model_validate(reply, strict=True)
    assert [(c.index, c.text, c.finish_reason) for c in read.choices] == [(0, "山", "stop"), (1, "水声", "length")]


def test_chunks_of_a_chat():
    reply = Reply(chat=True, model="m", fingerprint="fp_1", usage=True)
    chunks = [*reply.opening(1), reply.piece(1, "山"), reply.closing(1, "stop"), reply.counted(USAGE)]
    read = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert len({chunk.id for chunk in read}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    first, second, third = (chunk.choices[0] for chunk in read[:3])
    assert (first.delta.role, first.delta.content) == ("assistant", "")
    assert (second.index, second.delta.content, second.finish_reason) == (1, "山", None)
    assert (third.delta.content, third.finish_reason) == (None, "stop")
    assert chunks[1]["usage"] is None
    assert read[3].choices == []
    assert read[3].usage is not None


def test_chunks_of_a_text():
    reply = Reply(chat=False, model="m", fingerprint="fp_1")
    assert reply.opening(0) == []
    chunks = [reply.piece(0, "山"), reply.closing(0, "length")]
    assert [(c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in chunks] == [
        ("山", None),
        ("", "length"),
    ]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert all("usage" not in chunk for chunk in chunks)
