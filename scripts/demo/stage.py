# SPDX-License-Identifier: Apache-2.0
"""What all stages share: one training step, compiled and replayed as a CUDA graph where there is one."""

import time

import torch
import torch.nn.functional as F

from demo import parallel

COMPILE = True  # the loss and its gradient, by torch.compile, on CUDA
GRAPH = True  # the gradient as one CUDA graph and the optimizer's step as another
WARM_UP = 3


class Step:
    """loss_of(*inputs) -> (loss, more), its gradient and the optimizer's step. Inputs always have the same shapes.

    whole: compile all of loss_of; otherwise its parts are compiled already where that pays."""

    def __init__(self, loss_of, optimizer, inputs, whole=True):
        self.optimizer = optimizer
        on_cuda = inputs[0].is_cuda
        self.loss_of = torch.compile(loss_of, dynamic=False) if whole and COMPILE and on_cuda else loss_of
        self.inputs = [i.clone() for i in inputs]
        self.parts = [self._gradient, self.optimizer.step]
        if on_cuda:
            self._record()

    def _gradient(self):
        self.optimizer.clear()
        loss, more = self.loss_of(*self.inputs)
        loss.backward()
        self.optimizer.gather()
        self.results = loss.detach(), more.detach()

    def _once(self):
        gradient, step = self.parts
        gradient()
        parallel.average(self.optimizer.gradient)
        step()
        return self.results

    def _record(self):
        """Warms up at a learning rate of 0, then records. What cannot be recorded runs step by step, and says so."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._once()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        if not GRAPH:
            return
        graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        try:
            for graph, part in zip(graphs, self.parts):
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    part()
            self.parts = [graph.replay for graph in graphs]
        except RuntimeError as error:
            print(f"WARNING: the step is not recorded as a CUDA graph: {error}", flush=True)

    def __call__(self, *inputs):
        for mine, given in zip(self.inputs, inputs):
            mine.copy_(given)
        return self._once()


def require_agreement(what, difference):
    """Our own forward passes are for training alone: they must be the libraries' functions. difference() -> the largest."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = difference()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    print(f"{what}: differs from the library's own forward by {found:.1e}", flush=True)
    if not found < 2e-3:
        raise SystemExit(f"{what} is not the function that the library computes; its version may have changed")


def settle(device):
    """Fast matrix arithmetic while training."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch._dynamo.config.recompile_limit = 64


def convolution_seconds(shape, layout):
    """Of forward and backward of a 3x3x3 convolution in bf16 on [B, C, T, H, W]."""
    x = torch.randn(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    w = torch.randn(shape[1], shape[1], 3, 3, 3, device="cuda", dtype=torch.bfloat16)
    w = w.contiguous(memory_format=layout).requires_grad_()
    for i in range(13):
        if i == 3:
            torch.cuda.synchronize()
            begun = time.monotonic()
        y = F.conv3d(x, w, padding=1)
        torch.autograd.grad(y, (x, w), torch.ones_like(y))
    torch.cuda.synchronize()
    return (time.monotonic() - begun) / 10


def faster_layout(shapes):
    """The memory format in which convolutions on these shapes are faster on this machine."""
    if not torch.cuda.is_available():
        return torch.contiguous_format
    layouts = (torch.contiguous_format, torch.channels_last_3d)
    took = {layout: sum(convolution_seconds(shape, layout) for shape in shapes) for layout in layouts}
    print("convolutions: " + ", ".join(f"{1000 * t:.2f} ms {layout}" for layout, t in took.items()), flush=True)
    return min(took, key=took.get)
