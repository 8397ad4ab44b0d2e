"""Blocks and model families, with Hugging Face parameter names."""
