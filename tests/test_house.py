import torch
from torch import Tensor, nn
import numpy as np
import pytest
import shared


def test_hook():
    from shared import dispatch, declare, derive, threads
    assert declare.op.__wrapped__
    import qlayers.ops
    from qlayers.ops.pauli import popcount, rotate
    with pytest.raises(Exception) as e:
        popcount(3)
    print(e)
    args = qlayers.ops.pauli_expval.sample_arguments()[1]
    f = lambda a, b: qlayers.ops.pauli_expval(a, b, *args[2:])
    with shared.prefer("reference"):
        torch.compile(f, fullgraph=True)(*args[:2])
        g = torch.func.grad(lambda a, b: f(a, b).sum())
        torch.compile(g, fullgraph=True)(*args[:2])
        torch.compile(lambda *a: qlayers.ops.pauli_expval.reference(*a, *args[2:]), fullgraph=True)(*args[:2])
        torch.func.vmap(g, (None, 0))(args[0], torch.stack([args[1]]*3))
        torch.func.jacfwd(f)(*args[:2])
        torch.func.hessian(lambda a: f(a, args[1]).sum())(args[0])


def test_poison(poisoned_memory):
    assert np.isnan(np.empty(3)).all()
    assert torch.empty(3).isnan().all()
    assert torch.ones(3).new_empty(2).isnan().all()


class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))
