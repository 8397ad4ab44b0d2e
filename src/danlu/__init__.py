"""danlu 丹炉: the whole life of a language model, on your own machine."""

__all__ = ["__version__"]

__version__ = "0.1.0"
