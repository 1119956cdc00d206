"""Mistakes in what a step makes of gradients: clipping, schedule, update rules, decay, averages."""

from functools import partial

from parity_tests.mutants.mutant import Mutant
from parity_tests.mutants.table.training import HARD, SIGMOID

schedule = partial(Mutant, file="train/schedule.py", promise="step: adamw")
clip = partial(Mutant, file="train/optimizer/clip.py", promise="step: adamw")
adamw = partial(Mutant, file="train/optimizer/adamw.py", promise="step: adamw")
decay = partial(Mutant, file="train/optimizer/decay.py")
sgd = partial(Mutant, file="train/optimizer/sgd.py", promise="step: sgd")
muon = partial(Mutant, file="train/optimizer/muon.py", promise="step: muon")
step = partial(Mutant, file="train/step.py", promise="step: adamw")

ADAM, DECAY = "optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps),", "add_decay(config, peak),"

MUTANTS = (
    schedule(
        name="schedule one step ahead",
        old="t = step.astype(dtype)",
        new="t = step.astype(dtype) + 1",
        who="who counts steps from 1, or steps the scheduler first",
    ),
    schedule(
        name="schedule one step behind",
        old="t = step.astype(dtype)",
        new="t = jnp.maximum(step.astype(dtype) - 1, 0)",
        who="who reads the last step's rate",
    ),
    schedule(
        name="learning rate in float32",
        old="t = step.astype(dtype)",
        new="t = step.astype(jnp.float32)",
        who="optax's schedules, of an int32 step",
    ),
    schedule(
        name="cosine begins before warmup ends",
        old="(t - warmup_steps) / max(1, total_steps - warmup_steps)",
        new="t / max(1, total_steps)",
        who="who counts warmup as a part of the cosine, as timm's default does",
    ),
    schedule(
        name="cosine down to zero",
        old="final_fraction + (1 - final_fraction) * 0.5",
        new="0.5",
        who="who drops the lowest learning rate",
    ),
    clip(
        name="clip epsilon dropped",
        old="(global_norm(updates) + 1e-6)",
        new="global_norm(updates)",
        who="optax.clip_by_global_norm",
    ),
    clip(
        name="small gradients scaled up to the clipping norm",
        old="jnp.minimum(1.0, max_norm / (global_norm(updates) + 1e-6))",
        new="max_norm / (global_norm(updates) + 1e-6)",
        who="who normalises where clipping is meant",
        promise=HARD,
    ),
    clip(
        name="norms added up",
        old="jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))",
        new="sum(jnp.sqrt(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(grads))",
        who="who adds norms of parameters instead of their squares",
    ),
    adamw(
        name="decay coupled",
        old=f"{ADAM}\n        {DECAY}",
        new=f"{DECAY}\n        {ADAM}",
        who="torch.optim.Adam with weight_decay",
    ),
    adamw(
        name="epsilon inside the root",
        old="eps=config.eps)",
        new="eps=0.0, eps_root=config.eps)",
        who="who has TensorFlow's older optimizers in mind",
    ),
    adamw(
        name="optax's beta2 for the recipe's",
        old="b2=config.beta2, ",
        new="",
        who="who passes on one of the two betas",
    ),
    decay(
        name="decay on biases and norms",
        old="{path: decays(hub_name(path)) for path in params}",
        new="{path: True for path in params}",
        who="optax.adamw and torch.optim.AdamW without a mask",
        promise="step: adamw",
    ),
    decay(
        name="decay by number of axes",
        old="{path: decays(hub_name(path)) for path in params}",
        new="{path: x.ndim > 1 for path, x in params.items()}",
        who="who spares what has one axis: tokens and positions have three",
        promise="step: adamw",
    ),
    decay(
        name="decay times the rate where it is off it",
        old="config.weight_decay / peak",
        new="config.weight_decay",
        who="who runs big_vision's decay with torch's rule",
        promise=SIGMOID,
    ),
    Mutant(
        name="trust ratio on every parameter",
        file="train/optimizer/lamb.py",
        old="optax.masked(optax.scale_by_trust_ratio(), decay_mask) if config.weight_decay else optax.identity()",
        new="optax.scale_by_trust_ratio()",
        who="optax.lamb",
        promise="step: lamb",
    ),
    sgd(
        name="momentum dampened",
        old="optax.trace(config.beta1, config.nesterov)",
        new="optax.ema(config.beta1, debias=False)",
        who="who averages gradients where torch adds them up",
    ),
    sgd(
        name="sgd's decay behind its momentum",
        old="optax.chain(decay, momentum) if config.decay_times_peak else optax.chain(momentum, decay)",
        new="optax.chain(momentum, decay)",
        who="who takes AdamW's decoupling for torch.optim.SGD's rule",
    ),
    muon(
        name="muon's momentum without Nesterov",
        old="optax.trace(config.beta1, nesterov=True)",
        new="optax.trace(config.beta1)",
        who="who takes torch.optim.SGD's default",
    ),
    muon(
        name="muon of the head, too",
        old="hidden(hub_name(path))",
        new='hidden(hub_name(path)) or path == "head.kernel"',
        who="optax.contrib.muon, which takes every matrix",
    ),
    muon(
        name="muon's steps by their own scale",
        old="RMS * max(x.shape) ** 0.5",
        new="max(1.0, x.shape[1] / x.shape[0]) ** 0.5",
        who="torch.optim.Muon's default, whose rates are others",
    ),
    muon(
        name="four steps of Newton and Schulz",
        old="range(5)",
        new="range(4)",
        who="who saves a product",
    ),
    Mutant(
        name="layer-wise rates one layer off",
        file="train/optimizer/layers.py",
        old="decay ** (depth + 1 - layer(hub_name(path), depth))",
        new="decay ** (depth - layer(hub_name(path), depth))",
        who="who counts the head as the last block",
        promise=SIGMOID,
    ),
    step(
        name="EMA one step behind",
        old="self.average(state.ema, moved)",
        new="self.average(state.ema, trained)",
        who="who averages the parameters before their update",
    ),
    step(
        name="EMA's decay and rest swapped",
        old="decay * ema[path] + (1 - decay) * p",
        new="(1 - decay) * ema[path] + decay * p",
        who="who takes torch's BatchNorm momentum for a decay",
    ),
    step(
        name="EMA begins at zero",
        old="jax.tree.map(jnp.copy, params)",
        new="jax.tree.map(jnp.zeros_like, params)",
        who="optax.ema with debias=False",
    ),
)
