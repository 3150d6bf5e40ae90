"""``python -m mechamap_rt.bench``."""

import sys

try:
    from mechamap_rt.bench.cli import main
except ModuleNotFoundError as missing:
    if missing.name != "picows":
        raise
    sys.exit("mechamap-bench needs more than the server does: pip install 'mechamap-rt[bench]'")

if __name__ == "__main__":
    main()
