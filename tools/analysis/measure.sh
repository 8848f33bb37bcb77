#!/usr/bin/env bash
# What docs/performance.md shows: bash tools/analysis/measure.sh PART ... (test busy engines
# student segformer_b0 train_b5 train_deeplabv2 sizes classes photos windows). On an idle machine;
# JSONs into a folder of docs/benchmarks that is named after the CPU: vendor_family_model_cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
field() { awk -F': *' -v key="$1" '$1 ~ "^" key "[[:space:]]*$" {print $2; exit}' /proc/cpuinfo; }
CPU=$(field vendor_id)_$(field 'cpu family')_$(field model)_$(nproc)_cores
OUT=${OUT:-docs/benchmarks/$CPU}
TEST=configs/maskclip/maskclip_vit16_520x520_pascal_context_59.py
CPU_STUDENT=configs/photos/efficientnet_lite0.py
STUDENT=configs/maskclip_plus/anno_free/maskclip_plus_vit16
MADE_UP=(--random-weights --synthetic)

measure() {
    python tools/benchmark.py "${@:2}" "${MADE_UP[@]}" --out "$OUT/$1.json"
}

for part in "$@"; do
    case $part in
        test)
            measure test $TEST configs/maskclip/maskclip_r50_520x520_pascal_context_59.py \
                configs/maskclip_text/maskclip_text_vit16_520x520_pascal_context_59.py \
                --baseline --number 2 ;;
        busy)  # while other processes keep every core busy
            (
                trap 'kill $(jobs -p)' EXIT
                for _ in $(seq "$(nproc)"); do yes > /dev/null & done
                measure busy $TEST --baseline --number 2 --repeats 4 --force
            ) ;;
        engines)
            measure engines $TEST --baseline --number 4 \
                --engines onnxruntime openvino torch:bf16 openvino:bf16 onnxruntime:int8 openvino:int8 ;;
        student)  # the default of `maskclip distill` on a CPU
            measure student $TEST $CPU_STUDENT --number 4 \
                --cfg-options test_cfg.engine=onnxruntime ;;
        segformer_b0)
            measure segformer_b0 ${STUDENT}_segformer_b0_480x480_8k_pascal_context_59.py \
                --baseline --number 4 --repeats 3 --engines onnxruntime openvino ;;
        train_b5)
            measure train_b5 ${STUDENT}_segformer_b5_480x480_8k_pascal_context_59.py \
                --train --baseline --batch 2 --number 1 --repeats 3 ;;
        train_deeplabv2)
            measure train_deeplabv2 ${STUDENT}_deeplabv2_r101-d8_480x480_4k_pascal_context_59.py \
                --train --baseline --batch 2 --number 1 --repeats 3 ;;
        sizes)
            measure sizes $TEST --number 2 --repeats 3 --sizes 336 520 768 ;;
        classes)
            for words in voc_20 ade20k pascal_context_459; do
                measure classes_$words $TEST --number 2 --repeats 2 \
                    --cfg-options vocabulary=$words
            done ;;
        photos)
            for number in 4 12 24; do
                measure photos_$number $TEST --number $number --repeats 1
            done ;;
        windows)
            for batch in 1 16; do
                measure windows_$batch configs/beyond/vit16_336_slide_pascal_context_59.py \
                    --number 3 --repeats 3 --cfg-options protocol.windows.batch=$batch
            done ;;
        *)
            echo "error: no part is called $part" >&2
            exit 1 ;;
    esac
done
