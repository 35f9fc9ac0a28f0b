"""Downloads a model's files from the hub, and explains what went wrong if that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inference.engine.errors import LoadError
from inference.engine.progress import Listener, bytes_bar


def download(source: str, *, token: str | None, trust_remote_code: bool, listener: Listener) -> Path:
    """The folder of the model's newest snapshot, or of the one in the cache when the hub cannot be reached.

    All files are downloaded before loading: the libraries would otherwise ask the hub for each file separately and,
    when it is down, retry each one for minutes. Raises LoadError, with the exception of the libraries as its cause.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja", "*.txt", "*.safetensors"] + (["*.py"] if trust_remote_code else [])
    try:
        return Path(
            snapshot_download(
                source,
                token=token,
                allow_patterns=patterns,
                etag_timeout=10,
                tqdm_class=bytes_bar("downloading", listener),
            )
        )
    except Exception as error:
        raise LoadError(_explain(source, error)) from error


def _explain(source: str, error: Exception) -> str:
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
