"""Chat templates in the shapes that well-known models use, written for the tests."""

from danlu.tokenizer.chat import CHATML

# SmolLM2's shape: a system turn of its own, no generation tag.
DEFAULT_SYSTEM = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Qwen3's shape: only the last answer keeps an (empty) block of thought; tools; content is taken apart.
THINKING = """\
{%- if tools %}
{{- '<|im_start|>system\\nTools: ' + tools | tojson + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
{%- if message.role == 'user' and not message.content.startswith('<tool>') and ns.last < 0 %}
{%- set ns.last = messages | length - 1 - loop.index0 %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}
{%- set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip() %}
{%- set content = content.split('</think>')[-1].lstrip() %}
{%- endif %}
{%- if loop.index0 > ns.last %}
{{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + content }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# Llama 3's shape: the turn is put together in a variable, the content trimmed, bos_token used.
VARIABLE = """\
{% for message in messages %}{% set turn = '<|im_start|>' + message['role'] + '<|sep|>\\n\\n' + message['content'] | trim + '<|im_end|>' %}{% if loop.index0 == 0 %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|sep|>\\n\\n' }}{% endif %}"""

# Phi-4-mini's shape: special tokens are built around the role.
PARTS = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""

# Mistral's shape: roles must alternate, no system turn, the answer ends the document.
ALTERNATING = """\
{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '<|im_start|> ' + message['content'] + ' <|sep|>' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"""

# No special tokens at all.
PLAIN = """\
{% for message in messages %}{{ '### ' + message['role'] + ':\\n' + message['content'] + '\\n\\n' }}{% endfor %}{% if add_generation_prompt %}### assistant:
{% endif %}"""

WITH_SYSTEM = {
    "chatml": CHATML,
    "default-system": DEFAULT_SYSTEM,
    "thinking": THINKING,
    "variable": VARIABLE,
    "parts": PARTS,
    "plain": PLAIN,
}
ALL = {**WITH_SYSTEM, "alternating": ALTERNATING}
SPECIALS = (
    "<|bos|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|sep|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
VARIABLES = {"bos_token": "<|bos|>", "eos_token": "<|endoftext|>"}
