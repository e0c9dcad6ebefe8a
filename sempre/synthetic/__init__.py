"""Micrographs with the instances in them, rendered from a seed: of particles by electrons, of a fungus by light.

Each name of `__init__.pyi` is imported when it is first used, so that a program loads what it takes (SPEC 1).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
