"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse

MAX_PORT = 65_535


def port_number(text: str) -> int:
    """A port, as ``type=`` of argparse; 0 lets the system choose."""
    if text.isascii() and text.isdigit() and int(text) <= MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be from 0 to {MAX_PORT}; it is {text}.")
