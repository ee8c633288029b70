"""Loom beside onnxruntime, in turns: in each round every worker runs a network for about one slice of time, one after another.

    python3 bench.py FOLDER --loom PROGRAM [--threads 1,2] [--rounds 15] [--slice-ms 30] [--clock wall|cpu] [NAME ...]

Printed for each number of threads: the least and the median time of a run, and the ratio Loom / onnxruntime, the median of
the rounds' ratios of medians; at the end their geometric mean. A worker whose turn it isn't is stopped: threads that wait for work in
a loop, as some runtimes' do, would take a processor from the other one. See README.md.
"""

import argparse
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Largest error that Loom may have from onnxruntime, of the largest number of a network's output: both compute the same.
TOLERANCE = 1e-4
# Networks in the geometric mean: all but that which shows the cost of a call.
NOT_IN_THE_MEAN = {"call"}


class Worker:
    """A process that runs networks. Its protocol: `load NAME` is answered by `ok ERROR NANOSECONDS`, `go N` by N times."""

    def __init__(self, command, threads):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, line):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if answer:
            self.process.send_signal(signal.SIGSTOP)
        else:
            sys.exit(f"a worker ended at `{line}`")
        return answer

    def load(self, name):
        state, error, nanoseconds = self.ask(f"load {name}")
        if state != "ok":
            sys.exit(f"{name}: {state} {error}")
        return float(error), int(nanoseconds)

    def on_processor(self):
        """Nanoseconds that the worker's first thread has run for, while it waits."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    def go(self, runs, clock):
        """Nanoseconds of a run: the median by the wall's clock, the mean by the processor's."""
        begin = self.on_processor() if clock == "cpu" else 0
        times = [int(word) for word in self.ask(f"go {runs}")]
        if clock == "cpu":
            mean = (self.on_processor() - begin) / runs
            return mean, mean
        return statistics.median(times), min(times)

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def measure(name, workers, options):
    """Median and least microseconds of each worker, and the ratio of the second to the first."""
    runs = []
    for worker in workers:
        error, nanoseconds = worker.load(name)
        if not error <= TOLERANCE:
            sys.exit(f"{name}: Loom's result differs from onnxruntime's by {error:.1e} of its largest number")
        runs.append(max(3, min(2000, int(options.slice_ms * 1e6 / max(1, nanoseconds)))))
    rounds = [[worker.go(count, options.clock) for worker, count in zip(workers, runs)] for _ in range(options.rounds)]
    times = [
        (statistics.median(round[number][0] for round in rounds) / 1e3, min(round[number][1] for round in rounds) / 1e3)
        for number in range(len(workers))
    ]
    return times, statistics.median(round[1][0] / round[0][0] for round in rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--loom", required=True, help="the program `peer_loom`")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slice-ms", type=float, default=30)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_intermixed_args()
    folder = pathlib.Path(options.folder)
    names = options.names or [path.parent.name for path in sorted(folder.glob("*/model.onnx"))]
    for threads in map(int, options.threads.split(",")):
        if options.clock == "cpu" and threads > 1:
            sys.exit("the processor's clock is that of one thread")
        commands = [[sys.executable, str(HERE / "peer_onnxruntime.py")], [options.loom]]
        workers = [Worker([*command, str(folder), str(threads)], threads) for command in commands]
        print(f"\n| {threads} thread{'s' * (threads > 1)}, µs | onnxruntime (least) | Loom (least) | Loom / onnxruntime | of the least |")
        print("|---|---|---|---|---|")
        ratios = []
        for name in names:
            (peer, loom), ratio = measure(name, workers, options)
            cells = [f"{median:.1f} ({least:.1f})" for median, least in (peer, loom)]
            print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} | {loom[1] / peer[1]:.2f} |", flush=True)
            if name not in NOT_IN_THE_MEAN:
                ratios.append((ratio, loom[1] / peer[1]))
        if ratios:
            means = [math.exp(statistics.fmean(math.log(pair[which]) for pair in ratios)) for which in (0, 1)]
            print(f"| geometric mean | | | {means[0]:.2f} | {means[1]:.2f} |", flush=True)
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
