"""Train with spike counts, convert to binary spikes, verify, and run as a compiled program."""

import torch
import torch.nn.functional as F

import ranvier
from ranvier import data, infer

torch.manual_seed(0)
digits = data.load("digits")
neuron = {"type": "i_lif", "levels": 4}
net = ranvier.create_model(
    "spiking_mlp", num_classes=10, in_channels=1, img_size=8, T=2, hidden=[96, 96], neuron=neuron
)
optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
images, labels = digits.train.batch(range(len(digits.train)))
for _ in range(60):
    chosen = torch.randint(len(images), (256,))
    loss = F.cross_entropy(net(images[chosen]).mean(0), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
net.eval()
images, labels = digits.test.batch(range(len(digits.test)))

conversion = infer.convert(net, images[:32])
print(infer.verify_equivalence(net, conversion.net, images))

engine = infer.compile(net, images[:16])
frames = images.unsqueeze(1).expand(-1, 2, *images.shape[1:]).numpy()  # a static image is the same frame at every step
right = sum(int(engine.run(x).mean(0).argmax() == y) for x, y in zip(frames, labels.tolist(), strict=True))
print(f"compiled: test accuracy {right / len(labels):.1%}")
print(engine.report())
