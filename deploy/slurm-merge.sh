#!/bin/bash
# One table of all parts, after all tasks of slurm-array.sh have ended well:
#     sbatch --dependency=afterok:ARRAY_JOB --export=ALL,PARTS=/data/labels/,OUT=/data/labels.parquet deploy/slurm-merge.sh
#SBATCH --job-name=merge-labels
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=merge-labels-%j.log
set -euo pipefail

: "${PARTS:?the place of the parts: a folder or a URL}" "${OUT:?the table, which ends in .parquet or .csv}"
exec srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" label-merge "$PARTS" "$OUT"
