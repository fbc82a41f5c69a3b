"""A registered model in a plain PyTorch loop, on scikit-learn's handwritten digits."""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import ranvier
from ranvier import data

torch.manual_seed(0)
digits = data.load("digits")
net = ranvier.create_model("spiking_conv_net", num_classes=10, in_channels=1, img_size=8, T=4, channels=[16, 32])
optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
batches = DataLoader(digits.train, batch_size=64, shuffle=True)  # pyright: ignore[reportArgumentType]

for epoch in range(3):
    for images, labels in batches:
        logits = net(images)  # [T, B, classes]; nothing has to be reset
        loss = F.cross_entropy(logits.mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net.eval()
    with torch.no_grad():
        images, labels = digits.test.batch(range(len(digits.test)))
        accuracy = (net(images).mean(0).argmax(-1) == labels).float().mean()
    net.train()
    print(f"epoch {epoch + 1}: test accuracy {accuracy:.1%}")
