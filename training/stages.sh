#!/bin/bash
# Runs stages of the training in a row, each resuming from and writing into one folder:
#   training/stages.sh FOLDER STAGE SECONDS [STAGE SECONDS ...]      stages: speech vae talker distill decoder
# With GPUS=3 in the environment vae and talker run on three GPUs.
set -eo pipefail
shared=(python3)
if [ "${GPUS:-1}" -gt 1 ]; then shared=(python3 -m torch.distributed.run --standalone --nproc-per-node "$GPUS"); fi
folder=$1
shift
while [ $# -ge 2 ]; do
    case "$1" in
        speech) python3 -m training.train_wav2vec --resume "$folder/wav2vec.safetensors" --out "$folder" --seconds "$2" ;;
        vae) "${shared[@]}" -m training.train_vae --resume "$folder/vae.safetensors" --out "$folder" --seconds "$2" ;;
        talker) "${shared[@]}" -m training.train_talker --resume "$folder/talker.safetensors" --parts "$folder" --out "$folder" --seconds "$2" ;;
        distill) python3 -m training.distill --resume "$folder/talker.safetensors" --parts "$folder" --out "$folder" --seconds "$2" ;;
        decoder) python3 -m training.train_fast_decoder --resume "$folder/fast_decoder.safetensors" --vae "$folder/vae.safetensors" --out "$folder" --seconds "$2" ;;
        *) echo "unknown stage $1" >&2; exit 2 ;;
    esac
    shift 2
done
