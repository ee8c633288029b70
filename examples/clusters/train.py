#!/usr/bin/env python3
"""Make the weights of net.json from scikit-learn's digits.

    pip install scikit-learn==1.9.1 numpy==2.4.6 safetensors==0.8.0
    python train.py            # writes weights.safetensors
    python train.py --check    # checks the file that is there, writes nothing

The digits are those of ../digits: the first 1,500 of the set are learnt from, the rest is held out, and nothing is chosen by
looking at it. Nothing is trained by gradients: the map is a principal component analysis, the inner centres are k-means',
and each outer centre is how a digit is spread over the inner ones, on average.
"""

import argparse
import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
OUTER = "layers.1.cluster_centers"
INNER = "layers.1.attached_layer.cluster_centers"
MAP = "layers.1.attached_layer.attached_layer."
TRAINED_ON = 1500
COMPONENTS, CENTRES = 12, 48
OUTER_WIDTH, INNER_WIDTH = 0.15, 0.4
SEED = 1


def assigned(f, centres, width):
    """softmax(-|f - c|^2 / (2 width^2)) over the centres."""
    z = -((f[:, None] - centres) ** 2).sum(-1) / (2 * width * width)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def made(images, labels):
    pca = PCA(COMPONENTS, svd_solver="full").fit(images)
    mapped = pca.transform(images)
    inner = KMeans(CENTRES, n_init=4, random_state=SEED).fit(mapped).cluster_centers_
    spread = assigned(mapped, inner, INNER_WIDTH)
    outer = np.stack([spread[labels == digit].mean(0) for digit in range(10)])
    tensors = {MAP + "weight": pca.components_, MAP + "bias": -pca.components_ @ pca.mean_, INNER: inner, OUTER: outer}
    return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    digits = load_digits()
    images, labels = digits.images.reshape(-1, 64) / 16, digits.target
    if not args.check:
        save_file(made(images[:TRAINED_ON], labels[:TRAINED_ON]), WEIGHTS)
    w = {name: tensor.astype(np.float64) for name, tensor in load_file(WEIGHTS).items()}
    mapped = images[TRAINED_ON:] @ w[MAP + "weight"].T + w[MAP + "bias"]
    found = assigned(assigned(mapped, w[INNER], INNER_WIDTH), w[OUTER], OUTER_WIDTH).argmax(-1)
    print(f"{(found == labels[TRAINED_ON:]).sum()} of {len(found)} held-out digits right in float64")


if __name__ == "__main__":
    main()
