"""Writes the networks of docs/performance-gpu.md into a folder: python3 networks.py FOLDER"""

import json
import pathlib
import sys


def dense(size, activation="linear"):
    return {"type": "dense", "output_size": size, "activation": activation}


def conv(filters, **options):
    return {"type": "conv2d", "filters": filters, "kernel_size": 3, "padding": 1, "activation": "relu", **options}


def recurrent(cell, hidden, **options):
    """64 steps, of which the last state is used."""
    layers = [{"type": cell, "hidden_size": hidden, "return_sequences": False, **options}, dense(10)]
    return (16, [64, 32], layers)


NETWORKS = {
    "gemm4096": (4096, [4096], [dense(4096)]),
    "gemm2048": (2048, [2048], [dense(2048)]),
    "gemm1024": (1024, [1024], [dense(1024)]),
    "matvec": (1, [4096], [dense(4096)]),
    "matvec4": (4, [4096], [dense(4096)]),
    "matvec_int8": (1, [4096], [{**dense(4096), "dtype": "int8"}]),
    "gemm2048_int8": (2048, [2048], [{**dense(2048), "dtype": "int8"}]),
    "gemm4096_int8": (4096, [4096], [{**dense(4096), "dtype": "int8", "input_scale": 0.01}]),
    "cnn_int8": (256, [32, 28, 28], [{**conv(64), "dtype": "int8", "input_scale": 0.01}]),
    "softmax": (4096, [4096], [{"type": "softmax"}]),
    "layernorm": (4096, [4096], [{"type": "layer_norm"}]),
    "relu": (4096, [4096], [{"type": "relu"}]),
    "mlp": (1, [784], [dense(512, "relu"), dense(512, "relu"), dense(10)]),
    "cnn": (256, [1, 28, 28], [conv(32), conv(64, stride=2), {"type": "flatten"}, dense(128, "relu"), dense(10)]),
    "lstm64": recurrent("lstm", 64),
    "lstm128": recurrent("lstm", 128),
    "lstm256": recurrent("lstm", 256),
    "lstm128_int8": recurrent("lstm", 128, dtype="int8"),
    "gru128": recurrent("gru", 128),
    "rnn128": recurrent("rnn", 128),
    "block": (
        16,
        [128, 512],
        [
            {"type": "layer_norm", "name": "enter"},
            {"type": "multi_head_attention", "num_heads": 8},
            {"type": "residual", "name": "first", "from": "input"},
            {"type": "layer_norm"},
            dense(2048, "gelu"),
            dense(512),
            {"type": "residual", "from": "first"},
        ],
    ),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    mnist = json.loads((pathlib.Path(__file__).parent / "../../examples/mnist/net.json").read_text())
    networks = {
        name: {"id": name, "batch_size": batch, "input_shape": shape, "layers": layers}
        for name, (batch, shape, layers) in NETWORKS.items()
    }
    networks["mnist256"] = {**mnist, "id": "mnist256", "batch_size": 256}
    for name, network in networks.items():
        (folder / f"{name}.json").write_text(json.dumps(network, indent=2) + "\n")


if __name__ == "__main__":
    main()
