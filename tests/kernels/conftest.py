"""The implementations under test: the torch reference and every native module this machine can run."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tutti.kernels import reference, reference_attention
from tutti.kernels.cpu import native
from tutti.kernels.cpu.linear import NativePacker
from tutti.kernels.cpu.ops import NativeOperations


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def native_module(name: str) -> ModuleType:
    """The module of an instruction set; skips where it cannot run or is not built."""
    if name not in native.runnable():
        pytest.skip(f"this processor has no {name}")
    try:
        module = importlib.import_module(f"tutti.kernels.cpu.{native.module_name(name)}")
    except ModuleNotFoundError:
        pytest.skip(f"native kernels for {name} are not built")
    if not module.permitted():
        pytest.skip(f"this system does not permit {name}")
    return module


def reference_operations() -> Any:
    """The reference with the face of `NativeOperations`."""
    return SimpleNamespace(**vars(reference), paged_attention=reference_attention.paged_attention)


@pytest.fixture(params=["reference", *native.SETS])
def operations(request: pytest.FixtureRequest) -> Any:
    """Every implementation of the operations on the CPU."""
    return (
        reference_operations()
        if request.param == "reference"
        else NativeOperations(native_module(request.param))
    )


@pytest.fixture(params=list(native.SETS))
def native_operations(request: pytest.FixtureRequest) -> NativeOperations:
    """Every native implementation."""
    return NativeOperations(native_module(request.param))


@pytest.fixture(params=list(native.SETS))
def packer(request: pytest.FixtureRequest) -> NativePacker:
    """What packs linear layers, of every native implementation."""
    return NativePacker(native_module(request.param))
