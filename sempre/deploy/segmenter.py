"""An alias of `sempre.deploy.networks.segmenter`, whose class other programs know by this name."""

from sempre.deploy.networks.segmenter import Segmenter

__all__ = ["Segmenter"]
