"""Device and precision of a model: converts the values of the settings to those of torch and transformers."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch

from inference.engine.errors import LoadError

#: device maps that transformers computes, to spread a model over the accelerators of a machine
SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")
Quantization = Literal["none", "8bit", "4bit"]


def parse_dtype(name: str) -> Any:
    """A torch dtype, or "auto". Raises LoadError."""
    if name == "auto":
        return name
    dtype = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise LoadError(f"{name!r} is not a floating-point dtype of torch, such as bfloat16, float16 or float32.")
    return dtype


def parse_device_map(name: str) -> str | None:
    """The device map for transformers; None for the CPU. Raises LoadError."""
    if name in SPREADS:
        # Without an accelerator there is nothing to spread, and weights might still be moved to disk.
        return name if torch.accelerator.is_available() else None
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LoadError(f"device_map is {name!r}, which is not a device; use auto, cpu, cuda or cuda:1.") from error
    if device.type == "cpu":
        return None
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if here is None or here.type != device.type:
        found = "the CPU" if here is None else f"{here.type} and the CPU"
        raise LoadError(
            f"device_map is {name!r}, and torch {torch.__version__} finds no such device here, only {found}; use auto."
        )
    count = torch.accelerator.device_count()
    if device.index is not None and device.index >= count:
        raise LoadError(
            f"device_map is {name!r}, and there are {count} {device.type} devices here, counted from 0; use auto."
        )
    return name


def parse_quantization(name: str, *, placement: str | None, dtype: Any) -> Any:
    """The quantization_config for ``from_pretrained``; None for "none". Raises LoadError.

    ``placement`` and ``dtype`` are what the two functions above returned. Weights are quantized by bitsandbytes while
    they load; weights that are already quantized in the files do not need this. None also for "8bit" on a CPU, where
    ``inference/engine/int8.py`` quantizes.
    """
    if name == "none" or (name == "8bit" and placement is None):
        return None
    if name not in ("8bit", "4bit"):
        raise LoadError(f"quantization is {name!r}; use none, 8bit or 4bit.")
    if placement is None or not torch.cuda.is_available():
        raise LoadError(f"quantization is {name!r}, which needs an NVIDIA GPU, and the model would go to the CPU here.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise LoadError(
            f"quantization is {name!r}, which needs a package that is not installed: "
            "pip install -r requirements/quantization.txt"
        )
    from transformers import BitsAndBytesConfig

    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.bfloat16 if dtype == "auto" else dtype
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
