"""Training steps beside MaxText's: same model, slice, rows and compiler, both compiled ahead of time, no TPU needed.

    python benchmarks/beside_maxtext.py --maxtext_python maxtext/bin/python [--model llama_7b] [--slice v5e-16] [--json]

MaxText 0.2.5 wants an environment of its own (docs/slices.md has the lines that make one, with the libtpu of this one).
Its own `train_compile` compiles the step; memory and cycles of both programs are read in the same way. MaxText is
compiled twice, as it comes and with weights gathered whole, and the better of both counts for each figure.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODELS = {"llama_7b": "llama2-7b", "llama_13b": "llama2-13b", "llama2_70b": "llama2-70b"}  # the same shapes
GATHERED_WHOLE = "--xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000"
ANSWER = "maxtext answers: "


def compile_maxtext(settings: list[str]) -> None:
    """Runs in MaxText's environment: its train_compile, whose compiled step is looked at where it would be saved."""
    import jax
    import jax.experimental.xla_metadata as xla_metadata

    if not hasattr(xla_metadata, "must_fuse_call"):  # newer than this jax; used by a kernel that is not called here
        xla_metadata.must_fuse_call = lambda *_, **__: lambda function: function
    import maxtext
    from maxtext.trainers.pre_train import train_compile
    from maxtext.utils import max_utils

    from humpback_jax.topology.hlo import hlo_cost

    def look(
        step: Any, arguments: Any, keywords: Any, mesh: Any, in_shardings: Any, out_shardings: Any, *rest: Any
    ) -> None:
        static, donated, config, rules = rest
        with jax.set_mesh(mesh), mesh, rules:
            jitted = jax.jit(
                step,
                in_shardings=in_shardings,
                out_shardings=out_shardings,
                static_argnums=static,
                donate_argnums=donated,
            )
            lowered = jitted.lower(*arguments, **keywords)
        compiled = lowered.compile(compiler_options=max_utils.parse_libtpu_flags_to_dict(config.compile_xla_flags))
        peak = compiled.memory_analysis().peak_memory_in_bytes
        print(
            ANSWER + json.dumps({"peak_gib": peak / 2**30, "cycles": hlo_cost(compiled.as_text()).cycles}), flush=True
        )
        os._exit(0)  # what follows would save and run the step

    train_compile.jit_and_compile = look
    config = pathlib.Path(maxtext.__file__).parent / "configs" / "base.yml"
    train_compile.main(["train_compile", str(config), *settings])


def ask_maxtext(python: str, model: str, slice_name: str, batch: int, length: int, flags: str) -> dict[str, float]:
    """{peak_gib, cycles} of MaxText's step."""
    from humpback_jax.topology.compiler import quiet_environment

    settings = {
        "compile_topology": slice_name,
        "compile_topology_num_slices": 1,
        "model_name": MODELS[model],
        "per_device_batch_size": batch,
        "max_target_length": length,
        "enable_checkpointing": "false",
        "dataset_type": "synthetic",
        "run_name": "compare",
        "base_output_directory": "maxtext_output",
        "skip_jax_distributed_system": "true",
    } | ({"compile_xla_flags": flags} if flags else {})
    command = [python, __file__, "--worker", *(f"{name}={value}" for name, value in settings.items())]
    environment = quiet_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(ANSWER):
            return json.loads(line.removeprefix(ANSWER))
    raise SystemExit(f"MaxText gave no figures for {model} on {slice_name}:\n{(done.stdout + done.stderr)[-3000:]}")


def compare(python: str, model: str, slice_name: str, batch: int, length: int) -> dict[str, Any]:
    """Figures of both for one step."""
    from humpback_jax.hardware import get_slice
    from humpback_jax.topology.fit import fit
    from humpback_jax.topology.request import FitRequest

    ours = fit(FitRequest(model, slice_name, batch=batch, length=length, packed=False, dropout=0.0), cache=None)
    clock = get_slice(slice_name).chip.clock_hz
    theirs = [ask_maxtext(python, model, slice_name, batch, length, flags) for flags in ("", GATHERED_WHOLE)]
    peak, seconds = min(answer["peak_gib"] for answer in theirs), min(answer["cycles"] for answer in theirs) / clock
    return {
        "model": model,
        "slice": slice_name,
        "batch": batch,
        "peak_gib": ours.peak_gib,
        "maxtext_peak_gib": peak,
        "seconds": ours.fusion_seconds,
        "maxtext_seconds": seconds,
        "memory_ratio": ours.peak_gib / peak if ours.peak_gib else None,
        "speed_ratio": seconds / ours.fusion_seconds if ours.fusion_seconds else None,
    }


def main() -> None:
    if "--worker" in sys.argv:
        compile_maxtext(sys.argv[sys.argv.index("--worker") + 1 :])
        return
    from slice_tables import BARS

    from humpback_jax.runtime.console import print_figures

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maxtext_python", required=True, help="of the environment that holds MaxText")
    parser.add_argument("--model", choices=MODELS, help="only this model")
    parser.add_argument("--slice", help="only this slice")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for bar in BARS:
        request = bar.request
        if request.model == (arguments.model or request.model) and request.slice == (arguments.slice or request.slice):
            row = compare(arguments.maxtext_python, request.model, request.slice, request.batch, request.length)
            print_figures(row, arguments.json)


if __name__ == "__main__":
    main()
