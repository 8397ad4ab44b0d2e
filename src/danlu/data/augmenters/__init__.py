"""Ways to make new training rows out of old ones, one technique a file."""
