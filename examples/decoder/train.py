#!/usr/bin/env python3
"""Train the network of net.json to add numbers of two digits.

    pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0
    python train.py                  # trains, writes the two .safetensors files
    python train.py --check          # checks the files that are there, writes nothing
    python train.py --show OUTPUT    # what the output of `loomc run -o OUTPUT` says

A sum is nine tokens, 0 to 9, + and =, its result with the last digit first: 27+58=580 is 27 + 58 = 085. The network sees
the first eight and says at each place what comes next, so that places 5, 6 and 7 give the result. Of all 10,000 sums 96
are held out, and nothing is chosen by looking at them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "weights.safetensors"
SUMS = HERE / "sums.safetensors"

TOKENS = "0123456789+="
HELD_OUT = 96
STEPS = 6000
BATCH = 512
SEED = 3
SIZE, BETWEEN, HEADS, KV_HEADS = 32, 64, 4, 2
BLOCKS = [1, 7]  # the first layer of each
HEAD = SIZE // HEADS


def sums():
    """(sums to learn, sums held out), each [n, 9] tokens."""
    text = [f"{a:02}+{b:02}={f'{a + b:03}'[::-1]}" for a in range(100) for b in range(100)]
    tokens = np.array([[TOKENS.index(char) for char in line] for line in text])
    order = np.random.RandomState(SEED).permutation(len(tokens))
    return tokens[order[HELD_OUT:]], tokens[order[:HELD_OUT]]


def parameters():
    shapes = {"layers.0.weight": (len(TOKENS), SIZE), "layers.13.gamma": (SIZE,), "layers.14.weight": (len(TOKENS), SIZE)}
    for n in BLOCKS:
        shapes |= {f"layers.{n}.gamma": (SIZE,), f"layers.{n + 3}.gamma": (SIZE,)}
        shapes |= {f"layers.{n + 1}.{role}_weight": (heads * HEAD, SIZE) for role, heads in
                   [("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)]}
        shapes |= {f"layers.{n + 1}.o_weight": (SIZE, HEADS * HEAD)}
        shapes |= {f"layers.{n + 4}.{role}_weight": (BETWEEN, SIZE) for role in ["gate", "up"]}
        shapes |= {f"layers.{n + 4}.down_weight": (SIZE, BETWEEN)}
    made = {}
    for name, shape in shapes.items():
        value = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) / shape[1] ** 0.5
        made[name] = value.requires_grad_()
    return made


def rms_norm(x, gamma):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * gamma


def rotated(x):
    """x: [batch, heads, positions, HEAD]."""
    half = HEAD // 2
    angle = torch.arange(x.shape[2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def attention(w, path, x):
    def heads(role, count):
        return (x @ w[f"{path}.{role}_weight"].T).unflatten(-1, (count, HEAD)).transpose(1, 2)

    q, k, v = rotated(heads("q", HEADS)), rotated(heads("k", KV_HEADS)), heads("v", KV_HEADS)
    k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2) @ w[f"{path}.o_weight"].T


def swiglu(w, path, x):
    return (F.silu(x @ w[f"{path}.gate_weight"].T) * (x @ w[f"{path}.up_weight"].T)) @ w[f"{path}.down_weight"].T


def logits(w, tokens):
    x = w["layers.0.weight"][tokens]
    for n in BLOCKS:
        x = x + attention(w, f"layers.{n + 1}", rms_norm(x, w[f"layers.{n}.gamma"]))
        x = x + swiglu(w, f"layers.{n + 4}", rms_norm(x, w[f"layers.{n + 3}.gamma"]))
    return rms_norm(x, w["layers.13.gamma"]) @ w["layers.14.weight"].T


def train(known):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    w = parameters()
    optimizer = torch.optim.AdamW(w.values(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
    known = torch.from_numpy(known)
    for step in range(STEPS):
        batch = known[torch.randint(len(known), (BATCH,))]
        # What is asked can't be foretold; what the result is, can.
        loss = F.cross_entropy(logits(w, batch[:, :8])[:, 5:].flatten(0, 1), batch[:, 6:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 1000 == 0:
            print(f"step {step + 1}: loss {loss.item():.5f}", flush=True)
    return {name: value.detach().numpy() for name, value in w.items()}


def results(scores):
    """The three digits of each result, from scores [n, 8, tokens]."""
    return np.asarray(scores)[:, 5:].argmax(-1)


def show(held_out, scores):
    found = results(scores)
    for asked, digits in zip(held_out, found):
        text = "".join(TOKENS[token] for token in asked[:6])
        result = "".join(TOKENS[token] for token in digits[::-1])
        print(text + result, "" if (digits == asked[6:]).all() else "is wrong")
    print(f"{(found == held_out[:, 6:]).all(1).sum()} of {len(held_out)} right")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--show", type=Path)
    given = arguments.parse_args()
    known, held_out = sums()
    if given.show:
        return show(held_out, load_file(given.show)["output"])
    if not given.check:
        save_file(train(known), WEIGHTS)
        save_file({"input": held_out[:, :8].astype(np.float32)}, SUMS)
    assert (load_file(SUMS)["input"] == held_out[:, :8]).all()
    w = {name: torch.from_numpy(value).double() for name, value in load_file(WEIGHTS).items()}
    with torch.no_grad():
        for name, tokens in [("known", known), ("held out", held_out)]:
            found = results(logits(w, torch.from_numpy(tokens[:, :8])))
            print(f"{name}: {(found == tokens[:, 6:]).all(1).sum()} of {len(tokens)} right in float64")


if __name__ == "__main__":
    main()
