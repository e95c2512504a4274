"""Settings that all tests share."""

from __future__ import annotations

import torch

torch.set_num_threads(1)  # the models here are tiny, and a second thread would only wait for the browser's cores
