"""Writes the networks that Loom and its peers run, each as an ONNX model and as a Loom network with the same weights.

    python3 networks.py FOLDER [NAME ...]

A network's folder holds `model.onnx`; `net.json` and, where there are weights, `weights.safetensors`, or the text of a graph,
`net.graph`; and its inputs, `x0.bin` and so on, as f32. All numbers are drawn from one seed by the network's name.
"""

import json
import math
import pathlib
import sys
import zlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

OPSET, IR_VERSION = 20, 9


class Network:
    """Both forms of a network, as they grow."""

    def __init__(self, name, *inputs):
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.inputs, self.nodes, self.constants = inputs, [], []
        self.layers, self.weights, self.graph, self.options = [], {}, None, {}
        self.names = ["x"] if len(inputs) == 1 else ["a", "b"]

    def node(self, operation, operands, outputs=1, **attributes):
        """Adds an ONNX node; arrays among the operands are constants. Gives the name of its first output."""
        names = []
        for operand in operands:
            if isinstance(operand, np.ndarray):
                self.constants.append(numpy_helper.from_array(np.ascontiguousarray(operand), f"c{len(self.constants)}"))
                operand = self.constants[-1].name
            names.append(operand)
        results = [f"v{len(self.nodes)}"] + [""] * (outputs - 1)
        self.nodes.append(helper.make_node(operation, names, results, **attributes))
        return results[0]

    def layer(self, kind, weights=None, **options):
        """Adds a Loom layer with its weights."""
        for role, array in (weights or {}).items():
            self.weights[f"layers.{len(self.layers)}.{role}"] = np.ascontiguousarray(array)
        self.layers.append({"type": kind, **options})

    def draw(self, *shape):
        """Weights of a size that keeps values near 1: the last axes are summed over."""
        scale = 1 / math.sqrt(max(1, math.prod(shape[1:])))
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def dense(self, x, inputs, outputs, activation="linear", bias=True):
        weight = self.draw(outputs, inputs)
        roles = {"weight": weight}
        if bias:
            roles["bias"] = self.draw(outputs)
        self.layer("dense", roles, output_size=outputs, activation=activation, bias=bias)
        return self.linear(x, *roles.values())

    def linear(self, x, weight, bias=None):
        x = self.node("MatMul", [x, weight.T])
        return x if bias is None else self.node("Add", [x, bias])

    def norm(self, x, size, **options):
        roles = {"gamma": 1 + self.draw(size), "beta": self.draw(size)}
        self.layer("layer_norm", roles, norm_size=size, **options)
        return self.node("LayerNormalization", [x, *roles.values()], axis=-1)

    def convolution(self, x, channels, filters, size, stride=1, activation="linear"):
        roles = {"weight": self.draw(filters, channels, size, size), "bias": self.draw(filters)}
        self.layer("conv2d", roles, filters=filters, kernel_size=size, padding=size // 2, stride=stride, activation=activation)
        x = self.node("Conv", [x, *roles.values()], pads=[size // 2] * 4, strides=[stride] * 2)
        return self.node("Relu", [x]) if activation == "relu" else x

    def write(self, folder, output):
        folder.mkdir(parents=True, exist_ok=True)
        self.nodes[-1].output[0] = "y"
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        inputs = [value(name, shape) for name, shape in zip(self.names, self.inputs)]
        graph = helper.make_graph(self.nodes, folder.name, inputs, [value("y", output)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if self.graph:
            (folder / "net.graph").write_text(self.graph)
        else:
            batch, *shape = self.inputs[0]
            config = {"id": folder.name, "batch_size": batch, "input_shape": shape, **self.options, "layers": self.layers}
            (folder / "net.json").write_text(json.dumps(config, indent=1) + "\n")
        if self.weights:
            save_file(self.weights, folder / "weights.safetensors")
        for number, shape in enumerate(self.inputs):
            self.random.standard_normal(shape).astype(np.float32).tofile(folder / f"x{number}.bin")


def mlp(name, batch, sizes=(784, 512, 512, 10)):
    net, x = Network(name, (batch, sizes[0])), "x"
    for number, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        last = number + 2 == len(sizes)
        x = net.dense(x, inputs, outputs, "linear" if last else "relu")
        x = x if last else net.node("Relu", [x])
    return net, (batch, sizes[-1])


def cnn(name, batch):
    net = Network(name, (batch, 1, 28, 28))
    x = net.convolution("x", 1, 32, 3, activation="relu")
    x = net.convolution(x, 32, 64, 3, stride=2, activation="relu")
    net.layer("flatten")
    x = net.node("Flatten", [x], axis=1)
    x = net.node("Relu", [net.dense(x, 64 * 14 * 14, 128, "relu")])
    net.dense(x, 128, 10)
    return net, (batch, 10)


def convolution(name, filters, size):
    net = Network(name, (1, 64, 56, 56))
    net.convolution("x", 64, filters, size)
    return net, (1, filters, 56, 56)


def block(name, width=512, heads=8, inner=2048, length=128):
    """A pre-norm transformer block, causal."""
    net = Network(name, (1, length, width))
    size = width // heads
    shape = lambda *dims: np.array(dims, dtype=np.int64)
    x = net.norm("x", width, name="enter")
    roles = {f"{role}_{part}": net.draw(*dims) for role in "qkvo" for part, dims in (("weight", (width, width)), ("bias", (width,)))}
    net.layer("multi_head_attention", roles, num_heads=heads, rope=False)
    heads_of = lambda x: net.node("Reshape", [x, shape(1, length, heads, size)])
    q, k, v = (heads_of(net.linear(x, roles[f"{role}_weight"], roles[f"{role}_bias"])) for role in "qkv")
    q, v = (net.node("Transpose", [part], perm=[0, 2, 1, 3]) for part in (q, v))
    scores = net.node("MatMul", [q, net.node("Transpose", [k], perm=[0, 2, 3, 1])])
    scores = net.node("Mul", [scores, np.array(1 / math.sqrt(size), dtype=np.float32)])
    scores = net.node("Add", [scores, np.triu(np.full((length, length), -1e9, dtype=np.float32), 1)])
    x = net.node("MatMul", [net.node("Softmax", [scores], axis=-1), v])
    x = net.node("Reshape", [net.node("Transpose", [x], perm=[0, 2, 1, 3]), shape(1, length, width)])
    x = first = net.node("Add", ["x", net.linear(x, roles["o_weight"], roles["o_bias"])])
    net.layer("residual", name="first", **{"from": "input"})
    x = net.node("Gelu", [net.dense(net.norm(x, width), width, inner, "gelu")])
    net.node("Add", [first, net.dense(x, inner, width)])
    net.layer("residual", **{"from": "first"})
    return net, (1, length, width)


def lstm(name, inputs=64, hidden=128, length=64):
    net = Network(name, (1, length, inputs))
    roles = {"weight_ih": net.draw(4 * hidden, inputs), "weight_hh": net.draw(4 * hidden, hidden)}
    roles |= {"bias_ih": net.draw(4 * hidden), "bias_hh": net.draw(4 * hidden)}
    net.layer("lstm", roles, hidden_size=hidden)
    # Loom's gates are i, f, g, o, as PyTorch's; ONNX has i, o, f, g.
    gates = lambda array: np.concatenate([np.split(array, 4)[gate] for gate in (0, 3, 1, 2)])[None]
    bias = np.concatenate([gates(roles["bias_ih"]), gates(roles["bias_hh"])], axis=1)
    x = net.node("Transpose", ["x"], perm=[1, 0, 2])
    x = net.node("LSTM", [x, gates(roles["weight_ih"]), gates(roles["weight_hh"]), bias], outputs=3, hidden_size=hidden)
    net.node("Reshape", [x, np.array([1, length, hidden], dtype=np.int64)])
    return net, (1, length, hidden)


def product(name, size):
    net = Network(name, (size, size), (size, size))
    net.node("MatMul", ["a", "b"])
    kind = f"f32[{size}, {size}]"
    net.graph = f"""graph "{name}" {{
  %0 = input "a" : {kind}
  %1 = input "b" : {kind}
  %2 = contract %0 %1 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[0] : {kind}
  output "output" %2
}}
"""
    return net, (size, size)


def dense(name, size):
    net = Network(name, (1, size))
    net.dense("x", size, size, bias=False)
    return net, (1, size)


def elementwise(name, shape, layer, operation, **attributes):
    net = Network(name, shape)
    net.layer(layer)
    net.node(operation, ["x"], **attributes)
    return net, shape


def norm(name, rows, size):
    net = Network(name, (rows, size))
    net.norm("x", size)
    return net, (rows, size)


NETWORKS = {
    "N1_b1": lambda name: mlp(name, 1),
    "N1_b64": lambda name: mlp(name, 64),
    "N2_b1": lambda name: cnn(name, 1),
    "N2_b16": lambda name: cnn(name, 16),
    "N3_3x3": lambda name: convolution(name, 64, 3),
    "N3_1x1": lambda name: convolution(name, 256, 1),
    "N4": block,
    "N5": lstm,
    "gemm_256": lambda name: product(name, 256),
    "gemm_1024": lambda name: product(name, 1024),
    "matvec": lambda name: dense(name, 4096),
    "softmax": lambda name: elementwise(name, (512, 4096), "softmax", "Softmax", axis=-1),
    "layer_norm": lambda name: norm(name, 512, 1024),
    "gelu": lambda name: elementwise(name, (1024, 1024), "gelu", "Gelu"),
    # What a call costs beside its work.
    "call": lambda name: elementwise(name, (1, 1), "relu", "Relu"),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or NETWORKS:
        network, output = NETWORKS[name](name)
        network.write(folder / name, output)


if __name__ == "__main__":
    main()
