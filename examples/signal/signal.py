#!/usr/bin/env python3
"""Write input.safetensors: five signals of 4,096 samples, by whole numbers alone.

    python signal.py            # needs nothing but Python
    python signal.py --check    # compares with the file that is there

Two sweeps of a triangle wave, a square wave with a falling edge that wanders, a
pulse that dies away, and noise. A sample is a whole number from -32,768 to
32,767 divided by 32,768, as a sound card gives it, so f32 has it exactly and
every Python writes the same bytes.
"""

import json
import struct
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent / "input.safetensors"
LENGTH = 4096
FULL = 32768


def triangle(phase):
    """A triangle wave; the phase counts 65,536 a period."""
    phase %= 2 * FULL
    return phase * 2 - FULL if phase < FULL else 3 * FULL - 1 - phase * 2


def sweep(first, last):
    phase, wave = 0, []
    for n in range(LENGTH):
        wave.append(triangle(phase))
        phase += first + (last - first) * n // LENGTH
    return wave


def square():
    return [FULL * 3 // 4 if n % 128 < 32 + n // 64 else -FULL * 3 // 4 for n in range(LENGTH)]


def pulses():
    """Every 512 samples a pulse that loses a sixteenth a step."""
    height, wave = 0, []
    for n in range(LENGTH):
        height = FULL - 1 if n % 512 == 0 else height - height // 16
        wave.append(height if n % 2 == 0 else -height)
    return wave


def noise():
    """The high half of a congruential generator."""
    state, wave = 1, []
    for _ in range(LENGTH):
        state = (state * 1664525 + 1013904223) % 2**32
        wave.append((state >> 16) - FULL)
    return wave


def file_bytes():
    signals = [sweep(64, 4096), sweep(8192, 512), square(), pulses(), noise()]
    samples = [value / FULL for signal in signals for value in signal]
    data = struct.pack(f"<{len(samples)}f", *samples)
    header = {"input": {"dtype": "F32", "shape": [len(signals), 1, LENGTH], "data_offsets": [0, len(data)]}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def main():
    if sys.argv[1:] == ["--check"]:
        same = FILE.read_bytes() == file_bytes()
        print(f"{FILE.name} is {'as written here' if same else 'another one'}")
        sys.exit(0 if same else 1)
    FILE.write_bytes(file_bytes())


if __name__ == "__main__":
    main()
