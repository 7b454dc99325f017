#!/bin/bash
# Makes one experiment, FOLDER/all, of the seeds that array.sh has run in FOLDER/seed-*.
#
#   sbatch --dependency=afterok:ARRAY_JOB_ID join.sh FOLDER
#
# Nothing is trained again. Without SLURM: bash join.sh FOLDER
#SBATCH --job-name=cpnas-join
#SBATCH --time=00:15:00
#SBATCH --output=%x-%j.log
set -euo pipefail

folder=$1
all=$folder/all
seeds=$(cd "$folder" && printf '%s\n' seed-* | sed 's/^seed-//' | sort -n)
first=$folder/seed-${seeds%%$'\n'*}

settings() { grep -v '^seed:' "$1/config.yaml"; }
mkdir -p "$all/searches" "$all/members"
for seed in $seeds; do
  if ! diff <(settings "$first") <(settings "$folder/seed-$seed"); then
    echo "join.sh: $folder/seed-$seed was run with other settings than $first" >&2
    exit 1
  fi
  cp -R "$folder/seed-$seed/searches/." "$all/searches"
  cp -R "$folder/seed-$seed/members/." "$all/members"
done

# the command, and what it compares, as the first seed was asked for
words=$(python - "$first/experiment.json" <<'END'
import json
import sys

document = json.load(open(sys.argv[1]))
groups = ",".join(document["groups"])
if document["kind"] == "ablation":
    print("ablate-beta --betas", groups)
else:
    print("compare-strategies --strategies", groups)
    if document["random_draws"]:
        print("--random-draws", document["random_draws"])
END
)
# shellcheck disable=SC2086 # they are words
cpnas $words --preset "$first/config.yaml" --seeds "${seeds//$'\n'/,}" --out "$all"
