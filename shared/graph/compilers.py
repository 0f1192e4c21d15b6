"""What this machine has to compile with."""

import functools


@functools.cache
def has_compiler() -> bool:
    """Whether there is a C++ compiler, which Inductor needs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True
