# SPDX-License-Identifier: Apache-2.0
"""The operator library from Python: values, messages, tracing, and a diffusers pipeline on it.

usage: library_test.py LIBRARY MODEL PAGE

  MODEL   a tiny CogVideoX folder (tests/oracle/cogvideox/fixtures.py); PAGE: its example is what runs on it
"""

import concurrent.futures
import os
import pathlib
import re
import sys
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

LIBRARY, MODEL, PAGE = (pathlib.Path(argument) for argument in sys.argv[1:4])
torch.ops.load_library(str(LIBRARY))
OP = torch.ops.sagelab.attention
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def inputs(heads=4, kv_heads=4, q_len=100, kv_len=100, device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, q_len, heads, 32), (2, kv_len, kv_heads, 32), (2, kv_len, kv_heads, 32)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def by_sdpa(q, k, v, **options):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1], **options).transpose(1, 2)


class Calls(TorchDispatchMode):
    """Counts calls of the operator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is OP.default
        return func(*args, **(kwargs or {}))


class Values(unittest.TestCase):
    def expect_close(self, got, wanted, tolerance=2e-6):
        self.assertEqual(got.shape, wanted.shape)
        self.assertEqual(got.dtype, wanted.dtype)
        self.assertTrue(got.is_contiguous())
        self.assertLess((got - wanted).abs().max().item(), tolerance)

    def test_specs_agree_with_scaled_dot_product_attention(self):
        for spec in ("", "sdpa", "sdpa(math)", "reference", "check(sdpa,reference)"):
            with self.subTest(spec=spec):
                q, k, v = inputs(kv_heads=2, kv_len=70)
                self.expect_close(OP(q, k, v, None, False, spec), by_sdpa(q, k, v))

    def test_sage2(self):
        for device in DEVICES:
            for spec, bound in (("sage2", 0.06), ("sage2(qk=int4)", 0.3)):
                with self.subTest(device=device, spec=spec):
                    q, k, v = (F.pad(x, (0, 32)) for x in inputs(device=device, dtype=torch.bfloat16))
                    exact = by_sdpa(q.double(), k.double(), v.double())
                    error = (OP(q, k, v, spec=spec).double() - exact).norm() / exact.norm()
                    self.assertLess(error.item(), bound)
                    self.assertGreater(error.item(), 5e-3)  # it did quantize

    def test_scale_and_causal_are_heard(self):
        q, k, v = inputs()
        self.expect_close(OP(q, k, v, scale=0.5), by_sdpa(q, k, v, scale=0.5))
        self.expect_close(OP(q, k, v, causal=True), by_sdpa(q, k, v, is_causal=True))
        self.assertGreater((OP(q, k, v, scale=0.5) - OP(q, k, v)).abs().max().item(), 1e-2)
        self.assertGreater((OP(q, k, v, causal=True) - OP(q, k, v)).abs().max().item(), 1e-2)

    def test_views(self):
        q, k, v = torch.randn(2, 50, 3, 4, 32).unbind(2)  # packed
        self.expect_close(OP(q, k, v), by_sdpa(q, k, v))
        q, k, v = (x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in inputs())  # D not contiguous
        self.expect_close(OP(q, k, v), by_sdpa(q, k, v))

    def test_no_tokens(self):
        q, k, v = inputs()
        self.assertEqual(OP(q[:, :0], k, v).shape, (2, 0, 4, 32))
        self.assertEqual(OP(q, k[:, :0], v[:, :0]).abs().max().item(), 0)

    def test_half_precisions_on_every_device(self):
        for device in DEVICES:
            for dtype in (torch.bfloat16, torch.float16):
                with self.subTest(device=device, dtype=dtype):
                    q, k, v = inputs(device=device, dtype=dtype)
                    exact = by_sdpa(q.double().cpu(), k.double().cpu(), v.double().cpu())
                    error = (OP(q, k, v, spec="sdpa").double().cpu() - exact).norm() / exact.norm()
                    self.assertLess(error.item(), 8e-3)

    def test_threads_share_backends(self):
        q, k, v = inputs()
        wanted = by_sdpa(q, k, v)
        specs = ["sdpa", "sdpa(math)", "reference", "prefer(sdpa(cudnn),sdpa)", "timed(sdpa)"] * 8
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for out in pool.map(lambda spec: OP(q, k, v, None, False, spec), specs):
                self.expect_close(out, wanted)


class Messages(unittest.TestCase):
    def expect(self, message, *args, **options):
        with self.assertRaises(RuntimeError) as caught:
            OP(*args, **options)
        self.assertEqual(str(caught.exception), message)

    def test_specs(self):
        q, k, v = inputs()
        with self.assertRaisesRegex(RuntimeError, "there is no backend 'nope' at position 1; there are sdpa, "):
            OP(q, k, v, spec="nope")
        self.expect("attention 'sdpa(': expected an argument, found end at position 6", q, k, v, spec="sdpa(")
        self.expect(
            "attention 'sdpa(cudnn)' cannot run here: it needs a CUDA device, not cpu; choose another, or let it "
            "fall back: prefer(sdpa(cudnn),sdpa)",
            q, k, v, spec="sdpa(cudnn)",
        )  # fmt: skip

    def test_shapes(self):
        q, k, v = inputs()
        self.expect("attention: k [2, 3, 4, 32] and v [2, 100, 4, 32] differ", q, k[:, :3], v)
        self.expect("attention: dtypes differ: Double, Float, Float", q.double(), k, v)
        self.expect(
            "attention: q, k, v must be [B, S, H, D], got [100, 4, 32], [2, 100, 4, 32], [2, 100, 4, 32]", q[0], k, v
        )
        with self.assertRaisesRegex(RuntimeError, r"q \[2, 100, 4, 32\] does not fit k \[2, 100, 4, 16\]"):
            OP(q.to("meta"), k[..., :16].to("meta"), v[..., :16].to("meta"))

    def test_backward_is_refused(self):
        q, k, v = inputs()
        out = OP(q.requires_grad_(), k, v)
        with self.assertRaisesRegex(RuntimeError, "derivative for sagelab::attention is not implemented"):
            out.sum().backward()


class Tracing(unittest.TestCase):
    def test_opcheck(self):
        for device in DEVICES:
            packed = torch.randn(2, 24, 3, 4, 32, device=device).unbind(2)
            for args in (inputs(device=device), inputs(kv_heads=2, kv_len=30, device=device), packed):
                for options in ({}, {"scale": 0.2, "spec": "reference"}, {"spec": "sdpa(math)", "causal": True}):
                    result = torch.library.opcheck(OP.default, tuple(args), options)
                    self.assertEqual(set(result.values()), {"SUCCESS"})

    def test_compile(self):
        def layer(q, k, v):
            return OP(q * 2, k, v, spec="sdpa") + 1

        for dynamic in (False, True):
            compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=dynamic)
            for length in (100, 64):
                q, k, v = (x[:, :length] for x in inputs())
                with self.subTest(dynamic=dynamic, length=length), Calls() as calls:
                    self.assertTrue(torch.equal(compiled(q, k, v), layer(q, k, v)))
                self.assertEqual(calls.count, 2)


class Library(unittest.TestCase):
    def test_it_needs_no_python(self):
        self.assertNotIn(b"libpython", LIBRARY.read_bytes())


class Pipeline(unittest.TestCase):
    def frames(self, pipe):
        generator = torch.Generator("cpu").manual_seed(5)
        with Calls() as calls:
            out = pipe(
                "a fox in the snow", negative_prompt="blurry", height=64, width=80, num_frames=9,
                num_inference_steps=3, guidance_scale=6.0, generator=generator, output_type="np",
            )  # fmt: skip
        return out.frames[0], calls.count

    def test_the_example_of_the_readme(self):
        import diffusers

        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        example = next(block for block in blocks if "torch.ops.load_library" in block)
        path = "build/release/lib/libsagelab_attention.so"
        self.assertIn(path, example)
        pipe = diffusers.CogVideoXPipeline.from_pretrained(MODEL, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        wanted, calls = self.frames(pipe)
        self.assertEqual(calls, 0)
        exec(example.replace(path, str(LIBRARY)), {"pipe": pipe})
        got, calls = self.frames(pipe)
        self.assertEqual(calls, 3 * len(pipe.transformer.transformer_blocks))
        self.assertGreater(wanted.std(), 0.05)
        self.assertLess(abs(got - wanted).max(), 1e-4)
        wrong = example.replace("attention(q, k, v)", "attention(q, k, v, 0.1)")
        exec(wrong.replace(path, str(LIBRARY)), {"pipe": pipe})
        self.assertGreater(abs(self.frames(pipe)[0] - wanted).max(), 1e-3)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
