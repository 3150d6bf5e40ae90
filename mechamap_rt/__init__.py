"""mechamap_rt: the realtime layer of a community site, as one ``twistd`` plugin."""

__version__ = "0.1.0"
