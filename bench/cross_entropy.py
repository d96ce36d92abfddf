"""PyTorch's linear + cross-entropy with both gradients: a line on stdin runs it once and answers with the seconds, the
loss, the peak memory above what the process had before there were arrays, and some numbers of the gradients.

python cross_entropy.py D threads; weights, hidden states (float32) and targets (int32) are read from files named on
the next three lines.
"""
import resource
import sys
import time

import numpy as np
import torch

d, threads = map(int, sys.argv[1:3])
torch.set_num_threads(threads)
base = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
read = lambda dtype: torch.from_numpy(np.fromfile(sys.stdin.readline().strip(), dtype=dtype))
weight = read(np.float32).view(-1, d).requires_grad_()
hidden = read(np.float32).view(-1, d).requires_grad_()
target = read(np.int32).long()
print("ready", torch.__version__, flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    weight.grad = hidden.grad = None
    loss = torch.nn.functional.cross_entropy(hidden @ weight.T, target)
    loss.backward()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
    first = " ".join(repr(float(x)) for x in (*hidden.grad[0, :4], *weight.grad[target[0], :4]))
    print(seconds, loss.item(), peak, first, flush=True)
