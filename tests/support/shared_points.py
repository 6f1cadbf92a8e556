"""A process that evaluates a surface slowly, beside others that share its points.

    python shared_points.py FOLDER SECONDS PROCESSES

begins when so many processes are ready, and writes the number of points that it
evaluated and the digest of the surface.
"""

import hashlib
import math
import os
import sys
import time
from pathlib import Path

from probes import probe
from steppe.landscapes.evaluation.landscape import landscape

GRID = (-1, 1, 17), (-1, 1, 17)


def smooth(x, y):
    return 1 + math.sin(2 * x + y) ** 2 + math.exp(x - y)


def digest(surface):
    tensors = (surface.loss, surface.stderr, surface.rise_stderr, surface.computed)
    content = b"".join(t.numpy().tobytes() for t in tensors if t is not None)
    return hashlib.sha256(content).hexdigest()


def main():
    folder, seconds, processes = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])

    def slow(x, y):
        time.sleep(seconds)
        return smooth(x, y)

    objective, plane = probe(slow)
    ready = folder.parent / "ready"
    ready.mkdir(exist_ok=True)
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < processes:
        time.sleep(0.01)
    surface = landscape(objective, plane, *GRID, out=folder)
    sys.stdout.write(f"{len(set(objective.model.seen))} {digest(surface)}\n")


if __name__ == "__main__":
    main()
