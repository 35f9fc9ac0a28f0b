"""Loads a Qwen3-VL from a local folder or the model hub, and says what was loaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.engine import torchvision_compat
from inference.engine.errors import LoadError
from inference.engine.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

#: the architectures whose positions and modules the engine knows
MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")

#: ways to spread a model over the accelerators of a machine, which transformers works out
SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")

#: files up to this many bytes are hashed whole for the revision, larger ones by samples
_HASH_WHOLE_BYTES = 64 * 2**20
_SAMPLES = 32
_SAMPLE_BYTES = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to serve, with what belongs to it."""

    model: Any
    processor: Any
    tokenizer: Any
    vocabulary: Vocabulary
    #: tokens that end a generation
    eos_token_ids: tuple[int, ...]
    #: tokens of prompt and answer together
    context_length: int
    #: changes when weights, configuration, tokenizer or processor change; a resumed generation needs the same one
    revision: str
    #: of the weights, such as "bfloat16"
    dtype: str
    device: torch.device


def load_model(
    source: str,
    *,
    dtype: str = "auto",
    device_map: str = "auto",
    hf_token: str | None = None,
    trust_remote_code: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load the model in the local folder ``source``, or the one of that id on the model hub.

    ``dtype`` is a torch dtype's name or "auto" (what the configuration says); ``device_map`` is "auto" (every
    accelerator there is, else the CPU), another way to spread that transformers knows, or a device of this machine.
    ``on_progress`` is told the stage in a few words. Raises LoadError.
    """
    report = on_progress or (lambda stage: None)
    torch_dtype = _parse_dtype(dtype)
    placement = _parse_device_map(device_map)
    folder = Path(source)
    _refuse_missing_folder(source)
    local = folder.is_dir()
    if not local:
        report("downloading")
        folder = _download(source, hf_token, trust_remote_code)
    try:
        report("loading the processor")
        torchvision_compat.declare_missing_operators()
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
        from transformers.utils.logging import disable_progress_bar

        # A bar is for a terminal; the stages are told by on_progress.
        disable_progress_bar()
        common: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
        model_type = AutoConfig.from_pretrained(folder, **common).model_type
        if model_type not in MODEL_TYPES:
            raise LoadError(f"The model {source!r} is a {model_type}; this engine runs {' and '.join(MODEL_TYPES)}.")
        processor = AutoProcessor.from_pretrained(folder, **common)
        vocabulary = Vocabulary.of(processor.tokenizer)
        report("loading the weights")
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch_dtype, device_map=placement, output_loading_info=True, **common
        )
    except LoadError:
        raise
    except Exception as error:
        # Whatever a damaged file raises in the libraries below, the caller gets one kind of error.
        _log_cause("model not loaded", source, error)
        raise LoadError(
            f"The model {source!r} cannot be loaded: a file is missing, damaged or of another kind"
            f" ({type(error).__name__})."
        ) from error
    if info["missing_keys"]:
        raise LoadError(f"The weights of {source!r} are incomplete: {len(info['missing_keys'])} tensors are missing.")
    model.eval()
    report("ready")
    return LoadedModel(
        model=model,
        processor=processor,
        tokenizer=processor.tokenizer,
        vocabulary=vocabulary,
        eos_token_ids=_eos_token_ids(model, processor.tokenizer),
        context_length=int(model.config.get_text_config().max_position_embeddings),
        revision=_revision(folder) if local else folder.name,
        dtype=str(model.dtype).removeprefix("torch."),
        device=model.get_input_embeddings().weight.device,
    )


def _refuse_missing_folder(source: str) -> None:
    looks_like_path = source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source
    if Path(source).is_dir() and source:
        if not (Path(source) / "config.json").is_file():
            raise LoadError(f"The folder {source!r} holds no model: it has no config.json.")
    elif looks_like_path or not source:
        raise LoadError(f"There is no model folder {source!r}.")


def _download(source: str, token: str | None, trust_remote_code: bool) -> Path:
    """The folder of the model's newest snapshot, or of the one in the cache when the hub cannot be reached.

    All files first, then the loading: the libraries would otherwise ask the hub for each file by itself, and when it is
    down try each one again and again for minutes.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja", "*.txt", "*.safetensors"] + (["*.py"] if trust_remote_code else [])
    try:
        return Path(snapshot_download(source, token=token, allow_patterns=patterns, etag_timeout=10))
    except Exception as error:
        _log_cause("model not downloaded", source, error)
        raise LoadError(_explain_download(source, error)) from error


def _parse_dtype(name: str) -> Any:
    if name == "auto":
        return name
    dtype = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise LoadError(f"{name!r} is not a floating-point dtype of torch, such as bfloat16, float16 or float32.")
    return dtype


def _parse_device_map(name: str) -> str | None:
    """What transformers gets; None for the CPU."""
    if name in SPREADS:
        # With nothing but a CPU there is nothing to spread, and weights might still be moved to disk.
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


def _eos_token_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    ids = ids if isinstance(ids, list) else [ids]
    return tuple(int(i) for i in ids if i is not None)


def _explain_download(source: str, error: Exception) -> str:
    names = {type(e).__name__ for e in _chain(error)}
    if "GatedRepoError" in names:
        return f"The model {source!r} is gated: accept its terms on the hub and set a token that may read it."
    if names & {"RepositoryNotFoundError", "HFValidationError"}:
        return f"There is no folder {source!r} and no such model on the hub (a private one needs a token)."
    if names & {"LocalEntryNotFoundError", "OfflineModeIsEnabled"} or isinstance(error, ConnectionError):
        return f"There is no folder {source!r}, and the model hub cannot be reached to look for a model of that id."
    return f"The model {source!r} cannot be downloaded ({type(error).__name__})."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _log_cause(message: str, source: str, error: Exception) -> None:
    """One line for who runs the server, the stack for who looks closer; the LoadError has what callers may read."""
    first_line = (str(error).splitlines() or [""])[0]
    logger.warning(
        "%s: %s: %s", message, type(error).__name__, first_line, extra={"action": "model_failed", "source": source}
    )
    logger.debug("%s", message, exc_info=error, extra={"action": "model_failed", "source": source})


def _revision(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".jinja", ".txt", ".safetensors"}:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            for block in _blocks(path):
                digest.update(block)
    return digest.hexdigest()[:40]


def _blocks(path: Path) -> Iterator[bytes]:
    """The file whole, or evenly spread samples of a large one: hashing gigabytes of weights would slow every start."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASH_WHOLE_BYTES:
            yield file.read()
            return
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            yield file.read(_SAMPLE_BYTES)
