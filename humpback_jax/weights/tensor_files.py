"""Files of tensors, read row by row from a memory map: safetensors, and torch's .bin files without what they run."""

import pathlib
import pickle
import zipfile
from typing import Any, Protocol

import ml_dtypes
import numpy as np

FLOAT_DTYPES = ("F32", "F16", "BF16")


class TensorFile(Protocol):
    """Tensors by name; `dtype` is one of `FLOAT_DTYPES` or the name of another one, which cannot be read."""

    def names(self) -> list[str]:
        """All tensors of the file."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""

    def dtype(self, name: str) -> str:
        """Dtype of a tensor."""

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor, as stored."""


class SafetensorsFile:
    """One .safetensors file."""

    def __init__(self, path: pathlib.Path) -> None:
        import safetensors

        try:
            self._reader = safetensors.safe_open(path, framework="np")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; download it") from error
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); download this file again") from error

    def names(self) -> list[str]:
        """All tensors of the file."""
        return list(self._reader.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._reader.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Dtype of a tensor."""
        return str(self._reader.get_slice(name).get_dtype())

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor, as stored."""
        rows: np.ndarray = self._reader.get_slice(name)[start:stop]
        return rows


class TorchFile:
    """One .bin file of torch: a zip archive with a pickle, of which torch's safe reader builds nothing but tensors."""

    def __init__(self, path: pathlib.Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; download it")
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                f"{path} is a file of torch, which is not installed: pip install 'humpback_jax[parity]', or get the "
                "model's .safetensors files"
            ) from error
        if not zipfile.is_zipfile(path):
            raise ValueError(
                f"{path} is not a whole zip archive, as torch writes its files since version 1.6: it is cut short, or "
                "older. Download it again, or save the model with safe_serialization=True"
            )
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
            raise ValueError(
                f"{path} holds something else than tensors, which is not run, or is damaged "
                f"({str(error).splitlines()[0][:200]})"
            ) from error
        if not isinstance(tensors, dict) or not all(torch.is_tensor(value) for value in tensors.values()):
            raise ValueError(f"{path}: expected tensors by their names, as transformers writes them")
        self._tensors: dict[str, Any] = tensors
        self._names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}

    def names(self) -> list[str]:
        """All tensors of the file."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        """Dtype of a tensor."""
        dtype = self._tensors[name].dtype
        return self._names.get(dtype, str(dtype))

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a tensor, as stored."""
        import torch

        rows = self._tensors[name][start:stop].contiguous()
        if rows.dtype == torch.bfloat16:  # numpy knows no such dtype: its bits are read as another one's
            return np.asarray(rows.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
        array: np.ndarray = rows.numpy()
        return array
