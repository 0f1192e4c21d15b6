import time
import pytest, torch
import shared
def test_hook():
    t=time.time()
    def lap(n):
        nonlocal t
        print(n, round(time.time()-t,2)); t=time.time()
    import qlayers.ops
    args = qlayers.ops.pauli_expval.sample_arguments()[1]
    f = lambda a, b: qlayers.ops.pauli_expval(a, b, *args[2:])
    with shared.prefer("reference"):
        torch.compile(f, fullgraph=True)(*args[:2]); lap("c1")
        g = torch.func.grad(lambda a, b: f(a, b).sum())
        torch.compile(g, fullgraph=True)(*args[:2]); lap("c2")
        torch.compile(lambda *a: qlayers.ops.pauli_expval.reference(*a, *args[2:]), fullgraph=True)(*args[:2]); lap("c3")
        torch.func.vmap(g, (None, 0))(args[0], torch.stack([args[1]]*3)); lap("v")
        torch.func.jacfwd(f)(*args[:2]); lap("j")
        torch.func.hessian(lambda a: f(a, args[1]).sum())(args[0]); lap("h")
