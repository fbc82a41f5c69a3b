"""A virtual environment with the peers and Ranvier side by side, so that one process measures them all.

The peers are installed without their dependencies (they would pull an unpinned torch and torchvision); the few pure
packages that they import are named here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-peers"
PEERS = ("spikingjelly==2.0.0", "snntorch==1.0.0", "norse==1.1.0", "sinabs==3.1.3", "dcls==0.1.1", "nirtorch",
         "spconv==2.3.8", "cumm==0.7.11", "neurobench==2.3.0", "braincog==0.2.7.19")  # fmt: skip
NEEDED_BY_PEERS = ("loguru", "tqdm", "scipy", "matplotlib", "tensorboard", "pandas", "h5py", "nir", "pbr",
                   "pccm", "ccimport", "pybind11", "fire", "einops", "onnx", "onnxscript",
                   "onnxruntime")  # fmt: skip
NEEDED_BY_RANVIER = ("torch", "numpy", "numba", "safetensors", "setuptools")


def python() -> Path:
    """The interpreter of the peers' environment, which is made on first use."""
    interpreter = VENV / "bin" / "python"
    done, wanted = VENV / ".installed", "\n".join((*NEEDED_BY_RANVIER, *NEEDED_BY_PEERS, *PEERS))
    if not done.exists() or done.read_text() != wanted:
        print(f"making {VENV.name} with {', '.join(PEERS)} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", *NEEDED_BY_RANVIER, *NEEDED_BY_PEERS], check=True)
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", "--no-deps", *PEERS], check=True)
        subprocess.run([*pip, "--no-deps", "-e", ROOT], check=True)
        done.write_text(wanted)
    return interpreter
