"""Random numbers that belong to a place in a run, such as the third update, and not to what was drawn before.

A resumed run, or one on several processes, then draws what the unbroken run on one process draws.
"""

import zlib

import numpy as np
import torch


def generator(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place: the same for the same arguments, unrelated to all others."""
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in (seed, *place)]
    words.insert(0, len(words))  # numpy takes (1, 2) and (1, 2, 0) for the same
    return torch.Generator().manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1)
