"""What a compiled TPU program does, read from its HLO text, with every loop body counted as often as it runs.

XLA's own `cost_analysis` counts a loop body once, so a scan over 80 layers looks like one layer. Every fusion of a
program compiled for a TPU carries the compiler's own estimate of its cycles; the sums here are over those. The cycles
know nothing of kernels, whose time follows from their own accounts, nor of collectives that nothing hides.
"""

import collections
import dataclasses
import functools
import math
import re

from humpback_jax.hardware import Chip

KERNEL_UTILISATION = 0.5  # of the matrix units, inside an attention kernel: assumed
# Matrix products over all pairs of a query and a key it sees, of kernels that give no account of themselves.
_SPLASH_PRODUCTS = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")  # behind the shape
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_WIDE, _HALF = {"s64": 8, "u64": 8, "f64": 8}, {"bf16": 2, "f16": 2, "s16": 2, "u16": 2}
DTYPE_BYTES = _WIDE | _HALF | {"pred": 1, "s8": 1, "u8": 1, "s4": 0.5}  # all others: 4
_WINDOW_STEPS = ("stride", "lhs_dilate", "rhs_dilate")
_COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A Pallas kernel: how often it runs, what one run costs by its own account (0 where it gives none), its operands.

    `operands` are (dtype, shape) in the order of the call.
    """

    name: str
    count: int
    flops: float
    bytes_accessed: float
    operands: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def counted_flops(self) -> float:
        """FLOPs of one run: by its own account, or counted for causal splash attention; else 0."""
        products = next((n for start, n in _SPLASH_PRODUCTS.items() if self.name.startswith(start)), 0)
        if self.flops or not products:
            return self.flops
        query, key, *_ = [shape for dtype, shape in self.operands if dtype in ("bf16", "f32") and len(shape) >= 3]
        # Keys may lie with their length last or with their width last.
        queries, keys = query[-2], math.prod(key[-2:]) // query[-1]
        pairs = queries * keys - queries * queries / 2
        return products * 2.0 * math.prod(query[:-2]) * query[-1] * pairs

    def seconds(self, chip: Chip) -> float:
        """An estimate of one run: its products at `KERNEL_UTILISATION`, or its bytes at the bandwidth if longer."""
        size = self.bytes_accessed or sum(_bytes(*operand) for operand in self.operands)
        return max(self.counted_flops / (KERNEL_UTILISATION * chip.peak_flops), size / chip.hbm_bandwidth)


@dataclasses.dataclass(frozen=True)
class HloCost:
    """Sums over one run of a program on one device.

    Attributes:
      cycles: the compiler's estimate for fusions, copies and the like; neither kernels nor exposed collectives.
      flops: of matrix products (convolutions, in TPU terms), without those of kernels.
      collectives: name to (count, bytes), of those that stand outside fusions.
      kernels: Pallas kernels.
      loops: (name, trips) of every loop, in the order of the text.
    """

    cycles: float
    flops: float
    collectives: dict[str, tuple[int, float]]
    kernels: tuple[Kernel, ...]
    loops: tuple[tuple[str, int], ...]

    def kernel_seconds(self, chip: Chip) -> float:
        """Of all runs of all kernels."""
        return sum(kernel.count * kernel.seconds(chip) for kernel in self.kernels)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    opcode: str
    text: str

    @functools.cached_property
    def operands(self) -> list[str]:
        inside = re.search(rf" {self.opcode}\((.*?)\)(?:, |$)", self.text)
        return re.findall(r"%([\w.\-]+)", inside.group(1)) if inside else []

    def called(self, attribute: str) -> str | None:
        match = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.text)
        return match.group(1) if match else None

    @property
    def shape(self) -> tuple[int, ...]:
        return next((shape for _, shape in _arrays(self.text)), ())


def _arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of every array that is named like `bf16[8,16]`."""
    return [(dtype, tuple(int(n) for n in sizes.split(",") if n)) for dtype, sizes in _SHAPE.findall(text)]


def _bytes(dtype: str, shape: tuple[int, ...]) -> float:
    return DTYPE_BYTES.get(dtype, 4) * math.prod(shape)


