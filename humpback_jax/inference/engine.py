"""The offline engine: requests in, completions out, in static batches per length bucket.

A request's text depends on its own prompt, seed and id, and on the compiled shapes; never on its neighbours, on its
place in the batch, or on the order of requests.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from humpback_jax.inference.decode import (
    Generated,
    RowSampling,
    candidate_log_probs,
    generate_batch,
    probe_batch,
    token_log_probs,
)
from humpback_jax.inference.sampling import SamplingConfig, request_keys, request_number
from humpback_jax.models.llama import Llama, abstract_params, logical_specs
from humpback_jax.partitioning import (
    LogicalAxisRules,
    MeshShape,
    batch_sharding,
    make_mesh,
    put_global,
    shardings,
    use_mesh,
)

ReportProgress = Callable[[int], None]
PROBE_ROOM = 16  # forced tokens of a probe, the last written one included


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """Shapes of the compiled programs.

    Attributes:
      batch_size: rows per call.
      prompt_buckets: prompt lengths to pad to, ascending; one program each. The last is the longest prompt accepted.
      max_new_tokens: room for new tokens in every row; a request may ask for fewer.
      tensor_parallelism: local devices that share one copy of the weights.
    """

    batch_size: int = 16
    prompt_buckets: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    max_new_tokens: int = 256
    tensor_parallelism: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not self.prompt_buckets or list(self.prompt_buckets) != sorted(self.prompt_buckets):
            raise ValueError(f"{self}: batch_size must be positive and prompt_buckets ascending and not empty")

    @property
    def max_prompt_length(self) -> int:
        """Longest prompt in tokens."""
        return self.prompt_buckets[-1]


@dataclasses.dataclass(frozen=True)
class Request:
    """One prompt to complete; `id` is unique in its job and, with the seed, decides the random draws."""

    id: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingConfig = SamplingConfig()


@dataclasses.dataclass(frozen=True)
class Completion:
    """Tokens written for a request, without the stop token; `truncated` means the limit ended it, not the model."""

    id: str
    token_ids: tuple[int, ...]
    truncated: bool
    probe_log_probs: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question about a completion: if `forced_ids` came next, how likely would each candidate be after them?"""

    forced_ids: tuple[int, ...]
    candidate_ids: tuple[int, ...]


