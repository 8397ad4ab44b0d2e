"""Pure tensor functions: attention, rotary positions, losses, sampling, quantised products."""
