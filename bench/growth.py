"""How Loom's time grows with the batch and the width of a network: a table, and a plot as SVG.

    python3 growth.py FOLDER --loom PROGRAM [--svg FILE] [--rounds 9] [--slice-ms 20] [--clock wall|cpu]

FOLDER is where the networks are written to; PROGRAM is `peer_loom` (see peers/README.md). Of each series the time for a
multiplication and addition is compared with that of the point before: the column "to linear" is 1 where the time grows as
the work does. One thread; medians of rounds in which all points take turns.
"""

import argparse
import json
import math
import pathlib
import statistics
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))
from bench import Worker  # noqa: E402

COLOURS = ["#1b6ca8", "#c1440e", "#3a7d44", "#7d3a78"]


def network(batch, sizes):
    layers = [{"type": "dense", "output_size": size, "activation": "linear"} for size in sizes[1:]]
    return {"batch_size": batch, "input_shape": [sizes[0]], "layers": layers}, batch * sum(a * b for a, b in zip(sizes, sizes[1:]))


SERIES = {
    "MLP 784-512-512-10, by batch": [(batch, *network(batch, [784, 512, 512, 10])) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "dense n to n, 1 sample, by n": [(n, *network(1, [n, n])) for n in (64, 128, 256, 512, 1024, 2048, 4096)],
    "dense n to n, 64 samples, by n": [(n, *network(64, [n, n])) for n in (64, 128, 256, 512, 1024, 2048, 4096)],
    "dense 1024 to 1024, by batch": [(batch, *network(batch, [1024, 1024])) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
}


def write(folder, name, config):
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "net.json").write_text(json.dumps(config))
    count = config["batch_size"] * math.prod(config["input_shape"])
    numbers = [((i * 7919) % 2003) / 1001.5 - 1 for i in range(count)]
    (place / "x0.bin").write_bytes(struct.pack(f"<{count}f", *numbers))


def measure(worker, names, options):
    """Nanoseconds of each network, all of which take turns."""
    rounds = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            _, nanoseconds = worker.load(name)
            runs = max(3, min(2000, int(options.slice_ms * 1e6 / max(1, nanoseconds))))
            rounds[name].append(worker.go(runs, options.clock)[0])
    return {name: statistics.median(times) for name, times in rounds.items()}


def plot(series):
    """Nanoseconds for a thousand multiplications and additions, both axes logarithmic."""
    width, height, left, bottom, top = 760, 420, 60, 50, 20
    xs = [math.log2(x) for points in series.values() for x, _ in points]
    ys = [math.log2(y) for points in series.values() for _, y in points]
    low, high = math.floor(min(ys)), math.ceil(max(ys))
    across = lambda x: left + (math.log2(x) - min(xs)) / (max(xs) - min(xs)) * (width - left - 20)
    up = lambda y: height - bottom - (math.log2(y) - low) / (high - low) * (height - bottom - top)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for power in range(low, high + 1):
        y = up(2**power)
        out.append(f'<path d="M{left} {y:.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{2**power:g}</text>')
    for power in range(int(min(xs)), int(max(xs)) + 1, 2):
        out.append(f'<text x="{across(2**power):.1f}" y="{height - bottom + 18}" text-anchor="middle">{2**power}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">batch or width</text>')
    out.append(f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">ns for 1000 multiplications and additions</text>')
    for number, (name, points) in enumerate(series.items()):
        colour, line = COLOURS[number % len(COLOURS)], " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{width - 240}" y="{top + 16 * (number + 1)}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--loom", required=True)
    parser.add_argument("--svg")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slice-ms", type=float, default=20)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    worker = Worker([options.loom, str(folder), "1"], 1)
    series = {}
    for number, (title, points) in enumerate(SERIES.items()):
        names = [f"growth_{number}_{x}" for x, _, _ in points]
        for name, (_, config, _) in zip(names, points):
            write(folder, name, config)
        times = measure(worker, names, options)
        print(f"\n| {title} | µs | GFLOP/s | to linear |\n|---|---|---|---|")
        before = None
        for name, (x, _, work) in zip(names, points):
            each = times[name] / work
            ratio = f"{each / before:.2f}" if before else ""
            print(f"| {x} | {times[name] / 1e3:.1f} | {2 / each:.1f} | {ratio} |", flush=True)
            series.setdefault(title, []).append((x, each * 1000))
            before = each
    worker.close()
    if options.svg:
        pathlib.Path(options.svg).write_text(plot(series))


if __name__ == "__main__":
    main()
