#!/usr/bin/env bash
# The figures of the model cards: reconstruction of held-out images, samples of every class, what a classifier makes of
# samples and what it learns from them, and how far samples are from the nearest training image.
#
#   weights/evaluate.sh                    both models, with the images in ../shared/data
#   weights/evaluate.sh xray32             one of them
#   COUNT=16 STEPS=50 weights/evaluate.sh  quicker: fewer samples of each class, fewer sampling steps
#
# DATA and OUT name other places for images and results, MEDFUSION another binary, THREADS the CPU threads. Pictures,
# samples and classifiers lie in target/evaluation/MODEL, the figures in target/evaluation/MODEL/figures.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${DATA:-../shared/data}
out=${OUT:-target/evaluation}
count=${COUNT:-64}
steps=${STEPS:-150}
threads=${THREADS:-$(nproc)}
if [ -z "${MEDFUSION:-}" ]; then
    cargo build --release
    MEDFUSION=target/release/medfusion
fi
export MEDFUSION_LOG=${MEDFUSION_LOG:-warn}

# evaluate MODEL IMAGES HELD_OUT SIZE CLASSES TURNED
evaluate() {
    local model=$1 images=$2 held_out=$3 size=$4 classes=$5 turned=$6
    local here=$out/$model first=0 class set kind

    echo "$model: held-out images through the autoencoder"
    "$MEDFUSION" reconstruct "$held_out" --model "weights/$model" --threads "$threads" \
        --out "$here/reconstructions.png"

    echo "$model: samples"
    rm -rf "$here/samples"
    for class in $classes; do
        # Later classes go on in the numbering: no two images start from the same noise.
        "$MEDFUSION" sample --model "weights/$model" --class "$class" --count "$count" --first "$first" \
            --steps "$steps" --threads "$threads" --out "$here/samples/$class"
        first=$((first + count))
    done
    "$MEDFUSION" data "$here/samples" --size "$size" --per-class 32 --sheet "$here/samples.png"

    for kind in real synthetic; do
        set=$images
        if [ $kind = synthetic ]; then set=$here/samples; fi
        rm -rf "${here:?}/$kind"
        "$MEDFUSION" train classifier --run "weights/$model/classifier.toml" --data "$set" --out "$here/$kind" \
            --set "device.threads=$threads" >/dev/null
    done
    echo "$model: trained on real images, tested on held-out real images"
    "$MEDFUSION" classify "$images" --classifier "$here/real/model" --threads "$threads"
    echo "$model: trained on real images, tested on samples"
    "$MEDFUSION" classify "$here/samples" --classifier "$here/real/model" --threads "$threads"
    echo "$model: trained on samples, tested on held-out real images"
    "$MEDFUSION" classify "$images" --classifier "$here/synthetic/model" --threads "$threads"

    echo "$model: from samples to training images"
    # shellcheck disable=SC2086 # empty means no flag
    "$MEDFUSION" nearest "$here/samples" --data "$images" --size "$size" $turned --out "$here/nearest.png"
    for class in $classes; do
        # The closest pairs of each class, to look at.
        # shellcheck disable=SC2086
        "$MEDFUSION" nearest "$here/samples/$class" --data "$images" --size "$size" $turned \
            --out "$here/nearest-$class.png" >/dev/null
    done
    echo "$model: from held-out real images to training images"
    # shellcheck disable=SC2086
    "$MEDFUSION" nearest "$images" --data "$images" --size "$size" $turned --out "$here/nearest-real.png"
}

if [ $# = 0 ]; then set -- cells64 xray32; fi
for model in "$@"; do
    case $model in
    cells64) arguments=("$data/blood-cells-64" "$data/blood-cells-64/test" 64 "platelets rbc wbc" --turned) ;;
    xray32) arguments=("$data/pneumoniamnist.npz" "$data/pneumoniamnist.npz" 32 "normal pneumonia" "") ;;
    *)
        echo "error: no model $model; expected cells64 or xray32" >&2
        exit 1
        ;;
    esac
    mkdir -p "$out/$model"
    evaluate "$model" "${arguments[@]}" 2>&1 | tee "$out/$model/figures.txt"
done
