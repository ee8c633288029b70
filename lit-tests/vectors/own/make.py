#!/usr/bin/env python3
"""What PyTorch and entmax compute, in float64, for the layers that the other sets of vectors lack.

    pip install torch==2.15.0 entmax==1.3 numpy==2.4.6 safetensors==0.8.0
    python make.py            # writes cases.json and vectors.safetensors
    python make.py --check    # computes again, compares, writes nothing

cases.json is a list of networks. vectors.safetensors has for each ID/NAME: its weights by Loom's names and `input`, all
drawn from the seed below as f32, and `output`, f64: the library's own modules and functions, on the same numbers widened.
Only rotary positions, SwiGLU and the mixture of experts are no library's: they are written down here.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from entmax import entmax15, entmax_bisect, sparsemax
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent
INDEX, VECTORS = HERE / "cases.json", HERE / "vectors.safetensors"
SEED = 2026
CASES = {}


def case(name, input_shape, layers):
    """A case: the decorated function computes the output from the input and a function that draws a weight."""
    def register(compute):
        CASES[name] = (input_shape, layers, compute)
        return compute
    return register


def wide(array):
    return torch.from_numpy(array).double()


class Draw:
    """Weights by name, drawn when they are asked for."""

    def __init__(self, random):
        self.random, self.made = random, {}

    def __call__(self, name, *shape, low=-1.0, high=1.0):
        self.made[name] = self.random.uniform(low, high, shape).astype(np.float32)
        return wide(self.made[name])

    def fill(self, module, names):
        """A module of PyTorch's with weights by Loom's names: {its name: ours}."""
        module = module.double().eval()
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        with torch.no_grad():
            for theirs, ours in names.items():
                low = 0.2 if theirs == "running_var" else -0.6
                own[theirs].copy_(self(ours, *own[theirs].shape, low=low, high=-low if low < 0 else 2.0))
        return module


def cell_names(path, directions):
    return {f"{role}_l0{direction}": f"{path}.{role}{direction}"
            for role in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"] for direction in directions}


BOTH_WAYS = ["", "_reverse"]


@case("gru", (6, 5), [{"type": "gru", "hidden_size": 7}])
def gru(x, draw):
    return draw.fill(torch.nn.GRU(5, 7, batch_first=True), cell_names("layers.0", [""]))(x)[0]


@case("gru_last_states", (5, 4), [{"type": "gru", "hidden_size": 3, "bidirectional": True, "return_sequences": False}])
def gru_last_states(x, draw):
    module = draw.fill(torch.nn.GRU(4, 3, batch_first=True, bidirectional=True), cell_names("layers.0", BOTH_WAYS))
    return module(x)[1].transpose(0, 1).flatten(1)


@case("lstm_both_ways", (7, 4), [{"type": "lstm", "hidden_size": 5, "bidirectional": True}])
def lstm_both_ways(x, draw):
    module = torch.nn.LSTM(4, 5, batch_first=True, bidirectional=True)
    return draw.fill(module, cell_names("layers.0", BOTH_WAYS))(x)[0]


@case("lstm_learned_start", (4, 3), [{"type": "lstm", "hidden_size": 4, "biases": "none", "initial_state": "learned"}])
def lstm_learned_start(x, draw):
    names = {f"{role}_l0": f"layers.0.{role}" for role in ["weight_ih", "weight_hh"]}
    module = draw.fill(torch.nn.LSTM(3, 4, batch_first=True, bias=False), names)
    start = [draw(f"layers.0.initial_{state}", 4).expand(1, len(x), 4) for state in "hc"]
    return module(x, tuple(start))[0]


@case("rnn_relu", (5, 4), [{"type": "rnn", "hidden_size": 6, "activation": "relu"}])
def rnn_relu(x, draw):
    return draw.fill(torch.nn.RNN(4, 6, nonlinearity="relu", batch_first=True), cell_names("layers.0", [""]))(x)[0]


@case("conv1d_grouped_dilated", (6, 17), [{"type": "conv1d", "filters": 9, "kernel_size": 4, "groups": 3, "dilation": 3,
                                           "stride": 2, "padding": 4, "activation": "linear"}])
def conv1d(x, draw):
    module = torch.nn.Conv1d(6, 9, 4, groups=3, dilation=3, stride=2, padding=4)
    return draw.fill(module, {"weight": "layers.0.weight", "bias": "layers.0.bias"})(x)


@case("conv2d_grouped_dilated", (4, 9, 8), [{"type": "conv2d", "filters": 6, "kernel_size": [3, 2], "groups": 2,
                                             "dilation": [2, 3], "stride": [1, 2], "padding": [2, 1], "activation": "linear"}])
def conv2d(x, draw):
    module = torch.nn.Conv2d(4, 6, (3, 2), groups=2, dilation=(2, 3), stride=(1, 2), padding=(2, 1))
    return draw.fill(module, {"weight": "layers.0.weight", "bias": "layers.0.bias"})(x)


@case("max_pool1d", (3, 14), [{"type": "max_pool1d", "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}])
def max_pool1d(x, _):
    return F.max_pool1d(x, 3, stride=2, padding=1, dilation=2)


@case("avg_pool1d", (3, 14), [{"type": "avg_pool1d", "kernel_size": 4, "stride": 3, "padding": 2, "count_include_pad": False}])
def avg_pool1d(x, _):
    return F.avg_pool1d(x, 4, stride=3, padding=2, count_include_pad=False)


@case("avg_pool2d", (2, 7, 6), [{"type": "avg_pool2d", "kernel_size": [3, 2], "padding": [1, 0]}])
def avg_pool2d(x, _):
    return F.avg_pool2d(x, (3, 2), padding=(1, 0))


def heads(x, weight, bias, count):
    return F.linear(x, weight, bias).unflatten(-1, (count, -1)).transpose(1, 2)


def attention(draw, x, count, kv_count, size, kept, turn=lambda head: head):
    def projected(role, count):
        # So that scores are some units, of which an exponential makes no large errors.
        weight = draw(f"layers.0.{role}_weight", count * size, x.shape[-1], low=-0.5, high=0.5)
        return heads(x, weight, draw(f"layers.0.{role}_bias", count * size), count)

    q, k, v = turn(projected("q", count)), turn(projected("k", kv_count)), projected("v", kv_count)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=kept, enable_gqa=True).transpose(1, 2).flatten(2)
    return F.linear(y, draw("layers.0.o_weight", x.shape[-1], count * size), draw("layers.0.o_bias", x.shape[-1]))


MASK = np.random.RandomState(SEED).uniform(size=(9, 9)) < 0.7
np.fill_diagonal(MASK, True)
DISTANCE = torch.arange(9)[:, None] - torch.arange(9)


@case("attention_grouped_window_mask", (9, 6), [{
    "type": "multi_head_attention", "num_heads": 6, "num_kv_heads": 2, "head_dim": 3, "rope": False, "sliding_window": 4,
    "attention_mask": MASK.tolist()}])
def attention_grouped(x, draw):
    return attention(draw, x, 6, 2, 3, (DISTANCE >= 0) & (DISTANCE < 4) & torch.from_numpy(MASK))


@case("attention_window_both_sides", (9, 5), [{
    "type": "multi_head_attention", "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "rope": False, "causal": False,
    "sliding_window": 3}])
def attention_both_sides(x, draw):
    return attention(draw, x, 2, 1, 4, DISTANCE.abs() < 3)


def turned(head):
    """A pair of a head's elements, half its size apart, as a complex number, turned by its angle."""
    half = head.shape[-1] // 2
    angle = torch.arange(head.shape[2]).double()[:, None] * 500.0 ** (-torch.arange(half).double() / half)
    y = torch.complex(head[..., :half], head[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([y.real, y.imag], -1)


@case("attention_rotary", (9, 6), [{"type": "multi_head_attention", "num_heads": 4, "num_kv_heads": 2, "head_dim": 6,
                                    "rope_freq_base": 500}])
def attention_rotary(x, draw):
    return attention(draw, x, 4, 2, 6, DISTANCE >= 0, turned)


@case("attention_of_pytorch", (6, 8), [{"type": "multi_head_attention", "num_heads": 2, "rope": False, "causal": False}])
def attention_of_pytorch(x, draw):
    module = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    parts = [(draw(f"layers.0.{role}_weight", 8, 8), draw(f"layers.0.{role}_bias", 8)) for role in "qkv"]
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([weight for weight, _ in parts]))
        module.in_proj_bias.copy_(torch.cat([bias for _, bias in parts]))
        module.out_proj.weight.copy_(draw("layers.0.o_weight", 8, 8))
        module.out_proj.bias.copy_(draw("layers.0.o_bias", 8))
        return module(x, x, x, need_weights=False)[0]


@case("sparsemax", (5, 7), [{"type": "softmax", "softmax_variant": "sparsemax", "axis": 0}])
def sparsemax_(x, _):
    return sparsemax(x, dim=1)


@case("entmax15", (4, 9), [{"type": "softmax", "softmax_variant": "entmax", "temperature": 0.5}])
def entmax15_(x, _):
    return entmax15(x / 0.5, dim=-1)


@case("entmax_1.3", (4, 9), [{"type": "softmax", "softmax_variant": "entmax", "entmax_alpha": 1.3}])
def entmax_(x, _):
    return entmax_bisect(x, alpha=1.3, dim=-1, n_iter=100)


NORM_NAMES = {"weight": "layers.0.gamma", "bias": "layers.0.beta"}
STATISTICS = {name: f"layers.0.{name}" for name in ["running_mean", "running_var"]}


@case("batch_norm", (4, 3, 5), [{"type": "batch_norm", "epsilon": 0.001}])
def batch_norm(x, draw):
    return draw.fill(torch.nn.BatchNorm2d(4, eps=0.001), NORM_NAMES | STATISTICS)(x)


@case("layer_norm_of_two_axes", (3, 4, 5), [{"type": "layer_norm", "norm_size": 20}])
def layer_norm(x, draw):
    return draw.fill(torch.nn.LayerNorm((4, 5)), NORM_NAMES)(x)


@case("rms_norm", (3, 10), [{"type": "rms_norm", "epsilon": 0.01}])
def rms_norm(x, draw):
    return draw.fill(torch.nn.RMSNorm(10, eps=0.01), {"weight": "layers.0.gamma"})(x)


@case("swiglu", (3, 6), [{"type": "swiglu", "intermediate_size": 10}])
def swiglu(x, draw):
    def linear(role, rows, columns):
        return lambda x: F.linear(x, draw(f"layers.0.{role}_weight", rows, columns), draw(f"layers.0.{role}_bias", rows))

    return linear("down", 6, 10)(F.silu(linear("gate", 10, 6)(x)) * linear("up", 10, 6)(x))


@case("embedding", (5,), [{"type": "embedding", "vocab_size": 11, "embedding_dim": 4}])
def embedding(x, draw):
    return F.embedding(x.long(), draw("layers.0.weight", 11, 4))


@case("top_two_experts", (5,), [{
    "type": "parallel", "combine_mode": "filter", "filter_top_k": 2, "filter_gate": {"type": "dense", "output_size": 3},
    "branches": [{"type": "stitch", "output_size": 4}] * 3}])
def top_two_experts(x, draw):
    def linear(path, size):
        return F.linear(x, draw(f"layers.0.{path}.weight", size, 5), draw(f"layers.0.{path}.bias", size))

    best = linear("filter_gate", 3).topk(2)
    outputs = torch.stack([linear(f"branches.{k}", 4) for k in range(3)], 1)
    chosen = outputs.gather(1, best.indices[..., None].expand(-1, -1, 4))
    return (chosen * best.values.softmax(-1)[..., None]).sum(1)


@case("kmeans", (3, 4), [{"type": "kmeans", "num_clusters": 5, "distance_metric": "euclidean", "kmeans_temperature": 0.7}])
def kmeans(x, draw):
    centres = draw("layers.0.cluster_centers", 5, 4)
    return (-torch.cdist(x, centres.expand(len(x), 5, 4)) / (2 * 0.7 * 0.7)).softmax(-1)


@case("kmeans_cosine_features", (3, 4), [{"type": "kmeans", "num_clusters": 5, "distance_metric": "cosine",
                                          "kmeans_output_mode": "features"}])
def kmeans_cosine(x, draw):
    centres = draw("layers.0.cluster_centers", 5, 4)
    similar = F.cosine_similarity(x[:, :, None], centres, dim=-1)
    return ((similar - 1) / 2).softmax(-1) @ centres


ACTIVATIONS = {"gelu": F.gelu, "swish": F.silu, "mish": F.mish, "selu": F.selu, "softplus": F.softplus, "tanh": torch.tanh,
               "sigmoid": torch.sigmoid}
for activation, function in ACTIVATIONS.items():
    case(activation, (40,), [{"type": activation}])(lambda x, _, function=function: function(x))
case("gelu_tanh", (40,), [{"type": "gelu", "approximate": "tanh"}])(lambda x, _: F.gelu(x, approximate="tanh"))
case("leaky_relu", (40,), [{"type": "leaky_relu", "negative_slope": 0.2}])(lambda x, _: F.leaky_relu(x, 0.2))
case("elu", (40,), [{"type": "elu", "alpha": 0.7}])(lambda x, _: F.elu(x, 0.7))


def tensors(name):
    """Of a case: its weights, its input, and the output."""
    shape, layers, compute = CASES[name]
    random = np.random.RandomState([SEED, *name.encode()])
    if layers[0]["type"] == "embedding":
        x = random.randint(0, layers[0]["vocab_size"], (2, *shape)).astype(np.float32)
    else:
        x = random.uniform(-3, 3, (2, *shape)).astype(np.float32)
    draw = Draw(random)
    with torch.no_grad():
        output = compute(wide(x), draw)
    return draw.made | {"input": x, "output": np.ascontiguousarray(output.numpy())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks = [{"id": name, "batch_size": 2, "input_shape": list(shape), "layers": layers}
                for name, (shape, layers, _) in CASES.items()]
    text = "[\n" + ",\n".join(json.dumps(network) for network in networks) + "\n]\n"
    made = {f"{name}/{key}": tensor for name in CASES for key, tensor in tensors(name).items()}
    if not args.check:
        INDEX.write_text(text)
        save_file(made, VECTORS)
    found = load_file(VECTORS)
    assert INDEX.read_text() == text and found.keys() == made.keys()
    for key, tensor in made.items():
        exact = not key.endswith("/output")
        assert (found[key] == tensor).all() if exact else np.allclose(found[key], tensor, rtol=1e-13, atol=1e-14), key
    print(f"{len(CASES)} cases")


if __name__ == "__main__":
    main()
