"""State carried from frame to frame, and a decision as soon as it is certain."""

import torch
import torch.nn.functional as F

import ranvier
from ranvier import data

torch.manual_seed(0)
digits = data.load("digits")
net = ranvier.create_model("spiking_mlp", num_classes=10, in_channels=1, img_size=8, T=8, hidden=[128])
optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
images, labels = digits.train.batch(range(len(digits.train)))
for _ in range(40):
    chosen = torch.randint(len(images), (256,))
    loss = F.cross_entropy(net(images[chosen]).mean(0), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

net.eval()
images, labels = digits.test.batch(range(5))
for image, label in zip(images, labels, strict=True):
    frame = image.expand(1, 1, *image.shape)  # one frame of one stream: [T, B, C, H, W]
    total = torch.zeros(10)
    with torch.no_grad(), ranvier.carry(net):  # leaving the block forgets the stream
        for step in range(1, 31):
            total += net(frame)[0, 0]
            confidence, decision = (total / step).softmax(0).max(0)
            if confidence > 0.9:
                break
    print(f"a {int(label)}: decided {int(decision)} after {step} frames, confidence {float(confidence):.2f}")
