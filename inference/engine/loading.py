"""Loads a Qwen3-VL or a text-only model from a local folder or the model hub, and describes what was loaded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.engine import torchvision_compat
from inference.engine.arrangement import quantize
from inference.engine.cpu_dtype import dtype_beside_bytes, fastest_dtype
from inference.engine.download import download
from inference.engine.errors import LoadError
from inference.engine.placement import parse_device_map, parse_dtype, parse_quantization
from inference.engine.progress import Listener, Progress, weights_counted
from inference.engine.revision import revision_of
from inference.engine.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

#: the architectures with images and video that the engine supports
MEDIA_MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")

LOADING_WEIGHTS = "loading the weights"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to serve, with its processor, tokenizer and limits."""

    model: Any
    #: None for a text-only model
    processor: Any
    tokenizer: Any
    vocabulary: Vocabulary
    #: whether it takes images and videos, and has positions in three dimensions
    has_media: bool
    #: tokens that end a generation
    eos_token_ids: tuple[int, ...]
    #: tokens of prompt and answer together
    context_length: int
    #: changes with weights, configuration, tokenizer and processor; a resumed generation needs the same revision
    revision: str
    #: dtype of the weights, such as "bfloat16"
    dtype: str
    #: how the weights were quantized while they loaded: "none", "8bit" or "4bit"
    quantization: str
    device: torch.device


def load_model(
    source: str,
    *,
    dtype: str = "auto",
    device_map: str = "auto",
    quantization: str = "none",
    hf_token: str | None = None,
    trust_remote_code: bool = False,
    torch_threads: int | None = None,
    choices_folder: Path | None = None,
    on_progress: Listener | None = None,
) -> LoadedModel:
    """Load the model in the local folder ``source``, or the one of that id on the model hub.

    ``dtype`` is a torch dtype's name or "auto" (what the configuration says; on a CPU float32 where that is faster);
    ``device_map`` is "auto" (every available accelerator, else the CPU), another distribution that transformers
    supports, or a device of this machine; ``quantization`` is "none", "8bit" or "4bit". ``torch_threads`` is the number
    that torch will have, if not its own default. In ``choices_folder`` the dtype that was measured is kept for the next
    start. ``on_progress`` is called for each stage, and for every percent of the
    long ones. Raises LoadError.
    """
    listener = on_progress or (lambda progress: None)
    torch_dtype = parse_dtype(dtype)
    placement = parse_device_map(device_map)
    quantization_config = parse_quantization(quantization, placement=placement, dtype=torch_dtype)
    folder = Path(source)
    _refuse_missing_folder(source)
    local = folder.is_dir()
    if not local:
        listener(Progress("downloading"))
        try:
            folder = download(source, token=hf_token, trust_remote_code=trust_remote_code, listener=listener)
        except LoadError as error:
            _log_cause("model not downloaded", error.__cause__ or error)
            raise
    try:
        listener(Progress("loading the processor"))
        torchvision_compat.declare_missing_operators()
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
        from transformers.utils.logging import disable_progress_bar

        # Bars are for terminals; ``on_progress`` reports the stages.
        disable_progress_bar()
        common: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
        config = AutoConfig.from_pretrained(folder, **common)
        has_media = config.model_type in MEDIA_MODEL_TYPES
        if not has_media and not _is_text_model(config, trust_remote_code=trust_remote_code):
            raise LoadError(
                f"The model {source!r} is a {config.model_type}; this engine runs {' and '.join(MEDIA_MODEL_TYPES)},"
                " and causal models of text alone."
            )
        processor, tokenizer = _read_processor(folder, source, has_media=has_media, common=common)
        vocabulary = Vocabulary.of(tokenizer)
        auto_model = AutoModelForImageTextToText if has_media else AutoModelForCausalLM
        revision = revision_of(folder) if local else folder.name
        to_bytes = quantization == "8bit" and placement is None
        stored = _stored_dtype(config)
        if placement is None and torch_dtype == "auto" and stored is not None:
            with torch.device("meta"):
                empty = auto_model.from_config(config, trust_remote_code=trust_remote_code)
            if to_bytes:
                torch_dtype = dtype_beside_bytes(empty, stored)
            else:
                listener(Progress("choosing the dtype"))
                torch_dtype = fastest_dtype(
                    empty, stored, threads=torch_threads, revision=revision, kept_in=choices_folder
                )
        # No weight is converted to a longer dtype that then becomes a byte.
        stored_dtype = "auto" if to_bytes else torch_dtype
        listener(Progress(LOADING_WEIGHTS))
        if quantization_config is not None:
            common["quantization_config"] = quantization_config
        with weights_counted(LOADING_WEIGHTS, listener), _unmapped_files(placement):
            model, info = auto_model.from_pretrained(
                folder, dtype=stored_dtype, device_map=placement, output_loading_info=True, **common
            )
    except LoadError:
        raise
    except Exception as error:
        # A damaged file may raise anything in the libraries; the caller gets one kind of error.
        _log_cause("model not loaded", error)
        raise LoadError(
            f"The model {source!r} cannot be loaded: a file is missing, damaged or of another kind"
            f" ({type(error).__name__})."
        ) from error
    if info["missing_keys"]:
        raise LoadError(f"The weights of {source!r} are incomplete: {len(info['missing_keys'])} tensors are missing.")
    if getattr(model, "_is_stateful", False):
        # Its state cannot be reset to an earlier token, or moved to another row of the batch.
        raise LoadError(f"The model {source!r} is a {config.model_type}, which keeps no cache of keys and values.")
    model.eval()
    if to_bytes:
        listener(Progress("rounding the weights to bytes"))
        quantize(model)
        if torch_dtype != "auto":
            _convert_parameters(model, torch_dtype)
    listener(Progress("ready"))
    return LoadedModel(
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        has_media=has_media,
        eos_token_ids=_eos_token_ids(model, tokenizer),
        context_length=_context_length(model, source),
        revision=revision,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=quantization,
        device=model.get_input_embeddings().weight.device,
    )


