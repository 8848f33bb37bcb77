#!/usr/bin/env bash
# What docs/performance.md shows: bash tools/analysis/measure.sh PART ... (test train_b5
# train_deeplabv2 sizes classes photos windows), JSONs into docs/benchmarks. On an idle machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${OUT:-docs/benchmarks}
TEST=configs/maskclip/maskclip_vit16_520x520_pascal_context_59.py
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
                --baseline --number 6 --repeats 3 ;;
        train_b5)
            measure train_b5 ${STUDENT}_segformer_b5_480x480_8k_pascal_context_59.py \
                --train --baseline --batch 2 --number 1 --repeats 2 ;;
        train_deeplabv2)
            measure train_deeplabv2 ${STUDENT}_deeplabv2_r101-d8_480x480_4k_pascal_context_59.py \
                --train --baseline --batch 2 --number 1 --repeats 2 ;;
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
