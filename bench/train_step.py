"""PyTorch's step of the GPT of train-step.mjs: a line on stdin runs one and answers with the loss and the peak memory.

python train_step.py '[layers, d, v, t, batch, heads]' threads
"""
import json
import resource
import sys

import torch
import torch.nn.functional as F
from torch import nn

layers, d, v, t, batch, heads = json.loads(sys.argv[1])
threads = int(sys.argv[2])
torch.set_num_threads(threads)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        q, k, val = self.qkv(self.n1(x)).view(batch, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, val, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, t, d))
        return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(v, d), nn.Embedding(t, d)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.zeros_(m.bias)

    def forward(self, ids):
        x = self.embed(ids) + self.positions(torch.arange(t))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embed.weight.T


def warm_up():
    """What PyTorch loads at the first use of an op is no part of the model's memory."""
    layer, x = nn.Linear(8, 8), torch.randn(1, 2, 4, 8)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-3)
    mixed = F.scaled_dot_product_attention(layer(x), x, x, is_causal=True)
    y = F.gelu(F.layer_norm(mixed, [8]), approximate="tanh").reshape(-1, 8)
    F.cross_entropy(y, torch.zeros(len(y), dtype=torch.long)).backward()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()


torch.manual_seed(0)
warm_up()
base = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
model = Gpt()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
ids = (torch.arange(batch * t) * 7919 % v).view(batch, t)
targets = (torch.arange(batch * t) + 1) * 7919 % v
print("ready", torch.__version__, flush=True)
for _ in sys.stdin:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(ids).view(-1, v), targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
    print(loss.item(), peak, flush=True)
