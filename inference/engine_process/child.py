"""What runs in the process of an engine: it loads the model and generates, until the worker closes the socket or ends.

The main thread receives messages. The model thread sends after each step. Another thread sends between the steps.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.engine.errors import EngineError, EngineStopped, LoadError
from inference.engine.handle import Handle
from inference.engine.start import start_engine
from inference.engine.types import Delta, Finish, GenerationRequest
from inference.engine_process import messages
from inference.engine_process.outbox import Outbox

logger = logging.getLogger(__name__)


def serve(descriptor: int) -> None:
    """Serve the worker at the other end of this socket, and end the process."""
    status = 0
    try:
        EngineServer(Connection(descriptor)).serve()
    except (EOFError, OSError):
        pass  # The worker has closed the socket.
    except Exception:
        status = 1
        traceback.print_exc()  # The connection may no longer carry log records.
    finally:
        # Without waiting for threads: a step or a download may take long, and its result is for nobody.
        os._exit(status)


class EngineServer:
    """Does what the messages of one connection say."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._outbox = Outbox(connection, on_broken=lambda: os._exit(1))
        self._engine: Engine | None = None
        #: number → generation that has not ended
        self._open: dict[int, Handle] = {}

    def serve(self) -> None:
        """Never returns; raises EOFError or OSError when the worker has closed the connection."""
        [start, *rest] = messages.receive(self._connection)
        self._outbox.start()
        _send_logs(self._outbox, start.log_levels)
        # In a thread that ends, so that its OpenMP helpers end too, see ``inference.engine.openmp``.
        threading.Thread(target=self._load, args=(start.config,), name="model-loading", daemon=True).start()
        while True:
            for message in rest:
                self._take(message)
            rest = messages.receive(self._connection)

    def _take(self, message: object) -> None:
        match message:
            case messages.Submit(number, request):
                self._submit(number, request)
            case messages.Cancel(number):
                # It may have ended meanwhile.
                if handle := self._open.get(number):
                    handle.cancel()
            case messages.AskStats():
                self._outbox.put(messages.Stats(self._loaded.stats()))

    @property
    def _loaded(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the worker did not wait for the model")
        return self._engine

    def _submit(self, number: int, request: GenerationRequest) -> None:
        def make_handle(on_close: Callable[[Handle], None], /, *, resumed_tokens: int) -> Handle:
            return _SentHandle(number, self._outbox, self._open, on_close, resumed_tokens=resumed_tokens)

        with contextlib.suppress(EngineStopped):  # The model thread has failed, and the process is about to end.
            self._loaded.submit(request, make_handle)

    def _load(self, config: EngineConfig) -> None:
        try:
            facts, self._engine = start_engine(
                config, lambda progress: self._outbox.put(messages.Loading(progress)), after_step=self._outbox.flush
            )
        except EngineError as error:
            self._end(messages.LoadFailed(error))
        except Exception:
            logger.exception("the model could not be loaded")
            self._end(messages.LoadFailed(LoadError("an unexpected error; the log has the details")))
        else:
            # A full collection scans every object of torch and the model, and pauses all threads for 250 ms. Freeze
            # these objects: they live as long as the process.
            gc.collect()
            gc.freeze()
            threading.Thread(target=self._end_with, args=(self._engine,), name="engine-watch", daemon=True).start()
            self._outbox.put(messages.Ready(facts, self._engine.stats()))

    def _end_with(self, engine: Engine) -> None:
        """End the process when the model thread has failed, which is logged already."""
        engine.join()
        self._end()

    def _end(self, *last: object) -> None:
        """Send these after all others, and end the process."""
        for message in last:
            self._outbox.put(message)
        self._outbox.flush()
        os._exit(1)


class _SentHandle(Handle):
    """The engine's side of a generation: what it is given goes to the worker, which has a handle of the same number."""

    def __init__(
        self,
        number: int,
        outbox: Outbox,
        opened: dict[int, Handle],
        on_close: Callable[[Handle], None],
        *,
        resumed_tokens: int,
    ) -> None:
        super().__init__(on_close, resumed_tokens=resumed_tokens)
        self._number = number
        self._outbox = outbox
        self._opened = opened
        opened[number] = self

    def prepared(self, *, prompt_tokens: int, reasoning_tokens: int) -> None:
        super().prepared(prompt_tokens=prompt_tokens, reasoning_tokens=reasoning_tokens)
        self._outbox.put(messages.Prepared(self._number, prompt_tokens, reasoning_tokens))

    def put(self, delta: Delta, *, reasoning_tokens: int) -> None:
        if not self.closed:
            self._outbox.put(messages.Added(self._number, delta, reasoning_tokens))

    def _close(self, item: Finish | EngineError) -> None:
        self._closed = True
        self._opened.pop(self._number, None)
        if isinstance(item, EngineStopped):
            return  # The model thread has failed, and the process is about to end: for the worker, the engine is lost.
        cause = item.__cause__ if isinstance(item, EngineError) else None
        self._outbox.put(messages.Ended(self._number, item, _traceback_of(cause)))


class _LogSender(logging.Handler):
    """Passes log records to the worker."""

    #: the attributes that are sent; arguments, exception and ``extra`` are not
    SENT = ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs")

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        try:
            attributes = {name: getattr(record, name) for name in self.SENT}
            error = record.exc_info[1] if record.exc_info else None
            self._outbox.put(messages.Logged(attributes | {"msg": record.getMessage()}, _traceback_of(error)))
        except Exception:
            self.handleError(record)


def _send_logs(outbox: Outbox, levels: dict[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(_LogSender(outbox))


def _traceback_of(error: BaseException | None) -> str:
    return "" if error is None else "".join(traceback.format_exception(error))
