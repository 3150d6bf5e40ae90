"""``python -m mechamap_rt.bench``."""

from mechamap_rt.bench.cli import main

if __name__ == "__main__":
    main()
