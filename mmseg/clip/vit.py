"""open_clip's ViT: the tokens before its last block, dense features, image embedding.

`dense` reads the last block without its attention (MaskCLIP), or with the attention of another
method: see `readout.read_last_block`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.kernels import linear

from .readout import NO_GUIDANCE, PRESETS, Guidance, Readout, blocks_needed, read_last_block
from .readout.attention import resize_tokens
from .transformer import (
    PositionRule,
    Trunk,
    resize_positions,
    run_block,
    run_block_with_attention,
    to_grid,
)


class ViTTower(nn.Module):
    """open_clip's VisionTransformer with a class token.

    Args:
        visual: open_clip's VisionTransformer.
        project_keys: apply the output projection to the keys (as in the original code, Q2).
        readout: how `dense` reads the last block.
        positions: rule of `resize_positions`.

    Raises:
        UserError: a ViT with an attentional pooler or custom blocks.
    """

    must_pad = False

    def __init__(
        self,
        visual: Any,
        /,
        *,
        project_keys: bool = False,
        readout: Readout = PRESETS['maskclip'],
        positions: PositionRule = 'size',
    ) -> None:
        from open_clip.transformer import ResidualAttentionBlock

        super().__init__()
        blocks = visual.transformer.resblocks
        if visual.attn_pool is not None or not isinstance(blocks[-1], ResidualAttentionBlock):
            raise UserError(
                'ViTs with an attentional pooler or custom blocks (CoCa and its relatives) are not '
                'supported; use a plain CLIP ViT'
            )
        self.visual, self.project_keys = visual, project_keys
        self.readout, self.positions = readout, positions
        self.needed = blocks_needed(readout, len(blocks))
        self.stride: int = visual.patch_size[0]

    def trunk(self, image: Tensor) -> Trunk:
        """(N, 3, H, W) normalised -> Trunk"""
        visual = self.visual
        patches = visual.conv1(image)
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)
        cls_token = visual.class_embedding.expand(tokens.shape[0], 1, -1)
        positions = resize_positions(visual.positional_embedding, grid, self.positions)
        tokens = torch.cat([cls_token, tokens], dim=1) + positions
        return self._run_blocks(visual.ln_pre(tokens), grid)

    def _run_blocks(self, tokens: Tensor, grid: tuple[int, int]) -> Trunk:
        outputs = {0: tokens} if 0 in self.needed.outputs else {}
        early_attention = None
        for number, block in enumerate(self.visual.transformer.resblocks[:-1], start=1):
            if number in self.needed.attentions:
                tokens, attention = run_block_with_attention(block, tokens)
                attention = attention / len(self.needed.attentions)
                early_attention = (
                    attention if early_attention is None else early_attention + attention
                )
            else:
                tokens = run_block(block, tokens)
            if number in self.needed.outputs:
                outputs[number] = tokens
        return Trunk(tokens, grid, outputs, early_attention)

    def dense(self, trunk: Trunk, guidance: Guidance = NO_GUIDANCE) -> tuple[Tensor, Tensor]:
        """Trunk -> (N, D, h, w), (N, h*w, width), on the grid of `guidance` where that is finer"""
        blocks, grid = self.visual.transformer.resblocks, guidance.proxy_grid or trunk.grid
        tokens = read_last_block(blocks, trunk, self.readout, guidance)
        patches = linear(self.visual.ln_post(tokens), self.visual.proj.T)
        keys = resize_tokens(self._keys(trunk.tokens[:, 1:]), trunk.grid, grid)
        return to_grid(patches, grid), keys

    def _keys(self, patches: Tensor) -> Tensor:
        """(N, h*w, width) -> (N, h*w, width): keys of the last block"""
        block = self.visual.transformer.resblocks[-1]
        weight, bias = block.attn.in_proj_weight.chunk(3)[1], block.attn.in_proj_bias.chunk(3)[1]
        keys, project = linear(block.ln_1(patches), weight, bias), block.attn.out_proj
        return linear(keys, project.weight, project.bias) if self.project_keys else keys

    def pool(self, trunk: Trunk) -> Tensor:
        """Trunk -> (N, D): CLIP's own last block and pooling"""
        pooled, _ = self.visual._pool(self.visual.transformer.resblocks[-1](trunk.tokens))
        return pooled @ self.visual.proj
