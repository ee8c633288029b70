"""A worker of bench.py: onnxruntime.   python3 peer_onnxruntime.py FOLDER THREADS

It writes what a network gives to `y.bin` of the network's folder, for the workers after it to compare theirs with.
"""

import pathlib
import sys
import time

import numpy as np
import onnxruntime


class Network:
    def __init__(self, folder, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        # Bound once, so that a run copies nothing.
        self.inputs = []
        for number, value in enumerate(self.session.get_inputs()):
            array = np.fromfile(folder / f"x{number}.bin", dtype=np.float32).reshape(value.shape)
            self.inputs.append(onnxruntime.OrtValue.ortvalue_from_numpy(array))
            self.binding.bind_ortvalue_input(value.name, self.inputs[-1])
        shape = self.session.get_outputs()[0].shape
        self.output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.float32))
        self.binding.bind_ortvalue_output("y", self.output)

    def run(self):
        begun = time.perf_counter_ns()
        self.session.run_with_iobinding(self.binding)
        return time.perf_counter_ns() - begun


def main():
    folder, threads = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    network = None
    for line in sys.stdin:
        command, argument = line.split()
        if command == "load":
            network = Network(folder / argument, threads)
            network.run()
            network.output.numpy().tofile(folder / argument / "y.bin")
            print("ok", 0.0, min(network.run() for _ in range(3)), flush=True)
        elif command == "go":
            print(*(network.run() for _ in range(int(argument))), flush=True)


if __name__ == "__main__":
    main()
