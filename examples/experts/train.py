#!/usr/bin/env python3
"""Train the network of net.json on scikit-learn's digits.

    pip install torch==2.15.0 scikit-learn==1.9.1 numpy==2.4.6 safetensors==0.8.0
    python train.py            # trains, writes weights.safetensors
    python train.py --check    # checks the file that is there, writes nothing

The digits are those of ../digits: the first 1,500 of the set are trained on, the rest is held out, and nothing is chosen by
looking at it.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
TRAINED_ON = 1500
EXPERTS, CHOSEN, HIDDEN = 4, 2, 12
EPOCHS = 80
BATCH = 50
# How much it costs if few experts get all digits.
BALANCE = 0.05
SEED = 1


class Experts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Linear(64, EXPERTS)
        self.first = torch.nn.ModuleList(torch.nn.Linear(64, HIDDEN) for _ in range(EXPERTS))
        self.second = torch.nn.ModuleList(torch.nn.Linear(HIDDEN, 10) for _ in range(EXPERTS))

    def shares(self, x):
        """How much each expert counts; all but the chosen ones not at all."""
        logits = self.gate(x)
        least = logits.topk(CHOSEN, -1).values[:, -1:]
        return torch.softmax(logits.masked_fill(logits < least, -torch.inf), -1)

    def forward(self, x):
        shares = self.shares(x)
        outputs = [second(F.gelu(first(x))) for first, second in zip(self.first, self.second)]
        return sum(shares[:, k, None] * output for k, output in enumerate(outputs)), shares


def tensors(model):
    """The model's own tensors by the names that Loom has for them."""
    layers = {"filter_gate": model.gate}
    for k in range(EXPERTS):
        layers |= {f"branches.{k}.branches.0": model.first[k], f"branches.{k}.branches.1": model.second[k]}
    return {f"layers.1.{path}.{role}": getattr(layer, role)
            for path, layer in layers.items() for role in ["weight", "bias"]}


def train(images, labels):
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = Experts()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))
        for batch in order.split(BATCH):
            scores, shares = model(images[batch])
            balance = EXPERTS * (shares.mean(0) ** 2).sum()
            loss = F.cross_entropy(scores, labels[batch]) + BALANCE * balance
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
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32).flatten(1), torch.tensor(digits.target)
    if not args.check:
        model = train(images[:TRAINED_ON], labels[:TRAINED_ON])
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors(model).items()}, WEIGHTS)
    model = Experts()
    held, truth = images[TRAINED_ON:].double(), labels[TRAINED_ON:]
    with torch.no_grad():
        for name, tensor in load_file(WEIGHTS).items():
            tensors(model)[name].copy_(tensor)
        scores, shares = model.double()(held)
    print(f"{(scores.argmax(-1) == truth).sum()} of {len(truth)} held-out digits right in float64")
    print("digit: of a hundred, how many ask each expert")
    for digit in range(10):
        asked = (shares[truth == digit] > 0).double().mean(0) * 100
        print(f"{digit}: " + " ".join(f"{share:4.0f}" for share in asked))


if __name__ == "__main__":
    main()
