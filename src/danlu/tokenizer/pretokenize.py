"""How text is cut before byte-pair encoding: merges are learnt and applied inside these pieces only."""

from tokenizers import Regex, pre_tokenizers

__all__ = ["PATTERN", "byte_level", "split_words"]

# In order of preference. What BPE may join is a word of one script, never a word with its punctuation, so
# that "dog", "dog." and "dog!" share a token, and so that no learnt token can spell a special token out.
PATTERN = "|".join(
    (
        r"'(?:[sdmtSDMT]|ll|LL|re|RE|ve|VE)(?!\p{L})",  # English: don't -> don, 't
        r"\p{Han}+",  # Chinese has no spaces: a run of characters up to the next mark or other script
        r" ?[[\p{L}\p{M}]&&[^\p{Han}]]+",  # a word takes the space before it along
        r"\p{N}",  # digit by digit: a number is spelt in one way, wherever it stands
        r" ?[^\s\p{L}\p{M}\p{N}]+",  # punctuation and symbols
        r"\s*[\r\n]+",  # line ends, with the blanks before them
        r"\s+(?!\S)",  # the last blank before a word stays with that word
        r"\s+",
    )
)

_SPLIT = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")


def split_words(text: str) -> list[str]:
    """Pre-tokens of `text`; joined they are `text` again."""
    return [word for word, _ in _SPLIT.pre_tokenize_str(text)]


def byte_level() -> pre_tokenizers.PreTokenizer:
    """The same cut for `tokenizers`, each piece then spelt in the byte alphabet of GPT-2."""
    return pre_tokenizers.Sequence([_SPLIT, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
