# SPDX-License-Identifier: Apache-2.0
"""CogVideoX-2B at its released size, with random weights: the transformer's one call and the VAE's decode by diffusers.

usage: full_size.py OUT_DIR

  OUT_DIR/transformer, OUT_DIR/vae  save_pretrained, fp16 as released, the transformer in shards of 1 GB
  OUT_DIR/dump.safetensors          forward.latents [2, 2, 16, 12, 20], forward.text [2, 226, 4096], forward.t [2];
                                    forward.block.N for three N, forward.output; vae.z [1, 16, 3, 8, 12], vae.sample;
                                    <key>.fp64 of the outputs: the same in fp64

Takes 14 GB of memory for the transformer in fp64.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import dump as dumping  # noqa: E402
import fixtures  # noqa: E402
import models  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

KEPT = ("forward.block.0", "forward.block.14", "forward.block.29", "forward.output")


def build(cls, component, out):
    """A model of the released config whose fp32 weights are all fp16 numbers, saved in fp16."""
    config = json.loads((HERE.parent / "configs" / "cogvideox_2b" / component / "config.json").read_text())
    model = cls.from_config(config).eval()
    models.perturb(model, torch.Generator().manual_seed(11),
                   adaptive=("norm1.linear.weight", "norm2.linear.weight", "norm_out.linear.weight"))
    model.half().save_pretrained(out / component, max_shard_size="1GB")
    return model.float()


def transformer(out):
    from diffusers import CogVideoXTransformer3DModel

    model = build(CogVideoXTransformer3DModel, "transformer", out)
    generator = torch.Generator().manual_seed(12)
    latents = torch.randn((2, 2, 16, 12, 20), generator=generator)
    text = 0.2 * torch.randn((2, 226, 4096), generator=generator)
    t = torch.tensor([801, 37])
    stages = {}
    dumping.forward_stages(model, (latents, text, t), None, stages)
    with dumping.double_throughout():
        dumping.forward_stages(model.double(), (latents.double(), text.double(), t), None, stages, ".fp64")
    kept = {k: v.contiguous() for k, v in stages.items() if k.removesuffix(".fp64") in KEPT}
    return {"forward.latents": latents, "forward.text": text, "forward.t": t, **kept}


def vae(out):
    from diffusers import AutoencoderKLCogVideoX

    model = build(AutoencoderKLCogVideoX, "vae", out)
    z = torch.randn((1, 16, 3, 8, 12), generator=torch.Generator().manual_seed(13))
    return {"vae.z": z, "vae.sample": model.decode(z).sample, "vae.sample.fp64": model.double().decode(z.double()).sample}


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    fixtures.settle()
    save_file({**transformer(out), **vae(out)}, out / "dump.safetensors")


if __name__ == "__main__":
    main()
