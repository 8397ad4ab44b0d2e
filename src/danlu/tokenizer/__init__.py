"""Text to ids and back: vocabularies, byte-pair encoding, chat templates."""

from danlu.tokenizer.tokenizer import Rendered, Tokenizer
from danlu.tokenizer.training import TokenizerConfig, train_tokenizer

__all__ = ["Rendered", "Tokenizer", "TokenizerConfig", "train_tokenizer"]
