#!/bin/bash
# Runs on the accelerator machine, from the repository's root: one or more stages in a row.
#   training/device.sh STAGE SECONDS [STAGE SECONDS ...]      stages: speech vae talker distill
# "speech+vae SECONDS" runs these two side by side. What a stage makes lies in $OUT and is used by the later ones;
# what earlier runs made is read from training/.state (carried along, with the corpus and the soundfile wheels).
set -eo pipefail
for wheel in training/.state/wheels/*.whl; do python3 -m zipfile -e "$wheel" /tmp/site; done
export PYTHONUNBUFFERED=1 PYTHONPATH=/tmp/site
state=/tmp/state
mkdir -p "$state"
cp training/.state/*.safetensors "$state/" 2>/dev/null || true

stage() {
    case "$1" in
        speech) python3 -m training.train_wav2vec --resume "$state/wav2vec.safetensors" --out "$OUT" --seconds "$2" ;;
        vae) python3 -m training.train_vae --resume "$state/vae.safetensors" --out "$OUT" --seconds "$2" ;;
        talker) python3 -m training.train_talker --resume "$state/talker.safetensors" --parts "$state" --out "$OUT" --seconds "$2" ;;
        distill) python3 -m training.distill --resume "$state/talker.safetensors" --parts "$state" --out "$OUT" --seconds "$2" ;;
        *) echo "unknown stage $1" >&2; exit 2 ;;
    esac
}

while [ $# -ge 2 ]; do
    if [ "$1" = speech+vae ]; then
        stage speech "$2" > "$OUT/speech.log" 2>&1 &
        stage vae "$2" 2>&1 | tee "$OUT/vae.log"
        wait
        tail -n 3 "$OUT/speech.log"
    else
        stage "$1" "$2" 2>&1 | tee "$OUT/$1.log"
    fi
    cp "$OUT"/*.safetensors "$state/"
    shift 2
done
