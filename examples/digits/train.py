#!/usr/bin/env python3
"""Train the network of net.json on scikit-learn's digits.

    pip install scikit-learn==1.9.1 numpy==2.4.6 safetensors==0.8.0
    python train.py            # trains, writes the three .safetensors files
    python train.py --check    # checks the files that are there, writes nothing

What is written:

    weights.safetensors  f32  layers.1 and layers.2, weight [out, in] and bias [out]
    digits.safetensors   f32  input  [297, 1, 8, 8], digits never trained on
    labels.safetensors   i32  labels [297], what those digits are

The first 1,500 digits, in the data set's order, are trained on; the rest is held
out, and nothing is chosen by looking at it.

Training is seeded and single-threaded: the same versions on the same kind of
processor give the same bytes again. Others may end in slightly different
weights.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "weights.safetensors"
DIGITS = HERE / "digits.safetensors"
LABELS = HERE / "labels.safetensors"

TRAINED_ON = 1500
HIDDEN = 48
SEED = 1
EPOCHS = 60


def data():
    """(images [n, 1, 8, 8], labels): pixels of 0 to 16, in sixteenths, which f32 has exactly."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    return images, digits.target.astype(np.int32)


def train(images, labels):
    model = MLPClassifier(hidden_layer_sizes=(HIDDEN,), activation="tanh", alpha=0.01, max_iter=EPOCHS,
                          random_state=SEED)
    with warnings.catch_warnings():
        # The number of epochs is fixed; whether they were enough shows in the accuracy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(images.reshape(len(images), -1).astype(np.float64), labels)
    tensors = {}
    for layer, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_), start=1):
        # scikit-learn has [in, out].
        tensors[f"layers.{layer}.weight"] = np.ascontiguousarray(weight.T, dtype=np.float32)
        tensors[f"layers.{layer}.bias"] = bias.astype(np.float32)
    return tensors


def forward64(weights, images):
    """What net.json means, in float64."""
    x = images.reshape(len(images), -1).astype(np.float64)
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    x = np.tanh(x @ w["layers.1.weight"].T + w["layers.1.bias"])
    x = x @ w["layers.2.weight"].T + w["layers.2.bias"]
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def report(weights, images, labels):
    right = int((forward64(weights, images).argmax(axis=-1) == labels).sum())
    print(f"{right} of {len(labels)} held-out digits right ({100 * right / len(labels):.2f} %), in float64")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true",
                        help="only check the files that are there; nothing is trained or written")
    args = parser.parse_args()
    images, labels = data()
    held, held_labels = images[TRAINED_ON:], labels[TRAINED_ON:]
    if args.check:
        same = np.array_equal(load_file(DIGITS)["input"], held)
        same = same and np.array_equal(load_file(LABELS)["labels"], held_labels)
        print(f"the digits are {'' if same else 'not '}scikit-learn's")
        report(load_file(WEIGHTS), held, held_labels)
        sys.exit(0 if same else 1)
    weights = train(images[:TRAINED_ON], labels[:TRAINED_ON])
    save_file(weights, WEIGHTS)
    save_file({"input": held}, DIGITS)
    save_file({"labels": held_labels}, LABELS)
    report(weights, held, held_labels)


if __name__ == "__main__":
    main()
