# SPDX-License-Identifier: Apache-2.0
"""One optimizer for all stages: orthogonalised momentum (Muon) for matrices and convolution kernels, Adam for the rest.

Every quantity is a tensor on the device, so a step can be part of a CUDA graph: the learning rate is `lr`, 0-dimensional."""

import torch

MOMENTUM, BETA1, BETA2, EPSILON = 0.95, 0.9, 0.99, 1e-8
QUINTIC = (3.4445, -4.7750, 2.0315)  # Keller Jordan's coefficients
STEPS = 5
ADAM = 0.5  # Adam's learning rate, in units of Muon's


def orthogonalise(g):
    """[N, R, C] -> the nearest semi-orthogonal matrices, roughly; in bf16 on an accelerator."""
    a, b, c = QUINTIC
    x = g.bfloat16() if g.is_cuda else g
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(STEPS):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    def __init__(self, named, is_matrix):
        """named: (name, parameter) pairs; is_matrix(name, parameter): whether Muon takes it."""
        matrices, self.rest = {}, []
        for name, p in named:
            if is_matrix(name, p):
                matrices.setdefault((p.shape[0], p.numel() // p.shape[0]), []).append(p)
            else:
                self.rest.append(p)
        everything = [p for ps in matrices.values() for p in ps] + self.rest
        device = everything[0].device
        self.gradient = torch.zeros(sum(p.numel() for p in everything), device=device)
        parts = self.gradient.split([p.numel() for p in everything])
        self.views = [(p, part.view(p.shape)) for p, part in zip(everything, parts)]
        self.lr = torch.zeros((), device=device)
        self.count = torch.zeros((), device=device)
        self.matrices = [(ps, torch.zeros(len(ps), *shape, device=device)) for shape, ps in matrices.items()]
        self.first = [torch.zeros_like(p) for p in self.rest]
        self.second = [torch.zeros_like(p) for p in self.rest]

    @torch.no_grad()
    def step(self):
        for parameters, momentum in self.matrices:
            rows, columns = momentum.shape[1:]
            g = torch.stack([p.grad.reshape(rows, columns).float() for p in parameters])
            momentum.lerp_(g, 1 - MOMENTUM)
            update = orthogonalise(g.lerp(momentum, MOMENTUM)) * (0.2 * max(rows, columns) ** 0.5)
            update = update * -self.lr
            torch._foreach_add_(parameters, [u.view_as(p) for u, p in zip(update.unbind(0), parameters)])
        grads = [p.grad.float() for p in self.rest]
        self.count += 1
        torch._foreach_lerp_(self.first, grads, 1 - BETA1)
        torch._foreach_mul_(self.second, BETA2)
        torch._foreach_addcmul_(self.second, grads, grads, 1 - BETA2)
        scale = torch.sqrt(1 - BETA2**self.count) / (1 - BETA1**self.count)
        below = torch._foreach_sqrt(self.second)
        torch._foreach_add_(below, EPSILON)
        update = torch._foreach_div(self.first, below)
        torch._foreach_mul_(update, -ADAM * self.lr * scale)
        torch._foreach_add_(self.rest, update)

    def gather(self):
        """Moves all gradients into the one tensor `gradient`, whose parts they are from then on."""
        torch._foreach_copy_([view for _, view in self.views], [p.grad for p, _ in self.views])
        for p, view in self.views:
            p.grad = view

    def clear(self):
        for p, _ in self.views:
            p.grad = None
