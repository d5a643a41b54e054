#!/bin/bash
# Eight array tasks label one set of photos, each its share of the parts; docs/scaling.md says how to use this file:
#     sbatch --export=ALL,PHOTOS=/data/photos,PARTS=/data/labels/ deploy/slurm-array.sh
#SBATCH --job-name=label-photos
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=label-photos-%A-%a.log
# A minute before the time limit label-dir finishes the photos in work. Submitted again, the job goes on from there.
#SBATCH --signal=TERM@60
set -euo pipefail

: "${PHOTOS:?the folder or URL of the photos}" "${PARTS:?the place of the parts: a folder with a slash, or a URL}"
# srun does not take this number over from sbatch by itself.
exec srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  label-dir --shard auto --errors-ok --quiet "$PHOTOS" "$PARTS"
