"""What particles are made of: how many electrons each sends out, and the fine texture of its surface."""

import numpy as np

from sempre.images.synthetic.detector import surface_texture
from sempre.images.synthetic.scene import Scene


def material(
    scene: Scene,
    substrate: np.ndarray,
    count: int,
    magnification: str,
    random: np.random.Generator,
    tones: tuple[float, ...] = (),
    spread: float = 0.06,
) -> tuple[np.ndarray, np.ndarray]:
    """Yield `[H, W]` and slopes of the fine texture `[2, H, W]` of substrate and particles.

    Args:
        scene: what is seen.
        substrate: yield of the substrate `[H, W]`, about 1.
        count: particles in the scene.
        magnification: low, medium or high, which sets the grain of the texture.
        random: a NumPy generator.
        tones: yields of the phases that particles are made of; one to three are drawn where none is given.
        spread: of the yield from particle to particle, as the standard deviation of its logarithm.
    """
    if tones:
        phases = np.array(tones)
    else:
        phases = random.uniform(1.3, 3.4) * random.lognormal(0, 0.18, int(random.integers(1, 4)))
    yields = phases[random.integers(len(phases), size=count)] * random.lognormal(0, spread, count)
    yields = np.concatenate([[1.0], yields]).astype(np.float32)
    grain = {"low": 2.0, "medium": 3.5, "high": 7.0}[magnification] * random.uniform(0.7, 1.6)
    texture = surface_texture(substrate.shape, grain, random)
    rough = np.concatenate([[0.0], random.choice([0.02, 0.06, 0.14]) * random.lognormal(0, 0.4, count)])
    # Each particle shows its own part of the texture.
    height, width = substrate.shape
    shift_y, shift_x = random.integers(0, (height, width), (count + 1, 2)).T
    rows = (np.arange(height)[:, None] + shift_y[scene.owner]) % height
    columns = (np.arange(width)[None] + shift_x[scene.owner]) % width
    roughness = texture[:, rows, columns] * rough.astype(np.float32)[scene.owner]
    particle = scene.owner > 0
    return np.where(particle, yields[scene.owner], substrate), roughness
