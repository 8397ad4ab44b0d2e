"""Prompt and score: the same object evaluates and rewards."""
