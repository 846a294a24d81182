"""What the main job asks of the memory of its process."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
FAULTS = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import torch
from recsys import machine

if sys.argv[2] == "keep":
    machine.keep_freed_memory()
for _ in range(32):  # aligned memory is found again after a few rounds only
    torch.ones(2**24)  # 64 MiB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name != "cpython", reason="a setting of glibc's malloc"
)
def test_freed_memory_is_used_again() -> None:
    def faults(mode: str) -> int:
        command = [sys.executable, "-c", FAULTS, str(EXAMPLES), mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    given_back = faults("as it is")
    if given_back < 1000:
        pytest.skip("this malloc keeps what is freed by itself")
    assert faults("keep") < given_back / 20
