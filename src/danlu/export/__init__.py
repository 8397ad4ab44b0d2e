"""Carrying a model out to the tools that others run: GGUF for llama.cpp."""
