"""PGD adversarial training as published code commonly has it: what `speed.py` compares ours with.

Eager PyTorch in its default memory layout. Images come one by one through PIL transforms in a
DataLoader; the attack calls the network itself, in eval mode; the update follows in train mode.
"""

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Images(Dataset):
    """Pairs (image, label) of a `frlib.data.Split`, as torchvision's own datasets give them."""

    def __init__(self, split, transform):
        self.images = split.images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(split, batch_size, *, augment=True):
    """Shuffled batches (x, y) on the CPU; x float32 NCHW in [0, 1], cropped and flipped."""
    crop_and_flip = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    transform = transforms.Compose([*(crop_and_flip if augment else []), transforms.ToTensor()])
    return DataLoader(Images(split, transform), batch_size, shuffle=True, num_workers=0)


def pgd(model, x, y, *, eps, step_size, steps, random_start=True):
    """Images in [0, 1] and within eps of x (L-infinity), by steps along the gradient's signs.

    They start at a random point of the ball, or at x itself.
    """
    model.eval()
    x_adv = x.clone()
    if random_start:
        x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        x_adv.requires_grad_()
        loss = F.cross_entropy(model(x_adv), y)
        gradient, = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + step_size * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps).clamp(0, 1)
    return x_adv


def step(model, optimizer, x, y, **attack):
    """One update on attacked images; `attack` are settings of `pgd`. Returns the detached loss."""
    x_adv = pgd(model, x, y, **attack)
    model.train()
    loss = F.cross_entropy(model(x_adv), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def train_epoch(model, optimizer, batches, device, **attack):
    """One pass over a loader. Returns the mean loss of its steps, a float."""
    losses = [step(model, optimizer, x.to(device), y.to(device), **attack) for x, y in batches]
    return torch.stack(losses).mean().item()