def _stored_dtype(config: Any) -> torch.dtype | None:
    """The dtype of the weights in the files; None when the configuration does not say, and for quantized weights."""
    if getattr(config, "quantization_config", None) is not None:
        return None
    return getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)


def _convert_parameters(model: Any, dtype: torch.dtype) -> None:
    """Convert the parameters of ``model``, and not its buffers as ``model.to`` would.

    The frequencies of positions are buffers in float32, and rounded ones give wrong angles at late positions.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


@contextlib.contextmanager
def _unmapped_files(placement: str | None) -> Iterator[None]:
    """Have transformers read the files of weights for a CPU, tensor by tensor.

    It would map them, and the mapped pages count as memory of this process until the last tensor is converted.
    """
    from transformers import modeling_utils

    original = getattr(modeling_utils, "safe_open", None)
    if placement is not None or original is None:
        yield
        return

    def open_unmapped(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "backend": "pread"})

    modeling_utils.safe_open = open_unmapped
    try:
        yield
    finally:
        modeling_utils.safe_open = original


def _refuse_missing_folder(source: str) -> None:
    looks_like_path = source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source
    if Path(source).is_dir() and source:
        if not (Path(source) / "config.json").is_file():
            raise LoadError(f"The folder {source!r} holds no model: it has no config.json.")
    elif looks_like_path or not source:
        raise LoadError(f"There is no model folder {source!r}.")


def _is_text_model(config: Any, *, trust_remote_code: bool) -> bool:
    """Whether it is a text-only decoder."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    )

    if config.model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES or getattr(config, "is_encoder_decoder", False):
        return False
    brings_its_own = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    return brings_its_own or config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _read_processor(folder: Path, source: str, *, has_media: bool, common: dict[str, Any]) -> tuple[Any, Any]:
    """The processor, None for a text-only model, and the tokenizer."""
    from transformers import AutoProcessor, AutoTokenizer

    if has_media:
        processor = AutoProcessor.from_pretrained(folder, **common)
        return processor, processor.tokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder, **common)
    if not tokenizer.chat_template:
        raise LoadError(f"The model {source!r} has no chat template: it was not made for conversations.")
    return None, tokenizer


def _eos_token_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    ids = ids if isinstance(ids, list) else [ids]
    return tuple(int(i) for i in ids if i is not None)


def _context_length(model: Any, source: str) -> int:
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not length:
        raise LoadError(f"The configuration of {source!r} does not say how many tokens its context holds.")
    return int(length)


def _log_cause(message: str, error: BaseException) -> None:
    """Log one line, and the traceback at debug level. The LoadError has what callers may read."""
    first_line = (str(error).splitlines() or [""])[0]
    logger.warning("%s: %s: %s", message, type(error).__name__, first_line)
    logger.debug("%s", message, exc_info=error)
