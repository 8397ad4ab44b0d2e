"""One engine for every generation."""
