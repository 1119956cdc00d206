"""Configs that timm's layouts can hold, for hypothesis to draw."""

from hypothesis import strategies as st

from parity_tests.strategies import configs
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS

just = st.just


@st.composite
def timm_configs(draw: st.DrawFn) -> ViTConfig:
    distilled, pre_norm, bias = draw(st.sampled_from([False] * 3 + [True])), draw(st.booleans()), draw(st.booleans())
    pool = "class_dist" if distilled else draw(st.sampled_from(["class", "mean", "map"]))
    coded = [] if distilled else [("layer", 1e-5), *([] if pool == "map" else [("rms", 1e-5)])]
    norm, eps = draw(st.sampled_from([("layer", 1e-6), ("rms", 1e-6), *coded]))
    aim = (norm, eps) == ("rms", 1e-5)
    gated = ["swiglu"] if aim else ["mlp"] if distilled or pool == "map" or eps != 1e-6 else ["mlp", "swiglu"]
    mlp = draw(st.sampled_from(gated))
    registers = 0 if distilled else draw(st.sampled_from([0, 10]))
    prefix = draw(st.sampled_from(["none", "all"] if registers else ["none", "class"]))
    fixed = {
        "pool": pool,
        "patch_norm": aim or (eps == 1e-6 and draw(st.booleans())),
        "dist_token": distilled,
        "pre_norm": pre_norm,
        "patch_bias": not pre_norm,
        "proj_bias": bias,
        "mlp_bias": bias,
        "norm": norm,
        "norm_eps": eps,
        "mlp": mlp,
        "num_registers": registers,
        "pos_prefix": "class" if distilled else prefix,
        "head_bias": True,
        "pre_logits": 0,
        "pos_embed": "learned" if distilled else draw(st.sampled_from(["learned", "none"])),
        "qkv_bias": draw(st.sampled_from(["all", "none"])),
        "rope": "none",
    }
    needs_class = {"class_token": just(True)} if pool in ("class", "class_dist") else {}
    return draw(configs(**{name: just(value) for name, value in fixed.items()}, **needs_class))


@st.composite
def eva_configs(draw: st.DrawFn) -> ViTConfig:
    pool, pre_norm = draw(st.sampled_from(["class", "mean", "map"])), draw(st.booleans())
    mlp = draw(st.sampled_from(["mlp"] if pool == "map" else ["mlp", "swiglu"]))
    registers = 0 if pool == "map" else draw(st.sampled_from([0, 10]))
    limits = {name: st.sampled_from(values) for name, values in LAYOUTS["timm:eva"].limits.items()}
    fixed = {
        "pool": pool,
        "class_token": pool == "class" or (pool == "mean" and draw(st.booleans())),
        "num_registers": registers,
        "pos_prefix": draw(st.sampled_from(["none", "all"] if registers else ["none", "class"])),
        "pre_norm": pre_norm,
        "patch_bias": not pre_norm,
        "mlp": mlp,
        "act": "gelu" if mlp == "mlp" else "silu",
        "rope_round_periods": "none",
    }
    return draw(configs(**{**limits, **{name: just(value) for name, value in fixed.items()}}))


HELD: dict[str, st.SearchStrategy[ViTConfig]] = {"timm:vit": timm_configs(), "timm:eva": eva_configs()}
