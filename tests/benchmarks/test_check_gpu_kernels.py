"""The check of a GPU's kernels: it finds what is wrong, finds nothing on a CPU, and on a GPU says that all is right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.check_gpu_kernels import CHOSEN, LIMITS, MASKS, Case, Finding, cases, examine, main, not_reached, report

NO_GPU = not torch.cuda.is_available()
EXACT = dict.fromkeys(LIMITS, 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_the_kernels_of_a_cpu_pass_it(mask: str, dtype: torch.dtype) -> None:
    finding = examine(Case(dtype, mask, tokens=77, heads=(4, 2)), "cpu")
    assert finding.right and finding.kernel.startswith("fused-cpu")


@pytest.mark.parametrize("chosen", CHOSEN)
def test_what_a_program_chooses_is_what_is_examined(chosen: str) -> None:
    finding = examine(Case(torch.float32, tokens=77, chosen=chosen, precision="high"), "cpu")
    kernels = {"": "fused-cpu", "flash": "fused-cpu", "math": "chunked", "efficient": "", "cudnn": ""}
    assert finding.right and finding.kernel == kernels[chosen]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", LIMITS)
def test_an_error_beyond_its_limit_is_wrong(name: str) -> None:
    right = Finding("flash-cuda", True, EXACT)
    assert right.right and not replace(right, same=False).right
    assert not replace(right, errors={**EXACT, name: 2 * LIMITS[name]}).right
    assert not replace(right, errors={**EXACT, name: float("nan")}).right


def test_the_cases_are_many_and_none_is_tried_twice() -> None:
    tried = list(cases())
    assert len(set(map(str, tried))) == len(set(tried)) > 200


def test_the_report_names_what_is_wrong_and_what_was_not_reached() -> None:
    findings = {
        Case(): Finding("flash-cuda", True, EXACT),
        Case(tokens=77): Finding("efficient-cuda", False, EXACT),
        Case(chosen="cudnn"): Finding("", True, {}),
    }
    lines = report(findings)
    assert [line.split()[0] for line in lines[:3]] == ["right", "WRONG", "right"]
    assert "OTHER OUTPUT" in lines[1] and "no kernel" in lines[2]
    assert lines[3:] == ["3 kinds of calls, 1 wrong.", "NOT REACHED: cudnn-cuda"]
    assert not_reached(findings) == ["cudnn-cuda"]


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 2
    assert "no GPU" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
def test_every_kind_of_call_is_right_on_a_gpu_and_every_row_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out
