"""Mistakes in the other layers of a block: activations, norms, residuals, biases, stochastic depth, scanned blocks."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

mlp = partial(Mutant, file="vit_flax/mlp.py")
norm = partial(Mutant, file="vit_flax/norm.py")
block = partial(Mutant, file="vit_flax/block.py")
linear = partial(Mutant, file="vit_flax/linear.py")

LAYER_NORM = "nnx.LayerNorm(dim, epsilon=config.norm_eps, **options)"

MUTANTS = (
    mlp(
        name="tanh GELU for exact GELU",
        old='"gelu": gelu,',
        new='"gelu": partial(jax.nn.gelu, approximate=True),',
        who="who leaves jax.nn.gelu at its default",
        promise="model: plain",
    ),
    mlp(
        name="exact GELU for tanh GELU",
        old="partial(jax.nn.gelu, approximate=True)",
        new="partial(jax.nn.gelu, approximate=False)",
        who="who runs SigLIP's or AugReg's weights with torch's default",
        promise="model: attention pooling",
    ),
    mlp(
        name="quick GELU with 1.7",
        old="1.702 * x",
        new="1.7 * x",
        who="who copies the constant from a paper that rounds it",
        promise="model: norm before the blocks",
    ),
    mlp(
        name="GELU for quick GELU",
        old='"quick_gelu": quick_gelu,',
        new='"quick_gelu": gelu,',
        who="who loads OpenAI's CLIP into the architecture without -quickgelu",
        promise="model: norm before the blocks",
    ),
    mlp(
        name="gate and value swapped",
        old="gate, x = jnp.split(x, 2, axis=-1)",
        new="x, gate = jnp.split(x, 2, axis=-1)",
        who="who packs the value first, as GLUs elsewhere do",
        promise="model: rms norm and swiglu",
    ),
    mlp(
        name="norm before fc2 left out",
        old="self.norm(dropout(x, self.dropout, rngs))",
        new="dropout(x, self.dropout, rngs)",
        who="who overlooks BEiT-3's and EVA-02's inner norms",
        promise="model: inner norms",
    ),
    norm(
        name="Flax's epsilon for CLIP's",
        old=LAYER_NORM,
        new="nnx.LayerNorm(dim, **options)",
        who="who leaves LayerNorm's 1e-6 where the weights were trained with 1e-5",
        promise="model: norm before the blocks",
    ),
    norm(
        name="torch's epsilon for timm's",
        old=LAYER_NORM,
        new="nnx.LayerNorm(dim, epsilon=1e-5, **options)",
        who="who knows torch's LayerNorm and not that timm gives it 1e-6",
        promise="model: plain",
    ),
    norm(
        name="transformers' epsilon for timm's",
        old=LAYER_NORM,
        new="nnx.LayerNorm(dim, epsilon=1e-12, **options)",
        who="who converts timm's weights into transformers' class with its default config",
        promise="model: plain",
    ),
    norm(
        name="RMS norm with another epsilon",
        old="nnx.RMSNorm(dim, epsilon=config.norm_eps, **options)",
        new="nnx.RMSNorm(dim, epsilon=1e-5, **options)",
        who="who takes AIMv2's epsilon for every RMS norm's",
        promise="model: rms norm and swiglu",
    ),
    norm(
        name="fast variance",
        old="use_fast_variance=False",
        new="use_fast_variance=True",
        who="who leaves Flax's LayerNorm at its default: mean of squares minus square of mean",
        promise="norm: large means",
    ),
    block(
        name="norm1 in the place of norm2",
        old="self.norm2(x)",
        new="self.norm1(x)",
        who="a slip that initial values can't show",
        promise="model: plain",
    ),
    block(
        name="residual from behind the norm",
        old="y, weights = self.attn(self.norm1(x), rope,",
        new="x = self.norm1(x)\n        y, weights = self.attn(x, rope,",
        who="who ports from BERT, which norms after the sum",
        promise="model: plain",
    ),
    block(
        name="layer scale of attention left out",
        old="drop_path(self.ls1(y), attn_mask)",
        new="drop_path(y, attn_mask)",
        who="who adds layer scale to the MLP's branch alone",
        promise="model: layer scale and registers",
    ),
    block(
        name="layer scales swapped",
        old="drop_path(self.ls1(y), attn_mask)",
        new="drop_path(self.ls2(y), attn_mask)",
        who="a slip that initial values can't show: both are 1e-5",
        promise="model: layer scale and registers",
    ),
    block(
        name="masks of the two branches swapped",
        old="attn_mask, mlp_mask = (None, None) if masks is None else masks",
        new="mlp_mask, attn_mask = (None, None) if masks is None else masks",
        who="who draws the masks in another order than they are used in",
        promise="step: adamw",
    ),
    block(
        name="stochastic depth of the sum",
        old="x = x + drop_path(self.ls1(y), attn_mask)",
        new="x = drop_path(x + self.ls1(y), attn_mask)",
        who="who drops behind the residual and loses the whole image",
        promise="step: adamw",
    ),
    Mutant(
        name="what stochastic depth keeps isn't scaled",
        file="vit_flax/drop_path.py",
        old="x * mask.astype(x.dtype)[:, None, None]",
        new="x * (mask > 0).astype(x.dtype)[:, None, None]",
        who="who follows the paper, which scales at test time, in training alone",
        promise="step: adamw",
    ),
    linear(
        name="biases of linear layers dropped",
        old="x = add(x, self.bias.get_value())",
        new="pass",
        who="who maps kernels and leaves biases at their initial zeros",
        promise="model: plain",
    ),
    Mutant(
        file="vit_flax/sums.py",
        name="a bias's gradient summed in bfloat16",
        old="return jnp.promote_types(x.dtype, jnp.float32)",
        new="return x.dtype",
        who="who adds the bias in the computation's dtype: the backward pass adds up all tokens in it",
        promise="noise: bias",
    ),
    Mutant(
        name="blocks in the order of their names as text",
        file="vit_flax/stack.py",
        old="for i, block in enumerate(blocks)\n",
        new="for i, block in sorted(enumerate(blocks), key=lambda pair: str(pair[0]))\n",
        who="who stacks a dict's entries sorted: 0, 1, 10, 2, ...",
        promise="model: eleven blocks, scanned",
    ),
    Mutant(
        name="blocks scanned from the last",
        file="vit_flax/stack.py",
        old="x, stacked)[0]",
        new="x, stacked, reverse=True)[0]",
        who="who confuses the direction of the forward scan with that of its gradient",
        promise="model: eleven blocks, scanned",
    ),
)
