"""Mistakes in attention: the order of qkv, scale, softmax, rotary positions."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

attention = partial(Mutant, file="vit_flax/attention.py", promise="model: plain")
rope = partial(Mutant, file="vit_flax/rope.py")

MUTANTS = (
    attention(
        name="q and k swapped",
        old="return self.q_norm(q), self.k_norm(k), v",
        new="return self.q_norm(k), self.k_norm(q), v",
        who="who fuses three projections into one in another order",
    ),
    attention(
        name="k and v swapped",
        old="q, k, v = jnp.unstack(",
        new="q, v, k = jnp.unstack(",
        who="who fuses three projections into one in another order",
    ),
    attention(
        name="qkv read as heads, then parts",
        old="x.reshape(B, T, 3, self.num_heads, D // self.num_heads), axis=2",
        new="x.reshape(B, T, self.num_heads, 3, D // self.num_heads), axis=3",
        who="who comes from Megatron, where the heads come first: the shapes are the same",
    ),
    attention(
        name="channels of a head before heads",
        old="self.norm(x.reshape(B, T, D))",
        new="self.norm(x.swapaxes(2, 3).reshape(B, T, D))",
        who="who merges heads without moving them back first",
    ),
    attention(
        name="no head scale",
        old=" * q.shape[-1] ** -0.5",
        new="",
        who="who takes a kernel for one that scales by itself",
    ),
    attention(
        name="scale of the model's width",
        old="q.shape[-1] ** -0.5",
        new="(q.shape[-1] * q.shape[-2]) ** -0.5",
        who="who takes D for D / H",
    ),
    attention(
        name="double softmax",
        old="jax.nn.softmax(logits, axis=-1)",
        new="jax.nn.softmax(jax.nn.softmax(logits, axis=-1), axis=-1)",
        who="who gives a function that takes logits the weights",
    ),
    attention(
        name="softmax over the queries",
        old="jax.nn.softmax(logits, axis=-1)",
        new="jax.nn.softmax(logits, axis=-2)",
        who="who has logits as (keys, queries) in mind",
    ),
    attention(
        name="softmax in float32",
        old="jax.nn.softmax(logits, axis=-1)",
        new="jax.nn.softmax(logits.astype(jnp.float32), axis=-1)",
        who="jax.nn.dot_product_attention, whatever its inputs are",
    ),
    attention(
        name="attention logits in bfloat16",
        old=", preferred_element_type=wide)",
        new=")",
        who="who expects JAX's einsum and softmax to be wide inside, as torch's kernels are",
        promise="noise: attention",
    ),
    attention(
        name="v bias given to k",
        old="jnp.concatenate([q_bias, jnp.zeros_like(q_bias), v_bias])",
        new="jnp.concatenate([q_bias, v_bias, jnp.zeros_like(q_bias)])",
        who="who packs the two biases of BEiT and EVA one after the other",
        promise="model: q and v biases",
    ),
    attention(
        name="q norm and k norm left out",
        old="return self.q_norm(q), self.k_norm(k), v",
        new="return q, k, v",
        who="who ports the plain attention and meets the norms as unused weights",
        promise="model: qk norm",
    ),
    attention(
        name="one norm for q and k",
        old="return self.q_norm(q), self.k_norm(k), v",
        new="return self.q_norm(q), self.q_norm(k), v",
        who="a slip that shows only once the two have learned different weights",
        promise="model: qk norm",
    ),
    attention(
        name="norm before the projection left out",
        old="self.proj(self.norm(x.reshape(B, T, D)))",
        new="self.proj(x.reshape(B, T, D))",
        who="who overlooks BEiT-3's inner norms",
        promise="model: inner norms",
    ),
    attention(
        name="keys not rotated",
        old="q, k = rotate(self.rope, q, rope), rotate(self.rope, k, rope)",
        new="q = rotate(self.rope, q, rope)",
        who="who caches keys rotated in one place and not in the other",
        promise="model: dinov3",
    ),
    rope(
        name="halves for neighbours",
        old='"eva02": turn_neighbours',
        new='"eva02": turn_halves',
        who="who has GPT-NeoX's rotation for EVA-02's, which is GPT-J's",
        promise="model: eva02, qk norm",
    ),
    rope(
        name="rotated the other way",
        old="jnp.concatenate([-b, a], axis=-1)",
        new="jnp.concatenate([b, -a], axis=-1)",
        who="who exchanges sine's sign",
        promise="model: dinov3",
    ),
    rope(
        name="rotary table in float32",
        old="dtype = jnp.promote_types(like.dtype, jnp.float32)",
        new="dtype = jnp.float32",
        who="timm and transformers, in a float64 model too",
        promise="model: dinov3",
    ),
    rope(
        name="rotated in bfloat16",
        old="dtype = jnp.promote_types(like.dtype, jnp.float32)",
        new="dtype = like.dtype",
        who="who casts every constant to the computation's dtype",
        promise="noise: rotation",
    ),
)
