"""Weight averaging and BatchNorm re-estimation against numbers computed by hand."""

import pytest
import torch
from torch import nn

from frlib.averaging import averaged, reestimate_batchnorm


def network():
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.0))


def test_the_average_gives_every_weight_set_the_same_share():
    model = nn.Linear(3, 2)
    average = averaged(model)
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.bias.copy_(torch.tensor([value, -value]))
        average.update_parameters(model)
    assert torch.equal(average.module.weight, torch.full((2, 3), 3.0))
    assert torch.equal(average.module.bias, torch.tensor([3.0, -3.0]))
    assert average.n_averaged == 3
    assert torch.equal(model.weight, torch.full((2, 3), 6.0))  # the model itself stays


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wrap", [averaged, lambda model: model])
def test_batchnorm_takes_the_average_of_the_batches(wrap, training):
    model = wrap(network())
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    norm.running_mean.fill_(50)
    norm.running_var.fill_(9)
    model.train(training)
    batches = [torch.rand(4, 2, 5, 5) * scale for scale in (1, 2, 5)]
    with torch.no_grad():
        inputs = [conv(batch).transpose(0, 1).flatten(1) for batch in batches]
    weights = [p.clone() for p in model.parameters()]
    reestimate_batchnorm(model, iter(batches))
    mean = torch.stack([z.mean(1) for z in inputs]).mean(0)
    var = torch.stack([z.var(1, unbiased=True) for z in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.momentum == 0.1
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
