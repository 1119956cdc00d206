"""Mistakes in what a step does to a batch: draws, augmentation, targets, loss, parts."""

from functools import partial

from parity_tests.mutants.mutant import Mutant

mix = partial(Mutant, file="train/augment/mix.py", promise="step: adamw")
geometry = partial(Mutant, file="train/augment/geometry.py", promise="step: adamw")
draws = partial(Mutant, file="train/draws/step.py", promise="draws")
losses = partial(Mutant, file="train/losses.py")
accumulate = partial(Mutant, file="train/accumulate.py", promise="step: adamw")
HARD = "step: adamw, sigmoid loss of binary targets, one stochastic depth for all blocks"
SIGMOID = "step: sgd, nesterov, decay off the rate, sigmoid loss, layer decay, frozen parts"

MUTANTS = (
    mix(
        name="MixUp's lambda swapped in images",
        old="own * x + (1 - own) * partners",
        new="(1 - own) * x + own * partners",
        who="who weighs the partner by lambda",
    ),
    mix(
        name="MixUp's lambda swapped in targets",
        old="lam * smooth + (1 - lam) * smooth[draws.partner]",
        new="(1 - lam) * smooth + lam * smooth[draws.partner]",
        who="who weighs the partner by lambda",
    ),
    mix(
        name="CutMix's area not corrected",
        old="jnp.where(draws.use_cutmix, 1 - area / (H * W), draws.lam)",
        new="draws.lam",
        who="who forgets that the border cuts boxes off",
    ),
    mix(
        name="CutMix's box one row longer",
        old="(rows < bottom)",
        new="(rows <= bottom)",
        who="who takes the end for the last row",
    ),
    mix(
        name="smoothing spread over the other classes",
        old="smoothing / num_classes",
        new="smoothing / (num_classes - 1)",
        who="who spreads eps over K - 1 and still takes it all from the label",
    ),
    mix(
        name="smoothing added and not taken",
        old="(1 - smoothing) * jax.nn.one_hot",
        new="jax.nn.one_hot",
        who="who makes targets that sum to more than one",
    ),
    geometry(
        name="images flipped upside down",
        old="images[:, :, ::-1]",
        new="images[:, ::-1]",
        who="who moves from NCHW to NHWC and keeps the axis",
    ),
    geometry(
        name="padding repeats the border",
        old="padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))",
        new="padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode='edge')",
        who="who pads with anything but torchvision's zeros",
    ),
    Mutant(
        name="flip before shift",
        file="train/augment/apply.py",
        old="    x = shift(images, draws.corner, config.padding) if config.padding else images\n"
        "    x = flip(x, draws.flip)\n",
        new="    x = flip(images, draws.flip)\n"
        "    x = shift(x, draws.corner, config.padding) if config.padding else x\n",
        who="who takes the two for exchangeable",
        promise="step: adamw",
    ),
    Mutant(
        name="pixels over 256",
        file="train/augment/normalise.py",
        old="return (images.astype(dtype) / 255",
        new="return (images.astype(dtype) / 256",
        who="who counts the levels",
        promise="step: adamw",
    ),
    draws(
        name="CutMix's side as long as its area",
        old="jnp.floor(size * jnp.sqrt(1 - lam))",
        new="jnp.floor(size * (1 - lam))",
        who="who forgets the root",
    ),
    draws(
        name="CutMix keeps the box instead of the rest",
        old="jnp.floor(size * jnp.sqrt(1 - lam))",
        new="jnp.floor(size * jnp.sqrt(lam))",
        who="who takes lambda for the pasted share",
    ),
    draws(
        name="one rate of stochastic depth for all blocks",
        old="np.linspace(0.0, rate, depth)",
        new="np.full(depth, rate)",
        who="who forgets that the rate grows with depth",
    ),
    draws(
        name="masks of stochastic depth not divided",
        old="kept.astype(dtype) / jnp.asarray(keep, dtype)",
        new="kept.astype(dtype)",
        who="who forgets to scale what is kept",
    ),
    losses(
        name="cross-entropy averaged over classes, too",
        old="jax.nn.log_softmax(logits, axis=-1)).sum(-1).mean()",
        new="jax.nn.log_softmax(logits, axis=-1)).mean()",
        who="who averages everything; Adam hides it, but for clipping and epsilon",
        promise="step: adamw",
    ),
    losses(
        name="sigmoid loss summed over classes",
        old="jax.nn.log_sigmoid(-logits)).mean()",
        new="jax.nn.log_sigmoid(-logits)).sum(-1).mean()",
        who="who has big_vision's sum for timm's mean",
        promise=SIGMOID,
    ),
    losses(
        name="classes with the larger share alone counted whole",
        old="(targets > 0).astype",
        new="(targets > 0.5).astype",
        who="who rounds mixed targets where DeiT III takes both classes",
        promise=HARD,
    ),
    draws(
        name="one rate of stochastic depth, half of it",
        old="return np.full(depth, rate)",
        new="return np.full(depth, rate / 2)",
        who="who takes DeiT III's rate for the mean of a growing one",
    ),
    accumulate(
        name="accumulated gradients summed",
        old="return jax.tree.map(lambda x: x / parts, total)",
        new="return total",
        who="who forgets to divide by the number of parts",
    ),
    accumulate(
        name="masks of other images in accumulated parts",
        old="jnp.moveaxis(rows(jnp.moveaxis(masks, -1, 0)), 1, -1)",
        new="jnp.stack(jnp.split(masks, parts, axis=-1))",
        who="who cuts images by strides and masks by halves",
    ),
)
