"""Adam, beside PyTorch's."""

import torch

from lab.ppo.adam import Adam


def test_it_goes_where_pytorchs_goes():
    random = torch.Generator().manual_seed(0)
    ours = torch.randn(50, generator=random)
    theirs, gradient = ours.clone().requires_grad_(), torch.zeros(50)
    adam, reference = Adam(ours, gradient), torch.optim.Adam([theirs], eps=1e-5)
    for learning_rate in (1e-2, 1e-2, 1e-3, 1e-1):
        gradient.copy_(torch.randn(50, generator=random) * 1e-3)
        theirs.grad = gradient.clone()
        reference.param_groups[0]["lr"] = learning_rate
        adam.step(learning_rate)
        reference.step()
        torch.testing.assert_close(ours, theirs.detach())


def test_the_first_step_is_as_long_as_the_learning_rate():
    parameters = torch.tensor([1.0, 1.0])
    Adam(parameters, torch.tensor([100.0, -100.0])).step(0.1)
    torch.testing.assert_close(parameters, torch.tensor([0.9, 1.1]))
