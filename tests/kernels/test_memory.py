"""Advice about memory leaves the memory as it is."""

from __future__ import annotations

import sys

import pytest
import torch

from tutti.kernels import advise_huge_pages


def test_small_and_strided_tensors_are_left_alone() -> None:
    assert not advise_huge_pages(torch.zeros(1000))
    assert not advise_huge_pages(torch.zeros(2**21, 2)[:, 0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone takes this advice")
def test_a_large_tensor_keeps_its_contents() -> None:
    tensor = torch.arange(2**21, dtype=torch.int32)
    advise_huge_pages(tensor)
    assert torch.equal(tensor, torch.arange(2**21, dtype=torch.int32))
