import pytest

from danlu.core.errors import ConfigError, DataError
from danlu.tokenizer.markup import (
    ASSISTANT_CLOSE,
    ASSISTANT_OPEN,
    SPECIAL_CLOSE,
    SPECIAL_OPEN,
    Piece,
    check_text,
    compile_template,
    cut_at_marks,
    find_specials,
    is_tagged,
    mark_literals,
    mark_specials,
    render_template,
)

SPECIALS = ("<s>", "<|user|>", "<|end|>")


def marked(source: str, parts: bool = False, **given: object) -> str:
    pattern = find_specials(SPECIALS, parts)
    template = compile_template(source, lambda program: mark_literals(program, pattern))
    return render_template(template, [{"role": "user", "content": "<s>"}], given)


def wrapped(text: str) -> str:
    return SPECIAL_OPEN + text + SPECIAL_CLOSE


def test_check_text():
    assert check_text("a\ufffd😀\x00") == "a\ufffd😀\x00"
    with pytest.raises(DataError, match="surrogate"):
        check_text("a\ud83d")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<s>{{ messages[0].content }}", wrapped("<s>") + "<s>"),
        ("{{ '<s>' + messages[0].content }}", wrapped("<s>") + "<s>"),
        ("{% set start = '<s>' %}{{ start ~ 1 }}", wrapped("<s>") + "1"),
        ("{{ ['<s>', '<|end|>'] | join('-') }}", wrapped("<s>") + "-" + wrapped("<|end|>")),
        ("{{ missing | default('<s>') }}", wrapped("<s>")),
        ("{% macro turn(text) %}{{ text }}{% endmacro %}{{ turn('<s>') }}", wrapped("<s>")),
        ("{% set ns = namespace(x='<s>') %}{{ ns.x }}", wrapped("<s>")),
        ("{{ '<s>' if messages[0].content == '<s>' else 'no' }}", wrapped("<s>")),
        ("{{ 'yes' if '<s>' in messages[0].content }}", "yes"),
        ("{{ messages[0].content.startswith('<s>') }}", "True"),
        ("{{ messages[0].content.split('<s>') | length }}", "2"),
        ("{{ messages[0].content | replace('<s>', 'gone') }}", "gone"),
        ("{{ {'a': '<s>'} | tojson }}", '{"a": "' + wrapped("<s>") + '"}'),
    ],
)
def test_literals_that_are_written_are_marked(source: str, text: str):
    assert marked(source) == text


def test_parts_of_special_tokens():
    text = marked("{{ '<|' + messages[0].role + '|>' }}{{ messages[0].content }}<|end|>", parts=True)
    assert text == wrapped("<|") + "user" + wrapped("|>") + "<s>" + wrapped("<|end|>")
    assert cut_at_marks(text, SPECIALS) == [
        Piece("<|user|>", True, False),
        Piece("<s>", False, False),
        Piece("<|end|>", True, False),
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (wrapped("<|") + wrapped("end|>"), [Piece("<|end|>", True, False)]),
        (wrapped("<|") + "no role" + wrapped("|>"), [Piece("<|no role|>", False, False)]),
        (wrapped("<|") + "end|>", [Piece("<|end|>", False, False)]),  # the second half is somebody's text
        (wrapped("<|") + "end" + wrapped("|>"), [Piece("<|end|>", False, False)]),  # 'end' is no role
        (wrapped("<|"), [Piece("<|", False, False)]),
    ],
)
def test_only_the_template_joins_parts(text: str, pieces: list[Piece]):
    assert cut_at_marks(text, SPECIALS) == pieces


def test_pieces():
    text = wrapped("<s>") + "a" + ASSISTANT_OPEN + "b<s>" + wrapped("<|end|>") + ASSISTANT_CLOSE + "c"
    assert cut_at_marks(text, SPECIALS) == [
        Piece("<s>", True, False),
        Piece("a", False, False),
        Piece("b<s>", False, True),
        Piece("<|end|>", True, True),
        Piece("c", False, False),
    ]


@pytest.mark.parametrize("text", [SPECIAL_OPEN * 2, SPECIAL_CLOSE, ASSISTANT_CLOSE, ASSISTANT_OPEN * 2])
def test_marks_taken_apart(text: str):
    with pytest.raises(ConfigError, match="special tokens"):
        cut_at_marks(text, SPECIALS)


def test_generation_tag():
    assert is_tagged("{% generation %}x{% endgeneration %}")
    assert not is_tagged("{{ 'generation' }}")
    assert marked("{%- generation -%} x {%- endgeneration -%}") == ASSISTANT_OPEN + "x" + ASSISTANT_CLOSE


def test_longest_special_token_first():
    assert mark_specials("<a><a>>", find_specials(["<a>", "<a>>"])) == wrapped("<a>") + wrapped("<a>>")
    assert mark_specials("anything", find_specials([])) == "anything"


@pytest.mark.parametrize("source", ["{{ messages", "{% for m in messages %}", "{% nonsense %}", "{{ x | nofilter }}"])
def test_syntax_error_names_the_line(source: str):
    with pytest.raises(ConfigError, match="line 2"):
        compile_template("first\n" + source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9) | list }}",
    ],
)
def test_nothing_dangerous_runs(source: str):
    template = compile_template(source)
    with pytest.raises(ConfigError, match="chat template fails"):
        render_template(template, [{"role": "user", "content": "x"}], {})


def test_refusal_is_about_the_data():
    template = compile_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(DataError, match="roles must alternate"):
        render_template(template, [{"role": "user", "content": "x"}], {})


def test_dialect():
    source = "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}{{ strftime_now('%Y') | int > 2000 }}"
    assert render_template(compile_template(source), [{"role": "user", "content": "x"}], {}) == "True"
    source = "{{ {'题': '<a>'} | tojson(indent=1) }}{{ tools is none }}"
    assert render_template(compile_template(source), [], {}) == '{\n "题": "<a>"\n}True'