class Engine:
    """Generation and scoring with one model on this host's devices."""

    def __init__(
        self,
        model: Llama,
        load_params: Callable[[dict], dict],
        config: EngineConfig,
        rules: LogicalAxisRules | None = None,
    ) -> None:
        """`load_params` is called with the parameter shardings and returns the parameters placed accordingly."""
        self.model, self.config, self.rules = model, config, rules or LogicalAxisRules()
        shape = MeshShape(data=-1, fsdp=1, tensor=config.tensor_parallelism)
        self.mesh = make_mesh(shape, jax.local_devices())
        if config.batch_size % self.mesh.shape["data"]:
            raise ValueError(
                f"batch_size={config.batch_size} is not divisible by this host's {self.mesh.shape['data']} replicas"
            )
        # CPU compilers widen a whole bfloat16 cache to float32 for every token written into it.
        self.cache_dtype = jnp.float32 if jax.default_backend() == "cpu" else model.dtype
        self.params = load_params(shardings(self.mesh, self.rules, logical_specs(model), abstract_params(model)))

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        stop_ids: Sequence[int],
        progress: ReportProgress | None = None,
        probe: Callable[[Completion], Probe | None] | None = None,
    ) -> list[Completion]:
        """Completes every request, in the order given.

        `probe` looks at each completion; the answer to its question comes from the cache that wrote the completion, at
        the cost of one short step, and stands in `probe_log_probs`.

        Raises:
          ValueError: duplicate ids, an empty prompt, a prompt longer than the largest bucket, or a limit above the
            engine's (the id is named).
          FloatingPointError: the model produced a logit that is not a number (the id is named).
        """
        _check_unique([request.id for request in requests])
        for request in requests:
            if not 1 <= request.max_new_tokens <= self.config.max_new_tokens:
                raise ValueError(
                    f"request {request.id!r} asks for {request.max_new_tokens} new tokens; the engine has room for "
                    f"1 to {self.config.max_new_tokens} (EngineConfig.max_new_tokens)"
                )
        completions: dict[str, Completion] = {}
        for batch in self._batches([(request.id, request.prompt_ids) for request in requests]):
            rows = [requests[i] for i in batch.indices]
            for completion in self._generate_rows(batch, rows, seed, stop_ids, probe):
                completions[completion.id] = completion
            if progress is not None:
                progress(len(rows))
        return [completions[request.id] for request in requests]

    def _generate_rows(
        self,
        batch: "_Batch",
        rows: Sequence[Request],
        seed: int,
        stop_ids: Sequence[int],
        probe: Callable[[Completion], Probe | None] | None,
    ) -> list[Completion]:
        with use_mesh(self.mesh, self.rules):
            generated, kv_cache = generate_batch(
                self.model,
                self.params,
                self._put(batch.tokens),
                self._put(batch.lengths),
                self._put(np.arange(self.config.batch_size) >= len(rows)),
                self._row_sampling(rows, seed),
                np.asarray(stop_ids, np.int32),
                self.config.max_new_tokens,
                0 if probe is None else PROBE_ROOM,
                self.cache_dtype,
            )
        completions = _read_completions(jax.device_get(generated), rows)
        if probe is None:
            return completions
        probes = [probe(completion) for completion in completions]
        if not any(probes):
            return completions
        tokens, lengths, starts, candidates = self._probe_arrays(batch, completions, probes)
        with use_mesh(self.mesh, self.rules):
            log_probs = probe_batch(
                self.model,
                self.params,
                kv_cache,
                self._put(tokens),
                self._put(starts),
                self._put(lengths),
                self._put(candidates),
            )
        read = np.asarray(log_probs).tolist()
        return [
            completion if question is None else dataclasses.replace(completion, probe_log_probs=tuple(read[row]))
            for row, (completion, question) in enumerate(zip(completions, probes, strict=True))
        ]

    def _probe_arrays(
        self, batch: "_Batch", completions: Sequence[Completion], probes: Sequence[Probe | None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """tokens [batch, PROBE_ROOM], lengths, starts [batch] and candidates [batch, c] of `probe_batch`.

        The last written token is fed again: the decode loop has drawn it but not always read it.
        """
        size = self.config.batch_size
        width = max(len(probe.candidate_ids) for probe in probes if probe is not None)
        tokens, candidates = np.zeros((size, PROBE_ROOM), np.int32), np.zeros((size, width), np.int32)
        lengths, starts = np.ones(size, np.int32), batch.lengths - 1
        for row, (completion, probe) in enumerate(zip(completions, probes, strict=True)):
            if probe is None:
                continue
            written = (*batch.tokens[row, : batch.lengths[row]].tolist(), *completion.token_ids)
            ids = (written[-1], *probe.forced_ids)
            if len(ids) > PROBE_ROOM:
                raise ValueError(
                    f"request {completion.id!r}: a probe of {len(probe.forced_ids)} tokens; {PROBE_ROOM - 1} fit"
                )
            tokens[row, : len(ids)], lengths[row], starts[row] = ids, len(ids), len(written) - 1
            candidates[row] = probe.candidate_ids
        return tokens, lengths, starts, candidates

    def candidate_log_probs(
        self,
        prompts: Sequence[tuple[str, Sequence[int]]],
        candidates: Sequence[Sequence[int]],
        progress: ReportProgress | None = None,
    ) -> np.ndarray:
        """Log-probabilities of candidate next tokens: (id, prompt ids) and ids [n, c] to float32 [n, c]."""
        result = np.zeros((len(prompts), len(candidates[0]) if candidates else 0), np.float32)
        for batch in self._batches(prompts):
            rows = np.zeros((self.config.batch_size, result.shape[1]), np.int32)
            rows[: len(batch.indices)] = np.asarray([candidates[i] for i in batch.indices], np.int32)
            with use_mesh(self.mesh, self.rules):
                values = candidate_log_probs(
                    self.model, self.params, self._put(batch.tokens), self._put(batch.lengths), self._put(rows)
                )
            result[batch.indices] = np.asarray(values)[: len(batch.indices)]
            if progress is not None:
                progress(len(batch.indices))
        return result

    def log_likelihoods(
        self, pairs: Sequence[tuple[str, Sequence[int], Sequence[int]]], progress: ReportProgress | None = None
    ) -> np.ndarray:
        """Sum of log-probabilities of each continuation: (id, prompt ids, continuation ids) to float64 [n]."""
        result = np.zeros(len(pairs), np.float64)
        for batch in self._batches([(name, (*prompt, *answer)) for name, prompt, answer in pairs]):
            with use_mesh(self.mesh, self.rules):
                values = np.asarray(token_log_probs(self.model, self.params, self._put(batch.tokens)), np.float64)
            for row, i in enumerate(batch.indices):
                _, prompt, answer = pairs[i]
                start = len(prompt) - 1
                result[i] = values[row, start : start + len(answer)].sum()
            if progress is not None:
                progress(len(batch.indices))
        return result

    def _row_sampling(self, requests: Sequence[Request], seed: int) -> RowSampling:
        empty = self.config.batch_size - len(requests)
        numbers = np.asarray([request_number(request.id) for request in requests] + [0] * empty, np.uint32)
        settings = [request.sampling for request in requests] + [SamplingConfig(temperature=0.0)] * empty
        return RowSampling(
            keys=request_keys(seed, numbers),
            temperature=self._put(np.asarray([s.temperature for s in settings], np.float32)),
            top_p=self._put(np.asarray([s.top_p for s in settings], np.float32)),
            max_new_tokens=self._put(
                np.asarray([request.max_new_tokens for request in requests] + [0] * empty, np.int32)
            ),
        )

    def _put(self, array: np.ndarray) -> jax.Array:
        names = ("activation_batch",) + (None,) * (array.ndim - 1)
        return put_global(array, batch_sharding(self.mesh, self.rules, names))

    def _batches(self, prompts: Sequence[tuple[str, Sequence[int]]]) -> Iterator["_Batch"]:
        """Batches of equal bucket; empty rows hold one padding token."""
        by_bucket: dict[int, list[int]] = {}
        for i, (name, ids) in enumerate(prompts):
            by_bucket.setdefault(self._bucket(name, len(ids)), []).append(i)
        size = self.config.batch_size
        for bucket, members in sorted(by_bucket.items()):
            for start in range(0, len(members), size):
                indices = members[start : start + size]
                tokens, lengths = np.zeros((size, bucket), np.int32), np.ones(size, np.int32)
                for row, i in enumerate(indices):
                    ids = prompts[i][1]
                    tokens[row, : len(ids)], lengths[row] = ids, len(ids)
                yield _Batch(tokens, lengths, indices)

    def _bucket(self, name: str, length: int) -> int:
        if length == 0:
            raise ValueError(f"request {name!r} has an empty prompt; every prompt needs at least one token")
        for bucket in self.config.prompt_buckets:
            if length <= bucket:
                return bucket
        raise ValueError(
            f"request {name!r} has a prompt of {length} tokens, but the longest bucket holds "
            f"{self.config.max_prompt_length}; raise EngineConfig.prompt_buckets or drop the request"
        )


@dataclasses.dataclass(frozen=True)
class _Batch:
    tokens: np.ndarray  # int32 [batch, bucket]
    lengths: np.ndarray  # int32 [batch]
    indices: list[int]  # of the requests in the first rows


def _read_completions(generated: Generated, rows: Sequence[Request]) -> list[Completion]:
    completions = []
    for row, request in enumerate(rows):
        if not generated.finite[row]:
            raise FloatingPointError(
                f"request {request.id!r}: the model produced logits that are not numbers; check its weights with "
                "`humpback weights verify`"
            )
        ids = tuple(generated.output[row, : generated.counts[row]].tolist())
        completions.append(Completion(request.id, ids, truncated=not generated.stopped[row]))
    return completions


def _check_unique(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValueError(f"two requests have the id {name!r}; ids decide the random draws and must be unique")
        seen.add(name)
