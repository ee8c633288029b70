#!/bin/sh
# Instructions of a run of each network, counted by callgrind: where other work makes time too noisy, these repeat exactly.
#
#     bench/instructions.sh FOLDER PROGRAM [NAME ...]
#
# FOLDER is what bench/peers/networks.py writes, PROGRAM is `peer_loom` (see bench/peers/README.md). Valgrind knows no AVX-512, so
# that it is the level avx2 which is counted. Of two processes, one of which runs a network ten times more often, the difference
# is ten runs.
set -eu
folder=$1
program=$2
shift 2
[ $# -gt 0 ] || set -- N1_b1 N2_b1 N3_1x1 N5 gemm_256 softmax layer_norm gelu

count() {
    printf 'load %s\ngo %s\n' "$1" "$2" |
        LOOM_CPU=avx2 valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$folder" 1 2>&1 >/dev/null |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

echo '| network | instructions of a run |'
echo '|---|---|'
for name in "$@"; do
    few=$(count "$name" 1)
    many=$(count "$name" 11)
    echo "| $name | $(((many - few) / 10)) |"
done
