"""open_clip's ViT as trunk, dense readout and image embedding."""

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from mmseg.errors import UserError
from mmseg.kernels import linear
from mmseg.utils import require_choice

from .blocks import Trunk, run_block, run_block_with_attention
from .positions import RULES, resize_positions
from .readout import NOTHING, PRESETS, blocks_needed, read_out
from .readout.grids import resize_rows


def to_grid(tokens, grid):
    """(N, h*w, D), (h, w) -> (N, D, h, w)"""
    return tokens.transpose(1, 2).unflatten(2, grid)


class ViTTower(nn.Module):
    """open_clip's VisionTransformer with a class token.

    Args:
        project_keys: see `CLIPDenseExtractor`.
        readout: a Readout: how `dense` reads the last block.
        positions: rule of `resize_positions`.
    """

    must_pad = False

    def __init__(
        self, visual, *, project_keys=False, readout=PRESETS['maskclip'], positions='size'
    ):
        super().__init__()
        blocks = visual.transformer.resblocks
        if visual.attn_pool is not None or not isinstance(blocks[-1], ResidualAttentionBlock):
            raise UserError(
                'no dense features are known of a ViT with an attentional pooler or '
                'custom blocks (CoCa and kin); use a plain CLIP ViT'
            )
        require_choice('positions', positions, RULES)
        self.visual, self.project_keys = visual, project_keys
        self.readout, self.positions = readout, positions
        self.needed = blocks_needed(readout, len(blocks))
        self.stride = visual.patch_size[0]

    def trunk(self, image) -> Trunk:
        """(N, 3, H, W) normalised -> all before the last block"""
        visual = self.visual
        patches = visual.conv1(image)
        grid = tuple(patches.shape[-2:])
        tokens = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([first, tokens], dim=1) + resize_positions(
            visual.positional_embedding, grid, self.positions
        )
        return self._run_blocks(visual.ln_pre(tokens), grid)

    def _run_blocks(self, tokens, grid):
        outputs, attentions = self.needed
        seen, early = {0: tokens} if 0 in outputs else {}, None
        for number, block in enumerate(self.visual.transformer.resblocks[:-1], start=1):
            if number in attentions:
                tokens, share = run_block_with_attention(block, tokens)
                share = share / len(attentions)
                early = share if early is None else early + share
            else:
                tokens = run_block(block, tokens)
            if number in outputs:
                seen[number] = tokens
        return Trunk(tokens, grid, seen, early)

    def dense(self, trunk, outside=NOTHING):
        """trunk -> (N, D, h, w), (N, h*w, width): by the readout, on the finer grid of `outside`"""
        trunk = Trunk(*trunk)
        patches = read_out(self.visual.transformer.resblocks, trunk, self.readout, outside)
        patches = linear(self.visual.ln_post(patches), self.visual.proj.T)
        keys = resize_rows(self._keys(trunk.tokens[:, 1:]), trunk.grid, outside.fine)
        return to_grid(patches, outside.fine or trunk.grid), keys

    def _keys(self, patches):
        """(N, h*w, width) -> (N, h*w, width): keys of the last block"""
        block = self.visual.transformer.resblocks[-1]
        weight, bias = block.attn.in_proj_weight.chunk(3)[1], block.attn.in_proj_bias.chunk(3)[1]
        keys, project = linear(block.ln_1(patches), weight, bias), block.attn.out_proj
        return linear(keys, project.weight, project.bias) if self.project_keys else keys

    def pool(self, trunk):
        """trunk -> (N, D): the last block with its attention, then open_clip's own pooling."""
        pooled, _ = self.visual._pool(self.visual.transformer.resblocks[-1](trunk[0]))
        return pooled @ self.visual.proj
