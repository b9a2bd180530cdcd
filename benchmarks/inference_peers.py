"""What generation is measured against: Hugging Face `generate` and llama.cpp's server, on the weights of our model."""

import concurrent.futures
import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.stages.model import ModelHandle
from humpback_jax.weights.convert import export_weights

Prompts = list[tuple[str, tuple[int, ...]]]
SAMPLING = SamplingConfig(0.7, 0.9)
START_SECONDS = 120  # for the server to load a model


class HuggingFace:
    """Hugging Face `generate`: static batches, padded on the left."""

    def __init__(self, model: ModelHandle, dtype: str = "float32") -> None:
        """Loads the weights in `dtype`, onto the GPU where torch sees one."""
        import torch
        import transformers

        self.torch, self.device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        self.stop_ids = list(model.stop_ids)
        with tempfile.TemporaryDirectory() as folder:
            export_weights(model.path, folder + "/hf")
            weights = transformers.AutoModelForCausalLM.from_pretrained(folder + "/hf", dtype=getattr(torch, dtype))
        self.model = weights.eval().to(self.device)

    def generate(
        self, prompts: Prompts, batch_size: int, new_tokens: int, ordered: bool, documents: int, turn: float = 0.5
    ) -> dict[str, float]:
        """Rates at one batch size, over prompts sorted by length or as they come.

        All prompts are dealt into batches; evenly spaced ones, about `documents` prompts, are run and stand for all.
        `turn`, from 0 to 1, shifts which.
        """
        chosen = sorted((ids for _, ids in prompts), key=len) if ordered else [ids for _, ids in prompts]
        batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        count = min(len(batches), max(1, round(documents / batch_size)))
        spaced = [batches[int((i + turn) * len(batches) / count)] for i in range(count)]
        self._batch(chosen[:1], 2)
        started = time.perf_counter()
        tokens = sum(self._batch(batch, new_tokens) for batch in spaced)
        return {"batch_size": batch_size} | figures([ids for batch in spaced for ids in batch], tokens, started)

    def _batch(self, batch: Sequence[Sequence[int]], new_tokens: int) -> int:
        torch, pad, width = self.torch, self.stop_ids[0], max(map(len, batch))
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in batch], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=self.device)
        with torch.no_grad():
            out = self.model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=SAMPLING.temperature,
                top_p=SAMPLING.top_p,
                top_k=0,
                max_new_tokens=new_tokens,
                eos_token_id=self.stop_ids,
                pad_token_id=pad,
            )
        written = out[:, width:]
        return int(torch.stack([written != stop for stop in self.stop_ids]).all(0).sum())


class LlamaServer(contextlib.AbstractContextManager):
    """llama.cpp's `llama-server`: continuous batching over `slots` requests, weights and caches in float32."""

    def __init__(self, model: ModelHandle, llama_cpp: pathlib.Path, slots: int, row_tokens: int) -> None:
        """Converts the model and starts the server.

        Args:
          model: native model.
          llama_cpp: llama.cpp's sources, with `build/bin/llama-server` in them.
          slots: requests at a time.
          row_tokens: longest prompt and what is written after it.
        """
        self.slots = slots
        self.folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.folder.name)
        export_weights(model.path, path / "hf")
        convert = [sys.executable, str(llama_cpp / "convert_hf_to_gguf.py"), str(path / "hf"), "--outtype", "f32"]
        subprocess.run([*convert, "--outfile", str(path / "model.gguf")], check=True, stdout=sys.stderr)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        options = {"--parallel": slots, "--ctx-size": slots * row_tokens, "--cache-type-k": "f32"}
        options |= {"--cache-type-v": "f32", "--port": port, "--cache-ram": 0}
        command = [str(llama_cpp / "build/bin/llama-server"), "--model", str(path / "model.gguf"), "--no-webui"]
        command += [str(part) for option in options.items() for part in option]
        self.log = path / "server.log"
        with self.log.open("w") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def __exit__(self, *_: Any) -> None:
        self.server.terminate()
        self.server.wait()
        self.folder.cleanup()

    def generate(self, prompts: Prompts, new_tokens: int, documents: int, turn: float = 0.5) -> dict[str, float]:
        """Rates over `documents` evenly spaced prompts of those sorted by length; `turn` shifts which."""
        chosen = sorted((ids for _, ids in prompts), key=len)
        count = min(len(chosen), documents)
        spaced = [chosen[int((i + turn) * len(chosen) / count)] for i in range(count)]
        self._complete(chosen[0], 2)
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(2 * self.slots) as waiting:
            tokens = sum(waiting.map(lambda ids: self._complete(ids, new_tokens), spaced))
        return {"slots": self.slots} | figures(spaced, tokens, started)

    def _complete(self, ids: Sequence[int], new_tokens: int) -> int:
        """Tokens written after one prompt; the model's own end tokens stop it."""
        settings = {"temperature": SAMPLING.temperature, "top_p": SAMPLING.top_p, "top_k": 0, "min_p": 0.0}
        asked = {"prompt": list(ids), "n_predict": new_tokens, "samplers": ["top_p", "temperature"], **settings}
        request = urllib.request.Request(self.address + "/completion", json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            told = json.load(answer)
        if told["tokens_evaluated"] != len(ids):
            raise RuntimeError(f"llama-server read {told['tokens_evaluated']} tokens of a prompt of {len(ids)}")
        return int(told["tokens_predicted"])

    def _wait(self) -> None:
        """Until the server has loaded the model."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.address + "/health"):
                    return
            except OSError:
                if self.server.poll() is not None or time.monotonic() > deadline:
                    self.server.kill()
                    log = self.log.read_text()[-2000:]
                    raise RuntimeError(f"llama-server did not start:\n{log}") from None
                time.sleep(0.2)


def figures(prompts: Sequence[Sequence[int]], new_tokens: int, started: float) -> dict[str, float]:
    """What was run since `started`."""
    return {
        "documents": len(prompts),
        "prompt_tokens": sum(map(len, prompts)),
        "seconds": time.perf_counter() - started,
        "new_tokens": new_tokens,
    }
