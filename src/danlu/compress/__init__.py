"""Smaller and faster: quantisation, pruning, distillation."""
