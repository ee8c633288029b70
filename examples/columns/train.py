#!/usr/bin/env python3
"""Train the network of net.json on scikit-learn's digits.

    pip install torch==2.15.0 scikit-learn==1.9.1 numpy==2.4.6 safetensors==0.8.0
    python train.py            # trains, writes weights.safetensors
    python train.py --check    # checks the file that is there, writes nothing

The digits are those of ../digits: the first 1,500 of the set are trained on, the rest is held out, and nothing is chosen by
looking at it. A row of an image is a channel, a column a step.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
TRAINED_ON = 1500
EPOCHS = 80
BATCH = 50
SEED = 1


class Columns(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(8, 16, 3, padding=1)
        self.lstm = torch.nn.LSTM(16, 12, batch_first=True, bidirectional=True)
        self.gru = torch.nn.GRU(24, 16, batch_first=True)
        self.dense = torch.nn.Linear(16, 10)

    def forward(self, x):
        steps = F.relu(self.conv(x)).transpose(1, 2)
        states, _ = self.gru(self.lstm(steps)[0])
        return self.dense(states[:, -1])


def tensors(model):
    """The model's own tensors by the names that Loom has for them."""
    names = {f"layers.0.{role}": getattr(model.conv, role) for role in ["weight", "bias"]}
    for layer, cell, directions in [(1, model.lstm, ["", "_reverse"]), (2, model.gru, [""])]:
        for role in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]:
            for direction in directions:
                names[f"layers.{layer}.{role}{direction}"] = getattr(cell, f"{role}_l0{direction}")
    return names | {f"layers.3.{role}": getattr(model.dense, role) for role in ["weight", "bias"]}


def train(images, labels):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = Columns()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))
        for batch in order.split(BATCH):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.96
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="train and write nothing")
    args = parser.parse_args()
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32), torch.tensor(digits.target)
    if not args.check:
        model = train(images[:TRAINED_ON], labels[:TRAINED_ON])
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors(model).items()}, WEIGHTS)
    model = Columns()
    with torch.no_grad():
        for name, tensor in load_file(WEIGHTS).items():
            tensors(model)[name].copy_(tensor)
        right = (model.double()(images[TRAINED_ON:].double()).argmax(-1) == labels[TRAINED_ON:]).sum()
    print(f"{right} of {len(labels) - TRAINED_ON} held-out digits right in float64")


if __name__ == "__main__":
    main()
