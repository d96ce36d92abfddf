"""PyTorch's linear + cross-entropy with both gradients: a line on stdin runs it once and answers with the seconds.

python cross_entropy.py N V D threads; weights and hidden states are read from files named on the next two lines.
"""
import resource
import sys
import time

import numpy as np
import torch

n, v, d, threads = map(int, sys.argv[1:5])
torch.set_num_threads(threads)
read = lambda: np.fromfile(sys.stdin.readline().strip(), dtype=np.float32)
weight = torch.from_numpy(read()).view(v, d).requires_grad_()
hidden = torch.from_numpy(read()).view(n, d).requires_grad_()
target = (torch.arange(n) * 7919 + 13) % v
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - (weight.nbytes + hidden.nbytes) // 1024
print("ready", torch.__version__, flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    weight.grad = hidden.grad = None
    loss = torch.nn.functional.cross_entropy(hidden @ weight.T, target)
    loss.backward()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    first = " ".join(repr(float(x)) for x in (*hidden.grad[0, :4], *weight.grad[13, :4]))
    print(seconds, loss.item(), peak * 1024, first, flush=True)
