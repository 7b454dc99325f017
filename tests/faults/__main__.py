"""The fault suite at length: `python -m tests.faults --changes 300 --kills 30`; prints what docs/robustness.md says."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100, help="of every file: this many of each of three kinds")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    import changed_bytes
    import killed_commands
    import made_runs
    import torch

    torch.set_num_threads(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CPNAS_CACHE_DIR"] = str(folder / "cache")
        made_runs.make(folder)
        print("| file | changed | refused | noted | read as it was | read otherwise |")
        print("| --- | --- | --- | --- | --- | --- |")
        for file in changed_bytes.READERS:
            found = changed_bytes.outcomes(folder, file, seed=arguments.seed, num_changes=arguments.changes)
            row = [found[key] for key in ("refused", "noted", "as it was", "WRONG")]
            wrong += row[-1]
            print(f"| `{file}` | {sum(row)} | {' | '.join(map(str, row))} |", flush=True)
        print(f"\ntwo at once: {dict(killed_commands.two_at_once(folder))}", flush=True)
        print(f"clock set back: {'the same' if killed_commands.clock_set_back(folder) else 'DIFFERENT'}", flush=True)
        kills = killed_commands.kill_and_go_on(folder, seed=arguments.seed, num_kills=arguments.kills)
        print(f"killed: {dict(kills)}")
    return 1 if wrong or kills["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
