# SPDX-License-Identifier: Apache-2.0
"""What tiny transformers of double- and single-stream blocks share: FLUX.1's and HunyuanVideo's."""

from tiny import scale


def quieten(model, residual, d, text=1):
    """Small residual streams, and one head's queries and another's keys small: what norms divide by is near their eps.

    text: how much more the feed-forward of the text's double blocks leaves than others do.
    """
    for block in model.transformer_blocks:
        attn = block.attn
        for module in (attn.to_out[0], attn.to_add_out, block.ff.net[2]):
            scale(module, residual)
        scale(block.ff_context.net[2], text * residual)
        for q, k in ((attn.to_q, attn.to_k), (attn.add_q_proj, attn.add_k_proj)):
            scale(q, 0.003, slice(0, d))
            scale(k, 0.003, slice(-d, None))
    for block in model.single_transformer_blocks:
        scale(block.proj_out, residual)
        scale(block.attn.to_q, 0.003, slice(0, d))
        scale(block.attn.to_k, 0.003, slice(-d, None))
