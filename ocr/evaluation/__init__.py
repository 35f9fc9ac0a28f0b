"""Measure how well cards are read, with intervals, on labelled pictures. Run by ``manage.py evaluate_ktp``."""
