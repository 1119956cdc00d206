"""open_clip: whole CLIPs with towers of its own and of timm's."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hypothesis import strategies as st

from parity_tests.families.base import Family, Saved
from parity_tests.pairs import randomise
from parity_tests.peers import float64_rotary_tables, import_torchvision
from parity_tests.real.base import Answer, float_is_double
from parity_tests.real.open_clip import answer, in_float64, make_tower
from parity_tests.strategies import configs
from vit_convert.files import open_tensors
from vit_convert.layouts import LAYOUTS
from vit_convert.presets import PRESETS

VISION: dict[str, Any] = dict(image_size=40, patch_size=8, layers=2, width=36, head_width=12, mlp_ratio=2.5)
TEXT: dict[str, Any] = dict(context_length=7, vocab_size=17, width=24, heads=2, layers=1)
CONFIG: dict[str, Any] = dict(
    image_size=40, patch_size=8, depth=2, dim=36, num_heads=3, mlp_dim=90, num_classes=11, head_bias=False
)
CLIP = dict(norm_eps=1e-5, pre_norm=True, patch_bias=False)
CLIPA = dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)
CLIPA |= dict(norm_kwargs={"eps": 1e-6}, act_kwargs={"approximate": "tanh"})
TEXT_NAMES = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text", "logit_scale")
CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"


def whole(model_cfg: Mapping[str, Any], custom: bool) -> torch.nn.Module:
    """Both towers, in float64."""
    import_torchvision()
    import open_clip

    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with in_float64():
        return kind(**model_cfg).eval()


def saver(
    vision: Mapping[str, Any], custom: bool, second_size: tuple[int, int], **model_cfg: Any
) -> Callable[[Path], Saved]:
    """Saves a whole model as open_clip's hub does; at another size it is as its factory makes it."""

    def save(folder: Path) -> Saved:
        from open_clip.model import resize_pos_embed

        cfg: dict[str, Any] = {"embed_dim": 11, "vision_cfg": vision, "text_cfg": TEXT, **model_cfg}
        model = whole(cfg, custom)
        randomise(model, seed=1)
        state = {name: tensor.float() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": cfg}))
        double = {name: tensor.double() for name, tensor in state.items()}
        model.load_state_dict(double)
        if custom:  # timm's tower resizes itself, behind loading
            other = whole(cfg, custom)
            other.load_state_dict(double)
            with float_is_double(), float64_rotary_tables():
                other.visual.set_input_size(second_size)  # type: ignore[operator]
        else:
            other = whole(cfg | {"vision_cfg": {**vision, "image_size": list(second_size)}}, custom)
            resize_pos_embed(double, other)
            other.load_state_dict(double)
        return Saved(folder, answer(model.visual), answer(other.visual))  # type: ignore[arg-type]

    return save


def load(folder: Path) -> Answer:
    """The visual tower that open_clip builds from the config that we wrote, loaded strictly."""
    file = open_tensors(folder)
    cfg = json.loads((folder / CONFIG_FILE).read_text())["model_cfg"]
    return answer(make_tower(cfg, {name: torch.tensor(file.read(name)) for name in file.specs}))


def own(name: str, vision: dict[str, Any], fields: dict[str, Any], layout: str = "open_clip:vit", **cfg: Any) -> Family:
    """One of open_clip's own towers in a CLIP."""
    size = (24, 56)
    save = saver(VISION | vision, custom=False, second_size=size, **cfg)
    return Family(name, "open_clip CLIP", layout, save, load, CONFIG | fields, beside=TEXT_NAMES, second_size=size)


def timms(name: str, architecture: str, layout: str, fields: dict[str, Any], **vision: Any) -> Family:
    """An architecture of timm's in a CustomTextCLIP, at its own size."""
    config = PRESETS[architecture].config
    vision = {"timm_model_name": architecture, "image_size": config.image_hw[0], **vision}
    size = (8 * config.patch_hw[0], 11 * config.patch_hw[1])
    save = saver(vision, custom=True, second_size=size)
    read = {**config.to_dict(), "num_classes": 11, **fields}
    return Family(name, "open_clip CustomTextCLIP", layout, save, load, read, beside=TEXT_NAMES, second_size=size)


FAMILIES = (
    own("CLIP", {}, CLIP),
    own(
        "CLIP of OpenAI, layer scale",
        {"ls_init_value": 0.1},
        CLIP | dict(act="quick_gelu", layer_scale=True),
        quick_gelu=True,
    ),
    own("averaged", {"pool_type": "avg"}, CLIP | dict(pool="mean")),
    own("CLIPA", CLIPA, dict(patch_bias=False, pool="mean", final_norm="pooled", act="gelu_tanh"), "open_clip:clipa"),
    timms(
        "no projection, as SigLIP",
        "test_vit2",
        "open_clip:timm",
        dict(num_classes=0),
        timm_pool="avg",
        timm_proj="none",
    ),
    timms(
        "a layer behind timm's", "test_vit", "open_clip:timm", dict(head_bias=False), timm_pool="", timm_proj="linear"
    ),
    timms("EVA-CLIP", "eva02_tiny_patch14_224", "open_clip:eva", {}, timm_pool="avg", timm_proj=None),
)


def architectures(*names: str) -> st.SearchStrategy[Any]:
    """Configs of timm's architectures, with a head of timm's, one of open_clip's, or none."""
    heads = st.sampled_from([dict(num_classes=0), dict(num_classes=14, head_bias=False), dict(num_classes=15)])
    return st.builds(
        lambda name, head: PRESETS[name].config.replace(**{"head_bias": True, **head}), st.sampled_from(names), heads
    )


def towers(layout: str) -> st.SearchStrategy[Any]:
    limits = {name: st.sampled_from(values) for name, values in LAYOUTS[layout].limits.items()}
    return configs(**{**limits, "num_classes": st.sampled_from([14, 15]), "head_bias": st.just(False)})


HELD = {
    "open_clip:vit": towers("open_clip:vit"),
    "open_clip:clipa": towers("open_clip:clipa"),
    "open_clip:timm": architectures("test_vit", "test_vit2", "test_vit4"),
    "open_clip:eva": architectures("eva02_tiny_patch14_224"),
}
