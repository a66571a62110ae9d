"""Tables and figures of results that were saved need no PyTorch."""

import subprocess
import sys


def test_analysis_and_figures_load_without_pytorch() -> None:
    program = "import sys; import refam_analysis.analysis, refam_analysis.figures; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
