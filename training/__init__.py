"""Trains a small Qwen3-VL to read KTP specimens, or fine-tunes a released one. Needs requirements/training.txt."""
