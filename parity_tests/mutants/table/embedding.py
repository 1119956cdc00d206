"""Mistakes between the image and the first block: patches, tokens, positions inside the model."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

patches = partial(Mutant, file="vit_flax/patch_embed.py", promise="model: plain")
pos_embed = partial(Mutant, file="vit_flax/pos_embed.py")
vit = partial(Mutant, file="vit_flax/vit.py")

MUTANTS = (
    patches(
        name="patches column by column",
        old="x.transpose(0, 1, 3, 2, 4, 5)",
        new="x.transpose(0, 3, 1, 2, 4, 5)",
        who="who flattens the grid with width first",
    ),
    patches(
        name="channels of a patch first",
        old="x.transpose(0, 1, 3, 2, 4, 5)",
        new="x.transpose(0, 1, 3, 5, 2, 4)",
        who="who cuts patches in the convolution's order (C, h, w) for a kernel that is (h, w, C)",
    ),
    patches(
        name="BGR for RGB",
        old="x = images.astype(self.dtype)",
        new="x = images[..., ::-1].astype(self.dtype)",
        who="who reads images with OpenCV",
    ),
    patches(
        name="bias of the patch embedding dropped",
        old="x = add(x, self.proj.bias.get_value())",
        new="pass",
        who="who ports from CLIP, whose patch embedding has none",
    ),
    patches(
        name="norm of the patches left out",
        old="return self.norm(x.reshape(images.shape[0], rows * columns, x.shape[-1])), grid",
        new="return x.reshape(images.shape[0], rows * columns, x.shape[-1]), grid",
        who="who overlooks AIMv2's norm of each patch",
        promise="model: inner norms",
    ),
    vit(
        name="patch embedding gets no gradient",
        old="        patches, grid = self.patch_embed(images)\n",
        new="        patches, grid = self.patch_embed(images)\n        patches = jax.lax.stop_gradient(patches)\n",
        who="who keeps MoCo v3's stop_grad_conv1 beyond its pre-training",
        promise="model: plain",
    ),
    vit(
        name="registers before the class token",
        old="(self.cls_token, self.dist_token, self.reg_token)",
        new="(self.reg_token, self.cls_token, self.dist_token)",
        who="who puts registers in front of everything",
        promise="model: layer scale and registers",
    ),
    vit(
        name="distillation token before the class token",
        old="(self.cls_token, self.dist_token, self.reg_token)",
        new="(self.dist_token, self.cls_token, self.reg_token)",
        who="who prepends one token after the other",
        promise="model: distilled",
    ),
    vit(
        name="norm before the blocks left out",
        old="self.norm_pre(dropout(x, self.dropout, rngs))",
        new="dropout(x, self.dropout, rngs)",
        who="who loads CLIP's weights into a plain ViT",
        promise="model: norm before the blocks",
    ),
    pos_embed(
        name="prefix behind the patches",
        old="jnp.concatenate([prefix, patches], axis=1)",
        new="jnp.concatenate([patches, prefix], axis=1)",
        who="who appends the class token",
        promise="model: plain",
    ),
    pos_embed(
        name="class token's position last",
        old="    elif table is not None:\n",
        new="    elif table is not None:\n        table = jnp.roll(table, config.num_pos_prefix, axis=1)\n",
        who="who takes the table for (patches, class)",
        promise="model: plain",
    ),
    pos_embed(
        name="prefix without positions",
        old="add(prefix[:, :rows], table[:, :rows])",
        new="prefix[:, :rows]",
        who="who takes DeiT III, whose class token has no position, for the rule",
        promise="model: plain",
    ),
    pos_embed(
        name="rows and columns of the sine-cosine table swapped",
        old="sincos2d(grid, config.dim)",
        new="sincos2d(grid[::-1], config.dim)",
        who="who gives (width, height), which squares don't show",
        promise="model: sine-cosine",
    ),
    pos_embed(
        name="positions resized by jax.image.resize",
        old='return jnp.einsum("ai,bj,ijd->abd", rows, columns, table).reshape(1, -1, config.dim)',
        new="import jax\n\n    return jax.image.resize(table, (*grid, config.dim), 'cubic').reshape(1, -1, config.dim)",
        who="whose framework is JAX: another cubic, antialias on, another border",
        promise="model: another size",
    ),
)
