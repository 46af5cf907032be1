"""A CUDA device that is not there, for tests on machines without one.

Tensors say that they are on ``cuda:N`` and hold real numbers on the CPU. What CUDA refuses is
refused: operands on two devices, a generator of another device, ``.numpy()``, and in strict
deterministic mode what has no deterministic CUDA implementation. Launches, transfers and waits are
counted (:class:`simulated.counts.Counts`). A graph that is captured repeats its operations on the
memory of its capture, and is refused transfers and waits (:mod:`simulated.graphs`).

What it cannot show: CUDA's rounding, real nondeterminism, cuDNN, work of two streams at once,
compiled code, the speed of anything.

How to use it::

    def test_it(simulated):  # the fixture of tests/conftest.py
        images = images.to(simulated.device)
        with simulated.counting() as counts:
            train(...)
        assert not counts.waits

The device holds for the thread that installed it; :meth:`simulated.cuda.Simulated.thread` lets
another one use it.
"""
