"""Mistakes between the last block and the logits: pooling, final norm, heads."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

pool = partial(Mutant, file="vit_flax/pool.py")
vit = partial(Mutant, file="vit_flax/vit.py")

MUTANTS = (
    pool(
        name="prefix tokens pooled with the patches",
        old="patches = x[:, config.num_prefix :]",
        new="patches = x",
        who="who averages the whole sequence",
        promise="model: mean of patches, norm after",
    ),
    pool(
        name="registers pooled with the patches",
        old="patches = x[:, config.num_prefix :]",
        new="patches = x[:, int(config.class_token) :]",
        who="who leaves out the class token and forgets the registers",
        promise="model: registers, class position",
    ),
    pool(
        name="mean before class token",
        old="jnp.concatenate([x[:, 0], patches.mean(axis=1)], axis=-1)",
        new="jnp.concatenate([patches.mean(axis=1), x[:, 0]], axis=-1)",
        who="who builds DINOv2's classifier input in another order",
        promise="model: registers, class position",
    ),
    pool(
        name="last token for the class token",
        old="else x[:, 0]",
        new="else x[:, -1]",
        who="who ports from a decoder, which pools its last token",
        promise="model: plain",
    ),
    pool(
        name="attention pooling's residual from behind the norm",
        old="x = x + self.mlp(self.norm(x))",
        new="x = self.norm(x)\n        x = x + self.mlp(x)",
        who="who reads big_vision's `y = LayerNorm(x)` as `x = LayerNorm(x)`",
        promise="model: attention pooling",
    ),
    vit(
        name="norm before pooling",
        old="self.fc_norm(pool_tokens(self.config, x, self.attn_pool))",
        new="pool_tokens(self.config, self.fc_norm(x), self.attn_pool)",
        who="who takes fc_norm for norm: MAE's fine-tuned models pool first",
        promise="model: mean of patches, norm after",
    ),
    vit(
        name="norm after pooling",
        old="""x = keep("norm", self.norm(x))
        if self.attn_pool is not None and keep.wants("attn_pool.weights"):
            keep("attn_pool.weights", self.attn_pool.weights(x[:, self.config.num_prefix :]))
        x = keep("pooled", self.fc_norm(pool_tokens(self.config, x, self.attn_pool)))""",
        new="""keep("norm", self.norm(x))
        x = keep("pooled", self.norm(pool_tokens(self.config, x, self.attn_pool)))""",
        who="who takes norm for fc_norm: SimpleViT pools normed tokens",
        promise="model: sine-cosine",
    ),
    vit(
        name="class head alone of a distilled model",
        old="(self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2",
        new="self.head(x[:, 0])",
        who="who loads a distilled DeiT into a plain ViT",
        promise="model: distilled",
    ),
    vit(
        name="heads of the two tokens swapped",
        old="(self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2",
        new="(self.head(x[:, 1]) + self.head_dist(x[:, 0])) / 2",
        who="who prepends the distillation token last",
        promise="model: distilled",
    ),
    vit(
        name="no tanh behind pre_logits",
        old="jnp.tanh(self.pre_logits(x))",
        new="self.pre_logits(x)",
        who="who takes ViT's representation layer for a plain linear one",
        promise="model: features only",
    ),
)
