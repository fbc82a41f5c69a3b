"""What enters each layer, what that costs, and which layers are silent, before and after a little training."""

import torch
import torch.nn.functional as F

import ranvier
from ranvier import data, measure

torch.manual_seed(0)
digits = data.load("digits")
images, labels = digits.train.batch(range(512))
net = ranvier.create_model("spiking_conv_net", num_classes=10, in_channels=1, img_size=8, T=4, channels=[16, 32])

fresh = measure.health(net.eval(), images[:64])  # fresh norms know nothing of their input
for layer, problem in fresh.problems[:2]:
    print(f"before training, {layer} is {problem.kind}: {problem.remedy}")

net.train()
optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
for _ in range(25):
    chosen = torch.randint(len(images), (64,))
    loss = F.cross_entropy(net(images[chosen]).mean(0), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
net.eval()

print(measure.health(net, images[:64]))
print(measure.audit(net, images[:64]))
report = measure.count(net, images[:64])
print(f"{report.totals.synops:,.0f} synaptic operations a sample")
print(f"{measure.energy.as_built(report).total_pj / 1e3:,.0f} nJ a sample as built, by 45 nm figures")