class HloModule:
    """The computations of an HLO text."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, dict[str, _Instruction]] = {}
        self.entry, current, last = "", None, ""
        for line in text.splitlines():
            if current is None:
                if match := _COMPUTATION.match(line):
                    current = self.computations.setdefault(match.group(2), {})
                    self.entry = match.group(2) if match.group(1) else self.entry
            elif line.rstrip() == "}":
                current = None
            elif match := _INSTRUCTION.match(line):
                last, text = match.group(2, 3)
                opcode = _OPCODE.search(text)
                current[last] = _Instruction(last, opcode.group(1) if opcode else "", text)
            elif last in current:  # the metadata of a kernel spans lines
                current[last] = dataclasses.replace(current[last], text=current[last].text + line)

    def trips(self, loop: _Instruction, unknown: int) -> int:
        """How often a loop runs: the bound that its condition compares with, over the step of its counter.

        `unknown` where the bound is no constant.
        """
        condition = self.computations[loop.called("condition") or ""]
        trips = []
        for instruction in condition.values():
            if instruction.opcode != "compare":
                continue
            bounds = [b for name in instruction.operands if (b := _constant(condition, name)) is not None]
            counters = [condition[name] for name in instruction.operands if name in condition]
            counters = [counter for counter in counters if counter.opcode == "get-tuple-element"]
            if bounds and counters:
                index = int(re.search(r"index=(\d+)", counters[0].text).group(1))  # type: ignore[union-attr]
                trips.append(max(1, -(-bounds[0] // self._step(loop, index))))
        if trips:
            return min(trips)
        # Where the comparison is inside a fusion, the one constant goes into that.
        bound = max(_constant(condition, name) or 0 for name in condition)
        fused = any(instruction.opcode == "fusion" for instruction in condition.values())
        return bound if fused and bound > 0 else unknown

    def _step(self, loop: _Instruction, index: int) -> int:
        """What one run of the body adds to the counter at `index` of the tuple; unrolled loops add more than 1."""
        body = self.computations[loop.called("body") or ""]
        name = [last for last in body.values() if last.opcode == "tuple"][-1].operands[index]
        step = 0
        for _ in range(20):
            instruction = body.get(name)
            if instruction is None or instruction.opcode not in ("copy", "bitcast", "add"):
                break
            if instruction.opcode != "add":
                name = instruction.operands[0]
                continue
            constants = {o: value for o in instruction.operands if (value := _constant(body, o)) is not None}
            if not constants:
                break
            step += next(iter(constants.values()))
            name = next(operand for operand in instruction.operands if operand not in constants)
        return step or 1


def _constant(computation: dict[str, _Instruction], name: str) -> int | None:
    instruction = computation.get(name)
    match = re.search(r"constant\((-?\d+)\)", instruction.text) if instruction else None
    return int(match.group(1)) if match else None


def _valid_positions(size: int, base: int, out: int, low: int, stride: int, lhs: int, rhs: int) -> int:
    """Pairs of output position and window position of one dimension that fall on an input element, not on padding."""
    if out * size > 4_000_000:
        return out * size
    places = (i * stride + j * rhs - low for i in range(out) for j in range(size))
    return sum(0 <= place <= (base - 1) * lhs and place % lhs == 0 for place in places)


def convolution_flops(computation: dict[str, "_Instruction"], instruction: _Instruction) -> float:
    """FLOPs of a convolution, which on a TPU is what every matrix product becomes."""
    left, kernel = (computation[name].shape for name in instruction.operands[:2])
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.text)
    assert labels is not None, f"convolution without dim_labels: {instruction.text[:200]}"
    of_left, of_kernel, of_out = labels.groups()
    match = re.search(r"window=\{([^}]*)\}", instruction.text)
    window = dict(part.split("=") for part in match.group(1).split()) if match else {}
    valid = 1
    for i in range(sum(letter.isdigit() for letter in of_kernel)):
        steps = [int(window[name].split("x")[i]) if name in window else 1 for name in _WINDOW_STEPS]
        low = int(window["pad"].split("x")[i].split("_")[0]) if "pad" in window else 0
        size, base, out = (
            shape[of.index(str(i))] for shape, of in ((kernel, of_kernel), (left, of_left), (instruction.shape, of_out))
        )
        valid *= _valid_positions(size, base, out, low, *steps)
    out_batch, out_features = (instruction.shape[of_out.index(letter)] for letter in "bf")
    return 2.0 * valid * out_batch * out_features * kernel[of_kernel.index("i")]


class _Walk:
    """Sums along the calls of a module; `unknown` is the trip count of loops without a constant bound."""

    def __init__(self, module: HloModule, unknown: int) -> None:
        self.module, self.unknown = module, unknown
        self.cycles = self.flops = 0.0
        self.collectives: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
        self.kernels: dict[Kernel, int] = collections.Counter()
        self.loops: list[tuple[str, int]] = []
        self._products: dict[str, float] = {}

    def visit(self, name: str, times: int) -> None:
        """Adds a computation that runs so many times, and all that it calls."""
        computation = self.module.computations[name]
        for instruction in computation.values():
            if match := re.search(r'"estimated_cycles":"(\d+)"', instruction.text):
                self.cycles += int(match.group(1)) * times
            if instruction.opcode == "while":
                trips = self.module.trips(instruction, self.unknown)
                self.loops.append((instruction.name, trips))
                self.visit(instruction.called("body") or "", times * trips)
            elif instruction.opcode == "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.text)
                names = branches.group(1).split(", ") if branches else [instruction.called("true_computation") or ""]
                self.visit(names[0].lstrip("%"), times)
            elif instruction.opcode in ("call", "async-start"):
                self.visit(instruction.called("to_apply") or instruction.called("calls") or "", times)
            elif instruction.opcode == "custom-call":
                self._kernel(instruction, times)
            elif instruction.opcode.removesuffix("-start") in _COLLECTIVES:
                entry = self.collectives[instruction.opcode.removesuffix("-start")]
                entry[0] += times
                result = instruction.text.partition(f" {instruction.opcode}(")[0]
                entry[1] += times * sum(_bytes(*array) for array in _arrays(result))
            self.flops += times * self._matrix_flops(computation, instruction)

    def _matrix_flops(self, computation: dict[str, _Instruction], instruction: _Instruction) -> float:
        if instruction.opcode == "convolution":
            return convolution_flops(computation, instruction)
        if instruction.opcode != "fusion":
            return 0.0
        inner = instruction.called("calls") or ""
        if inner not in self._products:
            inside = self.module.computations[inner]
            self._products[inner] = sum(self._matrix_flops(inside, deeper) for deeper in inside.values())
        return self._products[inner]

    def _kernel(self, instruction: _Instruction, times: int) -> None:
        if 'custom_call_target="tpu_custom_call"' not in instruction.text:
            return
        cost = re.search(r'"cost_estimate":\{([^}]*)\}', instruction.text)
        figures = dict(re.findall(r'"(\w+)":"?([\d.e+]+)', cost.group(1))) if cost else {}
        name = re.search(r'op_name="[^"]*?(\w+)(?:/pallas_call)?"', instruction.text)
        layouts = re.search(r"operand_layout_constraints=\{(.*?\})\}", instruction.text)
        kernel = Kernel(
            name.group(1) if name else instruction.name,
            0,
            float(figures.get("flops", 0)),
            float(figures.get("bytes_accessed", 0)),
            tuple(_arrays(layouts.group(1))) if layouts else (),
        )
        self.kernels[kernel] += times


def hlo_cost(text: str, unknown_trips: int = 1) -> HloCost:
    """Costs of instruction run of a compiled TPU program.

    Args:
      text: `compiled.as_text()`.
      unknown_trips: how often a loop runs whose bound is no constant.
    """
    module = HloModule(text)
    walk = _Walk(module, unknown_trips)
    walk.visit(module.entry, 1)
    kernels = [dataclasses.replace(kernel, count=count) for kernel, count in walk.kernels.items()]
    collectives = {name: (int(count), size) for name, (count, size) in sorted(walk.collectives.items())}
    return HloCost(walk.cycles, walk.flops, collectives, tuple(kernels), tuple(walk.loops))
