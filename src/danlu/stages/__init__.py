"""Pre-training and instruction tuning: what fills the slots of the loop."""
