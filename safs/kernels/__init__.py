"""Training a masked network on the CPU at the cost of its surviving weights.

The mask is fixed for a whole training, and 90 to 99% of the weights are zero: a forward pass, an
input gradient and a weight gradient that touch only the survivors are the same mathematics for a
fraction of the work. An epoch runs in C++ (``src/``), compiled once per machine; what it computes
is what :mod:`safs.training.loop` defines, to the rounding of float32.

    sparse = kernels.compile(network, mask, recipe, (1, 28, 28), recipe.batch_size)
    sums = sparse.train_epoch(fold.train, order, lr)     # losses, gradient flow
    logits = sparse.logits(fold.validation)              # evaluation mode
    sparse.write_back()                                  # into `network`

:func:`compile` takes an installed network (:func:`safs.slots.install`) whose slots are filled and
whose pruned weights are 0. Its parameters are copied: the torch network stays as it was until
:meth:`SparseNetwork.write_back`. A machine without a compiler, or a layer that the kernels do not
know, raises :class:`Unsupported` with the reason in one line; nothing has happened then. The layers
that they do know can still run here, one by one, while torch runs the network around them
(:class:`safs.kernels.layer.KernelLayer`, :mod:`safs.backends.mixed`): each call copies its images
into the layout of the kernels and back.

The learning rate is an argument of each epoch, so that schedules stay outside; the rest of the
optimiser comes from the recipe. ``state`` and ``load`` hold everything else of a training that can
be resumed bit for bit. The same inputs give the same bits on every machine, whatever compiler built
the library: every rounding is written in the source. What may differ is the payload of a NaN.

Where the arithmetic is known to differ from torch beyond rounding: the bias of a convolution in
front of batch norm has gradient exactly 0 here and rounding noise there, and the running statistics
of channels that no output depends on are not kept up.
"""

from safs.backends.base import EpochSums
from safs.kernels.binding import SparseNetwork, compile
from safs.kernels.build import Unsupported, built, source_digest
from safs.kernels.cores import threads
from safs.kernels.plan import why_not

__all__ = [
    "EpochSums",
    "SparseNetwork",
    "Unsupported",
    "built",
    "compile",
    "source_digest",
    "threads",
    "why_not",
]
