"""TorchJD, both ways: its weightings, aggregators and scalarizers in `train`, and mtlviz's weightings in TorchJD."""

try:
    import torchjd  # noqa: F401  the extra is told here, once
except ImportError as error:
    raise ImportError("mtlviz.interop.torchjd needs TorchJD: pip install 'mtlviz[torchjd]'") from error

from mtlviz.interop.torchjd.inward import adapted
from mtlviz.interop.torchjd.loops import jacobian
from mtlviz.interop.torchjd.outward import as_torchjd

__all__ = ["adapted", "as_torchjd", "jacobian"]
