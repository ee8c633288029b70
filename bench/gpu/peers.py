"""The networks of networks.py in PyTorch, in f32 without TF32, on the first CUDA device: medians.

Kernels alone are timed by CUDA events with their input on the device; the MLP by the clock, with upload and readback.
"""

import statistics
import time

import torch
from torch import nn
from torch.nn import functional

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.set_grad_enabled(False)
DEVICE = "cuda"


def on_device(run, rounds=50):
    """Milliseconds by the device's clock."""
    for _ in range(5):
        run()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def by_the_clock(run, rounds=100):
    """Milliseconds by the host's clock."""
    for _ in range(5):
        run()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def report(name, milliseconds, flops=0, moved=0):
    rates = [f"{flops / milliseconds / 1e9:.1f} TFLOP/s"] if flops else []
    rates += [f"{moved / milliseconds / 1e6:.0f} GB/s"] if moved else []
    print(f"{name}: {milliseconds:.4f} ms", *rates)


class Block(nn.Module):
    """A transformer block, norms first, attention of 8 heads over all positions (Loom's has a mask and turns q and k)."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(512), nn.LayerNorm(512)])
        self.qkv, self.out = nn.Linear(512, 1536), nn.Linear(512, 512)
        self.up, self.down = nn.Linear(512, 2048), nn.Linear(2048, 512)

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).view(16, 128, 3, 8, 64).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(16, 128, 512))
        return x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))


def main():
    for mib in (64, 256):
        source = torch.randn(mib << 18, device=DEVICE)
        target = torch.empty_like(source)
        report(f"copy of {mib} MiB", on_device(lambda: target.copy_(source)), moved=2 * mib << 20)
    for size in (1024, 2048, 4096):
        x, weight = torch.randn(2, size, size, device=DEVICE)
        report(f"gemm{size}", on_device(lambda: functional.linear(x, weight)), flops=2 * size**3)
    row, gamma = torch.randn(1, 4096, device=DEVICE), torch.ones(4096, device=DEVICE)
    report("matvec", on_device(lambda: functional.linear(row, weight)), moved=64 << 20)
    report("softmax", on_device(lambda: functional.softmax(x, -1)), moved=128 << 20)
    report("layernorm", on_device(lambda: functional.layer_norm(x, (4096,), gamma, gamma)), moved=128 << 20)
    report("relu", on_device(lambda: functional.relu(x)), moved=128 << 20)
    mlp = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)).to(DEVICE)
    sample = torch.randn(1, 784)
    report("mlp, upload and readback included", by_the_clock(lambda: mlp(sample.to(DEVICE)).cpu()))
    images = torch.randn(256, 1, 28, 28, device=DEVICE)
    cnn = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 14 * 14, 128), nn.ReLU(), nn.Linear(128, 10),
    ).to(DEVICE)
    report("cnn", on_device(lambda: cnn(images)))
    mnist = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(-1),
    ).to(DEVICE)
    report("mnist256", on_device(lambda: mnist(images)))
    block, tokens = Block().to(DEVICE), torch.randn(16, 128, 512, device=DEVICE)
    report("block", on_device(lambda: block(tokens)))


if __name__ == "__main__":
    main()
