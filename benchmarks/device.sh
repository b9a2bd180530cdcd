#!/bin/sh
# Everything that is measured on one accelerator, a section after another, each in a process and with a limit of its own.
#
#   benchmarks/device.sh OUT [--tiny] [SECTION…]
#
# Writes OUT/SECTION.json and OUT/SECTION.log; a section that fails is named and the others go on. Without sections all
# of them run. --tiny is a dry run on a CPU. From the environment:
#   PYTHON    an interpreter that has the project and, for the peers, torch and transformers (default: python3)
#   MODEL     a native model folder (default: SmolLM2-135M, fetched)
#   SEGMENTS  segments.jsonl whose instructions are written (default: of a new corpus, see benchmarks/inference.py)
#   PAIRS     pairs.jsonl that are rated
set -u
out=$1
shift
tiny=
[ "${1:-}" = --tiny ] && tiny=--tiny && shift
here=$(dirname "$0")
python=${PYTHON:-python3}
mkdir -p "$out"

documents=1000 peer_documents=256 peer_sizes=64,128 count=256 dtype=bfloat16
[ -n "$tiny" ] && documents=8 peer_documents=4 peer_sizes=4 count=4

run() { # section, seconds, command…
    name=$1 limit=$2
    shift 2
    started=$(date +%s)
    if timeout "$limit" "$@" >"$out/$name.out" 2>"$out/$name.log"; then said='done'; else said="failed with $?"; fi
    [ -s "$out/$name.json" ] || tail -n 1 "$out/$name.out" >"$out/$name.json"
    echo "$name: $said after $(($(date +%s) - started)) s: $(tail -c 1500 "$out/$name.json" | tr -d '\n ')"
    case $said in failed*) tail -n 12 "$out/$name.log" ;; esac
}

section() {
    case $1 in
    parity | inference | signals) model=${MODEL:-$("$python" -m humpback_jax weights fetch smollm2_135m)} ;;
    esac
    case $1 in
    limits | attention | train | decode)
        run "$1" 150 "$python" "$here/device.py" "$1" --out "$out" $tiny
        ;;
    train_peer)
        run "$1" 120 "$python" "$here/device.py" "$1" --out "$out" $tiny
        ;;
    # A JAX process beside a torch one must leave it memory.
    parity)
        run "$1" 60 env XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" -m humpback_jax weights verify "$model" --json
        ;;
    inference)
        run "$1" 150 env XLA_PYTHON_CLIENT_PREALLOCATE=false "$python" "$here/inference.py" --model "$model" --warc "$SEGMENTS" --pairs "$PAIRS" \
            --dtype $dtype --documents $documents --rounds 1 --peer_documents $peer_documents \
            --peer_batch_sizes $peer_sizes --peer_pairs 64 --precision_pairs 0
        ;;
    signals)
        run "$1" 60 "$python" "$here/signals.py" --model "$model" --pairs "$PAIRS" --count $count --dtype $dtype --json
        ;;
    quickstart | quickstart_again)
        smoke=
        [ -n "$tiny" ] && smoke=--gin_file=smoke.gin
        # The second run finds every program compiled.
        run "$1" 240 "$python" -m humpback_jax align --gin_file=experiments/quickstart.gin $smoke \
            --run_dir="$out/runs/$1" --gin.Recipe.data_reader=direct
        ;;
    *)
        echo "unknown section $1" >&2
        exit 2
        ;;
    esac
}

[ $# -gt 0 ] || set -- limits attention train train_peer decode parity inference signals quickstart quickstart_again
for each; do section "$each"; done
