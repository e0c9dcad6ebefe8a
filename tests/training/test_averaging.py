import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sempre.training.optimisation import AveragedTraining, bias_corrected


@pytest.mark.parametrize("decay", [0.5, 0.998])
def test_is_the_mean_weighted_by_age(decay):
    """Against the weighted mean of all weights, which needs them all."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    average = AveragedModel(layer, multi_avg_fn=bias_corrected(decay))
    seen = []
    for _ in range(40):
        with torch.no_grad():
            layer.weight.normal_()
        seen.append(layer.weight.detach().clone())
        average.update_parameters(layer)
    ages = torch.arange(len(seen) - 1, -1, -1, dtype=torch.float64)
    shares = decay**ages / (decay**ages).sum()
    expected = sum(share * weight.double() for share, weight in zip(shares, seen, strict=True))
    torch.testing.assert_close(average.module.weight.double(), expected, atol=1e-5, rtol=1e-4)


def test_a_training_learns_by_its_losses_and_averages_what_it_learnt():
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    model = AveragedTraining(network, lambda answer, target: {"loss": (answer - target).abs().mean()}, decay=0.5)
    first = network.weight.detach().clone()
    image, target = torch.randn(4, 3), torch.zeros(4, 1)
    loss = model(image=image, target=target)["loss"]
    torch.testing.assert_close(loss, network(image).abs().mean())
    loss.backward()
    assert network.weight.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in model.average.parameters())
    model.follow()
    torch.testing.assert_close(model.average.module.weight, first)
    with torch.no_grad():
        network.weight += 3
    model.follow()
    # At a decay of 0.5 the newest of two counts two thirds.
    torch.testing.assert_close(model.average.module.weight, first + 2)
