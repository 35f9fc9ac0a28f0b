"""The engine: requests in, deltas out, all of them through one running batch."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable

import psutil
import torch

from inference.engine.arrangement import arrange
from inference.engine.batch import Batch
from inference.engine.devices import Devices
from inference.engine.errors import EngineError, EngineStopped, caused_by
from inference.engine.generation import Generation
from inference.engine.grammar import Grammars
from inference.engine.handle import Handle, HandleMaker
from inference.engine.lanes import Lane, Lanes, Work
from inference.engine.loading import LoadedModel
from inference.engine.memory import kv_budget
from inference.engine.openmp import compute_alone
from inference.engine.prompts import Prompt, PromptMaker
from inference.engine.stats import EngineStats
from inference.engine.thread_choice import ThreadChoice
from inference.engine.types import GenerationRequest

logger = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one model: a request joins the running batch after its prefill and leaves at its end.

    One thread owns the model, the cache and the batch. A forward pass is not thread-safe (the cache holds state
    between its layers, and Qwen3-VL keeps state on the module), and batching is faster than several threads taking
    turns. Other threads turn conversations into tensors meanwhile, in small steps: neither decoding nor a short prompt
    waits for a long one or for the resizing of images.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_batch_size: int,
        reserved_rows: int = 0,
        max_context_tokens: int | None = None,
        kv_cache_bytes: int | None = None,
        reuse_prefixes: bool = True,
        prefill_chunk_tokens: int | None = None,
        media_cache_bytes: int = 2**28,
        cuda_graphs: bool = True,
        compile_step: bool = False,
        torch_threads: int | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        """``max_context_tokens`` lowers the model's own limit of prompt and answer together.

        ``kv_cache_bytes`` limits the keys and values of running rows and cached prefixes together; None takes a share
        of the free memory. ``prefill_chunk_tokens`` limits the prompt tokens prefilled between two decode steps, and so
        how long the running rows wait; None is 512 on a CPU and 2,048 on a GPU. ``media_cache_bytes`` limits the cache
        of encoded images and frames. ``cuda_graphs`` replays decode steps on an NVIDIA GPU; ``compile_step`` has torch
        compile them.
        ``torch_threads`` sets torch's number of threads for the whole process. With None the engine tries on a CPU
        which number is fastest, up to torch's default (``ThreadChoice``), unless torch compiles the steps.
        ``after_step`` is called on the model thread after each pass of the model, when its deltas have been delivered.
        Raises LoadError when the model cannot be batched or no memory is left for it.
        """
        if max_batch_size - reserved_rows < 1:
            raise ValueError("max_batch_size must be at least 1, without the reserved rows")
        self._loaded = loaded
        self._max_batch_size = max_batch_size
        self._further_rows = max_batch_size - reserved_rows
        self._products = arrange(loaded.model, max_rows=max_batch_size, threads=torch_threads)
        self._budget = kv_budget(
            loaded, max_rows=max_batch_size, max_bytes=kv_cache_bytes, reuse_prefixes=reuse_prefixes
        )
        # A request is limited to what fits when it is alone, so every accepted request can run eventually.
        self._limit = min(
            loaded.context_length, max_context_tokens or loaded.context_length, self._budget.running_tokens
        )
        self._devices = Devices(loaded.model)
        self._device_name = self._devices.name
        if self._products:
            self._device_name += f", {loaded.dtype}, {self._products}"
        self._torch_threads = torch_threads
        self._after_step = after_step or (lambda: None)
        self._prompts = PromptMaker(loaded, max_context_tokens=self._limit)
        self._grammars = Grammars(loaded.tokenizer, loaded.vocabulary, loaded.eos_token_ids)
        computes_here = loaded.device.type == "cpu"
        self._preparing = Lanes("engine-prepare", on_start=compute_alone if computes_here else None)
        self._thread = threading.Thread(target=self._run, name="engine-model", daemon=True)

        # Protects the five attributes below, and wakes the model thread.
        self._changed = threading.Condition()
        self._open: set[Handle] = set()
        self._ready: collections.deque[Generation] = collections.deque()
        #: further answers, admitted when nothing else is ready
        self._ready_further: collections.deque[Generation] = collections.deque()
        self._in_preparation = 0
        self._stopping = False

        # torch compiles a step anew for each number of threads.
        may_choose = torch_threads is None and computes_here and not compile_step
        self._thread_choice = ThreadChoice(torch.get_num_threads() if may_choose else 1)
        # Used by the model thread only; other threads just read its counters.
        self._batch = Batch(
            loaded,
            max_rows=max_batch_size,
            budget=self._budget,
            chunk_tokens=prefill_chunk_tokens,
            media_cache_bytes=media_cache_bytes,
            cuda_graphs=cuda_graphs,
            compile_step=compile_step,
            threads=self._thread_choice,
        )

    def start(self) -> None:
        """Start the model thread. Requests that are submitted before are prepared already."""
        self._thread.start()

    def submit(self, request: GenerationRequest, make_handle: HandleMaker = Handle) -> Handle:
        """Submit a request; returns at once. All errors of the request are raised by iterating the handle.

        Raises EngineStopped.
        """
        handle = make_handle(self._forget, resumed_tokens=len(request.resume_ids))
        with self._changed:
            if self._stopping:
                raise EngineStopped
            self._open.add(handle)
            self._in_preparation += 1
        self._preparing.submit(self._prepare(request, handle))
        return handle

    def join(self) -> None:
        """Wait until the model thread has ended, which is at ``stop``, or when it has failed."""
        self._thread.join()

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Accept no more requests, end all handles with EngineStopped, and wait for the threads.

        Returns whether they ended in time. May be called again, and without ``start``.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._end_all_handles()
        prepared = self._preparing.stop(timeout_seconds)
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return prepared and not self._thread.is_alive()

    @property
    def max_context_tokens(self) -> int:
        """Limit of prompt and answer together."""
        return self._limit

    def stats(self) -> EngineStats:
        with self._changed:
            waiting = self._in_preparation + len(self._ready) + len(self._ready_further)
        batch = self._batch
        process = psutil.Process()
        cpu_times = process.cpu_times()
        return EngineStats(
            running=len(batch),
            max_batch_size=self._max_batch_size,
            waiting=waiting + len(batch.returned),
            generated_tokens=batch.generated_tokens,
            decode_steps=batch.decode_steps,
            prompt_tokens=batch.prompt_tokens,
            reused_tokens=batch.reused_tokens,
            media_hits=batch.media_hits,
            evictions=batch.evictions,
            cache_bytes=batch.cache_bytes,
            kept_bytes=batch.kept_bytes,
            running_tokens=batch.running_tokens,
            max_running_tokens=self._budget.running_tokens,
            device=self._device_name,
            device_bytes=self._devices.bytes_used(),
            max_device_bytes=self._devices.total_bytes,
            process_bytes=process.memory_info().rss,
            process_cpu_seconds=cpu_times.user + cpu_times.system,
        )

    # On the preparing threads

    def _prepare(self, request: GenerationRequest, handle: Handle) -> Work:
        ready = None
        try:
            for step in () if handle.closed else self._prompts.steps(request):
                if isinstance(step, Prompt):
                    if request.constraint is not None and not self._grammars.has(request.constraint):
                        yield Lane.GRAMMAR
                    ready = self._make_generation(request, step, handle)
                elif handle.closed:
                    break
                else:
                    yield step
        except EngineError as error:
            handle.finish(error)
        except Exception as error:
            logger.exception("request not prepared")
            handle.finish(caused_by(error, "The request could not be prepared."))
        finally:
            with self._changed:
                self._in_preparation -= 1
                if ready is not None and not handle.closed:
                    (self._ready_further if request.is_further else self._ready).append(ready)
                    self._changed.notify_all()

    def _make_generation(self, request: GenerationRequest, prompt: Prompt, handle: Handle) -> Generation:
        matcher = None
        if request.constraint is not None:
            matcher = self._grammars.matcher(
                request.constraint, in_thought=prompt.opens_reasoning, may_think=prompt.may_open_reasoning
            )
        generation = Generation(
            request,
            prompt,
            handle,
            vocabulary=self._loaded.vocabulary,
            eos_token_ids=self._loaded.eos_token_ids,
            max_context_tokens=self._limit,
            matcher=matcher,
            bad_words=self._prompts.spellings(request.sampling.bad_words),
        )
        # The previous attempt may have generated the last token and died before it committed the end.
        generation.finish_if_ended()
        return generation

    # On any thread

    def _forget(self, handle: Handle) -> None:
        with self._changed:
            self._open.discard(handle)
            for queue in (self._ready, self._ready_further):
                for generation in [item for item in queue if item.handle is handle]:
                    queue.remove(generation)

    def _end_all_handles(self) -> None:
        with self._changed:
            handles = list(self._open)
        for handle in handles:
            handle.finish(EngineStopped())

    # On the model thread

    def _run(self) -> None:
        if self._torch_threads is not None:
            torch.set_num_threads(self._torch_threads)
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    self._batch.drop_closed()
                    self._admit()
                    self._batch.prefill()
                    self._after_step()
                    self._batch.decode()
                    self._after_step()
        except Exception:
            logger.exception("model thread failed")
        finally:
            with self._changed:
                self._stopping = True
            self._end_all_handles()
            self._batch.release()
            self._thread_choice.use_all()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._stopping or self._batch or self._batch.returned or self._ready or self._ready_further):
                self._changed.wait()
            return not self._stopping

    def _admit(self) -> None:
        """Admit waiting generations in order; the first that does not fit blocks the rest."""
        with self._changed:
            for queue, rows in (
                (self._batch.returned, self._max_batch_size),
                (self._ready, self._max_batch_size),
                (self._ready_further, self._further_rows),
            ):
                while queue and len(self._batch) < rows:
                    if queue[0].handle.closed:
                        queue.popleft()
                    elif self._batch.has_room_for(queue[0]):
                        self._batch.admit(queue.popleft())
                    else:
                        return
                if queue:
                    return
