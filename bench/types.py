"""How long examples/mnist takes with its weights in every number format: the table of its README.

    cargo build --release -p loomc
    python3 bench/types.py [--loomc target/release/loomc] [--rounds 5]

One thread of the CPU, the 500 digits in batches of 50. The formats take turns, round by round; of each the least and the median
of all runs are printed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent / "examples" / "mnist"
GROUPED = {"f4", "i4"}
FORMATS = ["f32", "f16", "bf16", "f8", "f4", "i64", "i32", "i16", "i8", "i4", "u64", "u32", "u16", "u8"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loomc", default="target/release/loomc")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    weights, digits = EXAMPLE / "weights.safetensors", EXAMPLE / "digits.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name in FORMATS:
            file = pathlib.Path(folder, f"{name}.safetensors")
            groups = ["--group-size", "32"] if name in GROUPED else []
            convert = [arguments.loomc, "convert", weights, file, "--dtype", name, *groups]
            subprocess.run(convert, check=True, capture_output=True)
            runs[f"`{name}`"] = ["net.json", "--weights", file]
        for integers in ("int8", "int4"):
            runs[f"layers of `{integers}`"] = ["net.json", "--precision", integers, "--weights", weights]
        runs["layers of `int8`, `net.int8.json`"] = ["net.int8.json", "--weights", weights]
        runs["layers of `int8`, `net.fixed.json`"] = ["net.fixed.json", "--weights", weights]
        runs["layers of `int8`, `net.affine.json`"] = ["net.affine.json", "--weights", weights]
        seconds = {name: [] for name in runs}
        least = {}
        for _ in range(arguments.rounds):
            for name, (network, *more) in runs.items():
                bench = [arguments.loomc, "bench", EXAMPLE / network, *more, "--input", digits, "--device", "cpu"]
                bench += ["--threads", "1", "--runs", "15", "--json"]
                report = json.loads(subprocess.run(bench, check=True, capture_output=True, text=True).stdout)
                seconds[name].append(report["median_seconds"])
                least[name] = min(least.get(name, 1e9), report["min_seconds"])
    print("| weights | 500 digits: median (least), ms |")
    print("|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {statistics.median(times) * 1e3:.2f} ({least[name] * 1e3:.2f}) |")


if __name__ == "__main__":
    main()
