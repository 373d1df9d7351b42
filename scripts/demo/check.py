# SPDX-License-Identifier: Apache-2.0
"""Stage `check`: generates held-out captions with the exported model, reads the clips and writes the report."""

import json

import torch

from demo import checkpoint, reader, sample, vae as vae_stage
from demo.world import pictures, render, scenes, vocabulary

CAPTIONS, SEED, BATCH = 120, 77, 24
LARGE = 12  # captions at 256x256x33
FREE = ("A big shiny red heart spins slowly in front of snowy mountains while the camera moves closer.",
        "Under water, a little white moon rises.",
        "golden light, a huge blue sphere bounces over sand dunes",
        "a glowing green star and the lights of a city at night, the star is swinging",
        "We see a purple donut moving to the left by the ocean at sunset.",
        "pink flower, growing, studio, spotlight",
        "An orange cube turns around under the northern lights, the camera pans to the right.",
        "yellow drop floats upward in a sunny meadow")


def generate(pipe, prompts, size, tiny):
    made = []
    for i in range(0, len(prompts), BATCH if size[0] < 256 else 8):
        some = prompts[i:i + (BATCH if size[0] < 256 else 8)]
        made.append(sample.clips(pipe, some, size, SEED + i, 2 if tiny else sample.STEPS))
        print(f"  {min(i + len(some), len(prompts))} of {len(prompts)} at {size[0]}x{size[0]}x{size[1]}", flush=True)
    return torch.cat(made)


def shares(read, some):
    """{attribute: share right}, and of all three that are checked together."""
    right = {k: (read[k].cpu() == some.index[k]) for k in vocabulary.ATTRIBUTES}
    together = right["shape"] & right["colour"] & right["motion"]
    return {k: v.float().mean().item() for k, v in right.items()} | {"together": together.float().mean().item()}


def confusion(read, some, attribute):
    """counts[asked][read]."""
    count = len(vocabulary.ATTRIBUTES[attribute])
    flat = some.index[attribute] * count + read[attribute].cpu()
    return torch.bincount(flat, minlength=count * count).view(count, count).tolist()


def table(names, counts):
    head = "| asked \\ read | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1) + "\n"
    return head + "".join(f"| {n} | {' | '.join(str(c) if c else '·' for c in row)} |\n" for n, row in zip(names, counts))


def rendered(judge, count):
    clips, some = reader.rendered(count, torch.Generator(next(judge.parameters()).device).manual_seed(41), True)
    logits = [judge(c) for c in clips.split(256)]
    return shares({k: torch.cat([p[k] for p in logits]).argmax(1) for k in vocabulary.ATTRIBUTES}, some.to("cpu"))


def write(folder, report, confusions):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report | {"confusion": confusions}, indent=1) + "\n")
    percent = lambda v: f"{100 * v:.1f} %"
    lines = ["# The demo model, read by a program", "",
             f"{report['captions']} captions of combinations of shape, colour and motion that were never trained; "
             f"{report['steps']} steps, guidance {report['guidance']}.", "",
             "| | chance | reader on rendered clips | rendered, through the autoencoder | generated 128x128x17 | "
             "generated 256x256x33 |", "|---" * 6 + "|"]
    for k in [*reader.CHECKED, "together", *[k for k in vocabulary.ATTRIBUTES if k not in reader.CHECKED]]:
        lines.append(f"| {k} | " + " | ".join(percent(report[part][k]) for part in
                                               ("chance", "rendered", "reconstructed", "generated", "generated_256")) + " |")
    lines += ["", f"Autoencoder, PSNR on held-out clips: {report['psnr_128']:.2f} dB at 128x128x17, "
              f"{report['psnr_256']:.2f} dB at 256x256x33.", ""]
    for k, counts in confusions.items():
        lines += [f"## {k}, generated 128x128x17", "", table(vocabulary.names(k), counts)]
    (folder / "report.md").write_text("\n".join(lines))
    print("\n".join(lines[4:14 + len(vocabulary.ATTRIBUTES)]), flush=True)


def chance():
    """Of a guess that draws as the captions do."""
    made = {}
    for k, values in vocabulary.ATTRIBUTES.items():
        w = torch.tensor(vocabulary.WEIGHTS.get(k, [1.0] * len(values)))
        made[k] = ((w / w.sum()) ** 2).sum().item()
    return made | {"together": made["shape"] * made["colour"] * made["motion"]}


@torch.no_grad()
def main(options):
    from diffusers import CogVideoXPipeline

    device, tiny, folder = options.device, options.tiny, options.out / "check"
    model, dtype = checkpoint.find(options, "model"), torch.float16 if device.type == "cuda" else torch.float32
    pipe = CogVideoXPipeline.from_pretrained(str(model), torch_dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    judge = reader.load(options)
    small, large = ((32, 9), (32, 9)) if tiny else ((128, 17), (256, 33))
    some, prompts = sample.held_out(4 if tiny else CAPTIONS, SEED)
    few = some[:2 if tiny else LARGE]
    clips, big = generate(pipe, prompts, small, tiny), generate(pipe, prompts[:len(few)], large, tiny)
    free = generate(pipe, FREE[:1] if tiny else FREE, small, tiny)
    pipe.vae.to(torch.float32)
    real, _ = render.clips(some.to(device), scenes.whole(len(some), *small, device))
    through = torch.cat([pipe.vae.decode(pipe.vae.encode(c).latent_dist.mode()).sample for c in real.split(4)])
    read = reader.read(judge, clips)
    counts = (2, 1) if tiny else (64, 8)
    values = [vae_stage.judge(pipe.vae, count, *size)[2] for count, size in zip(counts, (small, large))]
    report = {"captions": len(prompts), "steps": sample.STEPS, "guidance": sample.GUIDANCE, "chance": chance(),
              "rendered": rendered(judge, 8 if tiny else 4096),
              "reconstructed": shares(reader.read(judge, through), some),
              "generated": shares(read, some), "generated_256": shares(reader.read(judge, big), few),
              "psnr_128": values[0].mean().item(), "psnr_256": values[1].mean().item(), "prompts": prompts,
              "free_prompts": list(FREE), "read": {k: v.tolist() for k, v in read.items()}}
    write(folder, report, {k: confusion(read, some, k) for k in reader.CHECKED})
    pictures.sheet(folder / "sheet.png", list(clips[:48]), 5, 3)
    pictures.sheet(folder / "sheet_256.png", list(big[:12]), 5, 1)
    pictures.sheet(folder / "sheet_free.png", list(free), 5, 1)
