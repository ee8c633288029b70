"""Counts the instructions of a run of small networks on the CPU, under valgrind:

    cargo build --release -p loomc
    python3 bench/instructions.py [--loomc target/release/loomc] [--level avx2] [--against FILE] [--limit PERCENT] [NAME ...]

A count is the difference between a process that runs a network five times and one that runs it once, over one thread,
so what is done once (reading, passes, code, packing) is not in it, and is printed beside it. Where times are noisy, as
on shared machines, counts still show what a change does; how long an instruction takes they do not tell. valgrind knows
no AVX-512. `--against` compares with counts that an earlier run printed, and with `--limit` it is an error if a run of a network
takes more instructions than that: `.ci/run` compares with `instructions.md`, counted with the program that the tests build.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def dense(size, activation="linear"):
    return {"type": "dense", "output_size": size, "activation": activation}


NETWORKS = {
    "mlp": (1, [784], [dense(512, "relu"), dense(512, "relu"), dense(10)]),
    "mlp16": (16, [784], [dense(512, "relu"), dense(512, "relu"), dense(10)]),
    "gemm256": (256, [256], [dense(256)]),
    "matvec1024": (1, [1024], [dense(1024)]),
    "conv": (1, [16, 28, 28], [{"type": "conv2d", "filters": 32, "kernel_size": 3, "padding": 1, "activation": "relu"}]),
    "lstm": (1, [16, 64], [{"type": "lstm", "hidden_size": 64}]),
    "attention": (1, [64, 128], [{"type": "multi_head_attention", "num_heads": 4}]),
    "softmax": (64, [1024], [{"type": "softmax"}]),
    "layernorm": (64, [1024], [{"type": "layer_norm"}]),
    "gelu": (64, [1024], [{"type": "gelu"}]),
}


def collected(command, environment):
    """How many instructions a process executes."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(valgrind + command, env=environment, capture_output=True, text=True)
    count = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or count is None:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return int(count.group(1))


def counts(loomc, config, environment):
    """Of one run, and of all that is done once."""
    bench = [loomc, "bench", str(config), "--device", "cpu", "--threads", "1", "--runs"]
    few, more = (collected(bench + [runs], environment) for runs in ("1", "5"))
    run = (more - few) / 4
    # `bench` runs once before it counts.
    return round(run), round(few - 2 * run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of " + ", ".join(NETWORKS))
    parser.add_argument("--loomc", default="target/release/loomc")
    parser.add_argument("--level", default="avx2", choices=["portable", "avx2"])
    parser.add_argument("--against", type=pathlib.Path, metavar="FILE", help="what an earlier run printed")
    parser.add_argument("--limit", type=float, metavar="PERCENT", help="how many more a run may take than before")
    arguments = parser.parse_args()
    if arguments.limit is not None and not arguments.against:
        parser.error("--limit goes with --against")
    unknown = set(arguments.names) - set(NETWORKS)
    if unknown:
        parser.error(f"no network {', '.join(sorted(unknown))}")
    before = {}
    if arguments.against:
        rows = re.findall(r"^\| (\w+) \| ([\d,]+) \|", arguments.against.read_text(), re.MULTILINE)
        before = {name: int(count.replace(",", "")) for name, count in rows}
    environment = {**os.environ, "LOOM_CPU": arguments.level, "LOOM_CACHE": "off"}

    print("| network | instructions a run | before the first |" + (" of those before |" if before else ""))
    print("|---|---|---|" + ("---|" if before else ""))
    grown = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or NETWORKS:
            batch, shape, layers = NETWORKS[name]
            config = pathlib.Path(folder, f"{name}.json")
            config.write_text(json.dumps({"batch_size": batch, "input_shape": shape, "layers": layers}))
            run, once = counts(arguments.loomc, config, environment)
            row = f"| {name} | {run:,} | {once:,} |"
            if name in before:
                row += f" {run / before[name]:.3f} |"
            elif before and arguments.limit is not None:
                grown.append(f"{name} (not in {arguments.against})")
            if arguments.limit is not None and run > before.get(name, run) * (1 + arguments.limit / 100):
                grown.append(name)
            print(row, flush=True)
    if grown:
        sys.exit(f"more than {arguments.limit} % more instructions a run: {', '.join(grown)}; if that is meant, write the "
                 f"counts to {arguments.against}")


if __name__ == "__main__":
    main()
