#!/usr/bin/env python3
"""Cold start: from starting a process to its first result, and the memory that it had at most.

    cargo build --release -p loomc
    python3 bench/start.py [--rounds N] [LOOMC ...]

The networks: `mlp`, 784-512-512-10 with one sample, from a compiled `.loom` and from its config with weights beside it;
`large`, three layers of 4096 by 4096 (201 MB of weights), from a `.loom`; `encoder`, examples/encoder, whose code takes
longest; `mnist`, examples/mnist with its 500 digits. Programs run in turns, so that other work on the machine meets all of them. Several LOOMC are compared: the last
columns are ratios to the first one's medians.

A process is started by a small one of its own: the peak memory that the system tells of a process is at least that of the
process which started it.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Starts its arguments and prints milliseconds and KiB.
STARTER = """
import os, sys, time
null = os.open(os.devnull, os.O_WRONLY)
begin = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, used = os.wait4(child, 0)
end = time.perf_counter()
print((end - begin) * 1e3, used.ru_maxrss, status)
"""


def mlp(sizes):
    layers = [{"type": "dense", "input_size": sizes[0], "output_size": sizes[1], "activation": "relu"}]
    layers += [{"type": "dense", "output_size": size, "activation": "relu"} for size in sizes[2:-1]]
    layers += [{"type": "dense", "output_size": sizes[-1], "activation": "linear"}]
    return {"id": "mlp", "batch_size": 1, "layers": layers}


def weights_of(artifact, path):
    """The tensors of a compiled network as a file of their own."""
    with open(artifact, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def start(command):
    starter = [sys.executable, "-I", "-S", "-c", STARTER, *command]
    told = subprocess.run(starter, capture_output=True, check=True, text=True).stdout.split()
    if told[2] != "0":
        sys.exit(f"{command}: status {told[2]}")
    return float(told[0]), int(told[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", help="threads of the device cpu")
    parser.add_argument("--device", help="the device; each case then runs once before, which fills a GPU's caches")
    parser.add_argument("programs", nargs="*", default=[os.path.join(ROOT, "target/release/loomc")], metavar="LOOMC")
    args = parser.parse_args()
    programs = [os.path.abspath(program) for program in args.programs]
    more = ["--threads", args.threads] if args.threads else []
    more += ["--device", args.device] if args.device else []

    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        for name, sizes in [("mlp", [784, 512, 512, 10]), ("large", [4096, 4096, 4096, 4096, 10])]:
            with open(path(name + ".json"), "w") as file:
                json.dump(mlp(sizes), file)
            subprocess.run([programs[0], "compile", path(name + ".json"), "--target", "cpu"], check=True)
        encoder = os.path.join(ROOT, "examples/encoder/net.json")
        compile_encoder = [programs[0], "compile", encoder, "--target", "cpu", "-o", path("encoder.loom")]
        subprocess.run(compile_encoder, check=True)
        weights_of(path("mlp.loom"), path("mlp.safetensors"))
        mnist = ["net.json", "--weights", "weights.safetensors", "--input", "digits.safetensors"]
        folder_of = os.path.join(ROOT, "examples/mnist")
        digits = [part if part.startswith("--") else os.path.join(folder_of, part) for part in mnist]
        cases = {
            "only the version": ["--version"],
            "mnist": ["run", *digits, "--digest", *more],
            "mlp.loom": ["run", path("mlp.loom"), "--digest", *more],
            "mlp.json": ["run", path("mlp.json"), "--weights", path("mlp.safetensors"), "--digest", *more],
            "encoder.loom": ["run", path("encoder.loom"), "--digest", *more],
            "large.loom": ["run", path("large.loom"), "--digest", *more],
        }
        found = {(name, program): [] for name in cases for program in programs}
        if args.device:
            for name, program in found:
                start([program, *cases[name]])
        for _ in range(args.rounds):
            for name, program in found:
                found[name, program].append(start([program, *cases[name]]))

    print("case              program      median ms  least ms  peak MiB   ratio")
    for (name, program), runs in found.items():
        times = [time for time, _ in runs]
        base = statistics.median(time for time, _ in found[name, programs[0]])
        peak = statistics.median(peak for _, peak in runs)
        number = programs.index(program) + 1
        median = statistics.median(times)
        print(f"{name:17} {number:7} {median:14.2f} {min(times):9.2f} {peak:9.1f} {median / base:7.2f}")


main()
