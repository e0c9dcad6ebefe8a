import torch

from sempre.models.unet import UNet
from sempre.training.optimisation import estimate_statistics


def test_statistics_are_averages_over_all_batches():
    torch.manual_seed(0)
    network = UNet(1, width=4)
    batches = torch.randn(12, 1, 16, 16).split(4)
    for _ in range(2):
        estimate_statistics(network, batches)
        convolution, normalisation = network.down[0][:2]
        seen = [convolution(batch) for batch in batches]
        for found, expected in (
            (normalisation.running_mean, [values.mean((0, 2, 3)) for values in seen]),
            (normalisation.running_var, [values.var((0, 2, 3)) for values in seen]),
        ):
            torch.testing.assert_close(found, torch.stack(expected).mean(0), atol=1e-5, rtol=1e-4)
        assert normalisation.momentum == 0.1
        assert not network.training
