#!/usr/bin/env bash
# Make the shipped world model: data from our simulator, V-JEPA pretraining, action-conditioned
# post-training, and a decoder that draws what it imagines. Two CPU cores need about an hour; nothing
# is downloaded.
# WORK is where data and runs go; the result replaces models/shipped.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
work=${WORK:-data/demo-model}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
# An interrupted data set is continued.
$python -m simulation generate --recipe configs/simulation/demo_data.yaml \
  --output "$work/episodes" --workers 2
$python -m training pretrain --config configs/training/demo_pretrain.yaml \
  --data "$work/episodes" --output "$work/encoder"
$python -m training posttrain --config configs/training/demo_posttrain.yaml \
  --data "$work/episodes" --encoder "$work/encoder" --latents "$work/latents" \
  --output "$work/world_model"
$python -m training decoder --config configs/training/demo_decoder.yaml \
  --data "$work/episodes" --encoder "$work/encoder" --output "$work/decoder"
cp "$work"/world_model/{config.json,model.safetensors} "$work"/decoder/decoder.{json,safetensors} \
  models/shipped/
echo "models/shipped is new; measure it with: make bench"
