"""The roadmap, its lessons, exercises and checks."""
